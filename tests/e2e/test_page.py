"""The pages in a real browser, served by the real gateway; only who computes is made up."""

from __future__ import annotations

import asyncio
import io
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, FilePayload, Page, expect

from ray_trash.config import ServeConfig
from ray_trash.serve.contract import ModelCard, Scored, ServeError, ShadowState
from ray_trash.serve.gateway import Gateway
from ray_trash.serve.key import Keys
from tests.e2e.command import wait_until
from tests.encoded import encode, smooth_photo

KEY = "a-key-of-the-test"
CARD = ModelCard(
    id="3f9a1c2e",
    classes=("cardboard", "glass", "metal", "paper", "plastic", "trash"),
    engine="made up",
    preprocessing={},
    thresholds={},
    temperature=1.0,
    target_error=0.05,
    answer_shares={},
    metrics={},
)
MAP = encode(smooth_photo(48, 48), "PNG")
SURE, UNSURE = (0.012, 0.931, 0.021, 0.004, 0.03, 0.002), (0.05, 0.21, 0.09, 0.4, 0.15, 0.1)


class Backend:
    """Answers "glass" to a JPEG, "not sure" to a PNG, and is busy as often as it is told."""

    def __init__(self) -> None:
        self.busy = 0
        self.batches: list[int] = []
        self.explained: list[bool] = []

    async def score(self, photos: Sequence[bytes], *, timeout_s: float, explain: bool = False) -> Scored:
        if self.busy > 0:
            self.busy -= 1
            raise ServeError(503, "busy", "come again", retry_after_s=1)
        self.batches.append(len(photos))
        self.explained.append(explain)
        unsure = np.array([photo.startswith(b"\x89PNG") for photo in photos], np.bool_)
        bad = {n for n, photo in enumerate(photos) if not photo.startswith((b"\xff\xd8", b"\x89PNG"))}
        rows = np.array([UNSURE if each else SURE for each in unsure], np.float32)
        maps = {n: MAP for n in range(len(photos)) if explain and n not in bad}
        return Scored(CARD, rows, unsure, dict.fromkeys(bad, ("unsupported_format", "not a photo")), maps=maps)

    async def card(self) -> ModelCard | None:
        return CARD

    async def description(self) -> str | None:
        return "# a model"

    async def swap_state(self) -> Mapping[str, Any]:
        return {}

    def exchanges(self) -> Mapping[str, int]:
        return {}

    async def shadow(self) -> ShadowState:
        return ShadowState()

    async def score_shadow(self, photos: Sequence[bytes], *, timeout_s: float) -> Scored:
        return await self.score(photos, timeout_s=timeout_s)

    async def promote(self) -> ModelCard:
        return await self.roll_back()

    async def roll_back(self) -> ModelCard:
        raise ServeError(409, "no_model_before", "there is none")


@contextmanager
def serving(backend: Backend, *, api_key: str | None = None, **settings: Any) -> Iterator[str]:
    application = Gateway(backend, ServeConfig(**settings), keys=Keys(api_key)).application()
    server = uvicorn.Server(uvicorn.Config(application, port=0, log_level="error", ws="none"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive(), timeout_s=20, what="the server")
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=20)


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Backend, str]]:
    """A server without a key for the whole module, and who computes for it."""
    backend = Backend()
    with serving(backend) as origin:
        yield backend, origin


@pytest.fixture
def backend(shared: tuple[Backend, str]) -> Backend:
    backend, _ = shared
    backend.busy, backend.batches, backend.explained = 0, [], []
    return backend


@pytest.fixture
def origin(shared: tuple[Backend, str], backend: Backend) -> str:
    return shared[1]


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that may ask its own server only, and neither complain nor ask the user."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    page = context.new_page()
    page.set_default_timeout(30_000)
    expect.set_options(timeout=30_000)
    asked, complaints = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.on("dialog", lambda dialog: dialog.dismiss())
    yield page
    own = re.match(r"http://[^/]+/", page.url)
    assert own is not None
    assert [url for url in asked if not url.startswith((own[0], f"blob:{own[0]}"))] == []
    # The browser itself writes a line for each answer that is not 200, and for each that does not come.
    assert [
        text for text in complaints if not re.search(r"status of (4\d\d|50[34])|ERR_CONNECTION_REFUSED", text)
    ] == []
    context.close()


def photo(name: str, kind: str = "JPEG", *, side: int = 64) -> FilePayload:
    ramp = np.linspace(0, 1, side)
    shape = 0.5 + 0.5 * np.sin(9 * np.hypot(ramp[:, None] - 0.5, ramp[None] - 0.4))
    colours = shape[..., None] * np.array([120, 210, 190]) + 30
    buffer = io.BytesIO()
    Image.fromarray(colours.astype(np.uint8)).save(buffer, kind)
    return {"name": name, "mimeType": f"image/{kind.lower()}", "buffer": buffer.getvalue()}


def text_file(name: str) -> FilePayload:
    return {"name": name, "mimeType": "image/jpeg", "buffer": b"this is only text"}


def hand_over(page: Page, event: str, *files: FilePayload) -> None:
    """Drop or paste files, as the browser tells a page of it."""
    page.evaluate(
        """([event, files]) => {
            const transfer = new DataTransfer();
            for (const { name, mimeType, bytes } of files) {
                transfer.items.add(new File([new Uint8Array(bytes)], name, { type: mimeType }));
            }
            const options = { bubbles: true, cancelable: true, dataTransfer: transfer, clipboardData: transfer };
            const made = event === "paste" ? new ClipboardEvent(event, options) : new DragEvent(event, options);
            document.getElementById("zone").dispatchEvent(made);
        }""",
        [event, [{**file, "buffer": None, "bytes": list(file["buffer"])} for file in files]],
    )


def test_chosen_photos_get_a_label_not_sure_or_an_error_in_words(page: Page, origin: str) -> None:
    page.goto(origin)
    expect(page.locator("#classes li")).to_have_text(list(CARD.classes))
    expect(page.locator("footer")).to_contain_text(CARD.id)
    expect(page.locator("footer")).to_contain_text("wrong in more than 5% of its answers")
    page.locator("#files").set_input_files([photo("a.jpg"), photo("b.png", "PNG"), text_file("c.jpg")])
    good, unsure, bad = (page.locator(".card").nth(n) for n in range(3))
    expect(good.locator(".verdict")).to_have_text("glass 93% sure")
    expect(good.locator(".bars .class")).to_have_text(["glass", "plastic", "metal", "cardboard", "paper", "trash"])
    expect(good.locator(".bars .share")).to_have_text(["93%", "3%", "2%", "1%", "0.4%", "0.2%"])
    filled = good.locator(".track > span").evaluate_all(
        "bars => bars.map(bar => bar.getBoundingClientRect().width / bar.parentElement.getBoundingClientRect().width)"
    )
    assert filled == pytest.approx(sorted(SURE, reverse=True), abs=0.01)
    expect(unsure).to_contain_text("Not sure")
    expect(unsure).to_contain_text("Best guess: paper, 40%")
    expect(bad).to_contain_text("This is not a photo the model can open")
    expect(bad.locator("img")).to_have_count(0)
    expect(page.get_by_role("status")).to_have_text("3 photos: 1 glass, 1 not sure, 1 failed.")
    assert good.locator("img").evaluate("image => image.complete && image.naturalWidth === 64")


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_photos_are_dropped_and_pasted(page: Page, origin: str, event: str) -> None:
    page.goto(origin)
    hand_over(page, event, photo("a.jpg"), photo("b.jpg"))
    expect(page.locator(".verdict strong")).to_have_text(["glass", "glass"])
    expect(page.get_by_role("status")).to_have_text("2 photos: 2 glass.")


def test_a_photo_is_chosen_and_cleared_with_the_keyboard_alone(page: Page, origin: str) -> None:
    # From here on choosers go to the test; `expect_file_chooser` alone would ask for them as late as the key comes.
    page.on("filechooser", lambda _: None)
    page.goto(origin)
    for key in ("Enter", "Space"):
        page.evaluate("document.activeElement.blur()")
        while page.evaluate("document.activeElement.id") != "zone":
            page.keyboard.press("Tab")
        assert page.locator("#zone").evaluate("zone => getComputedStyle(zone).outlineStyle") == "solid"
        with page.expect_file_chooser() as chosen:
            page.keyboard.press(key)
        chosen.value.set_files([photo("a.jpg")])
        expect(page.get_by_role("status")).to_have_text("a.jpg: glass, 93%.")
        page.locator("#zone").focus()
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "clear"
        page.keyboard.press("Enter")
        expect(page.locator(".card")).to_have_count(0)


def test_maps_are_asked_for_with_the_keyboard_for_photos_that_are_there_and_for_new_ones(
    page: Page, backend: Backend
) -> None:
    with serving(backend, explain=True) as origin:
        page.goto(origin)
        page.locator("#files").set_input_files([photo("a.jpg"), text_file("c.jpg")])
        expect(page.get_by_role("status")).to_have_text("2 photos: 1 glass, 1 failed.")
        expect(page.locator(".map")).to_have_count(0)
        toggle = page.get_by_role("checkbox", name="Show what the model looked at")
        expect(toggle).to_have_accessible_description("Warm colours speak for the answer. It takes longer.")
        while page.evaluate("document.activeElement.id") != "explain":
            page.keyboard.press("Tab")
        assert toggle.evaluate("box => getComputedStyle(box).outlineStyle") == "solid"
        page.keyboard.press("Space")
        drawn = page.get_by_role("img", name="a.jpg: what speaks for glass, in warm colours")
        expect(drawn).to_be_visible()
        assert drawn.evaluate("image => image.complete && image.naturalWidth") == 48
        own, beside = (page.locator(f".card {which}").first.bounding_box() for which in ("img:not(.map)", ".map"))
        assert own is not None
        assert beside is not None
        assert own["x"] + own["width"] <= beside["x"] + 1
        page.locator("#files").set_input_files([photo("b.png", "PNG")])
        expect(page.locator(".map")).to_have_count(2)
        expect(page.get_by_role("status")).to_have_text("3 photos: 1 not sure, 1 glass, 1 failed.")
        # What was refused is not sent again, and what has its map neither.
        assert (backend.batches, backend.explained) == ([2, 1, 1], [False, True, True])
        toggle.focus()
        page.keyboard.press("Space")
        expect(drawn).to_be_hidden()
        page.set_viewport_size({"width": 360, "height": 700})
        page.keyboard.press("Space")
        expect(drawn).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        assert len(backend.batches) == 3


def test_a_server_that_draws_no_maps_offers_none(page: Page, origin: str) -> None:
    page.goto(origin)
    expect(page.locator("#classes li")).to_have_count(len(CARD.classes))
    expect(page.get_by_role("checkbox")).to_have_count(0)


def test_a_hostile_file_name_is_text(page: Page, origin: str) -> None:
    name = "<img src=x onerror=alert(1)>.jpg"
    page.goto(origin)
    page.locator("#files").set_input_files([photo(name)])
    expect(page.locator(".card .verdict strong")).to_have_text("glass")
    expect(page.locator(".card .name")).to_have_text(name)
    expect(page.get_by_role("status")).to_contain_text(name)
    assert page.locator("img[src=x]").count() == 0


def test_a_server_with_a_key_is_given_it_and_told_again_in_the_same_tab(page: Page, backend: Backend) -> None:
    with serving(backend, api_key=KEY) as origin:
        page.goto(origin)
        field = page.get_by_label("API key")
        expect(field).to_be_focused()
        assert field.get_attribute("type") == "password"
        page.locator("#files").set_input_files([photo("a.jpg")])
        expect(page.locator(".card")).to_contain_text("Waiting")
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_have_text("The server did not accept this key.")
        field.fill(KEY)
        page.keyboard.press("Enter")
        expect(page.locator(".card .verdict strong")).to_have_text("glass")
        expect(field).to_be_hidden()
        assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
        page.reload()
        expect(page.locator("#classes li")).to_have_count(len(CARD.classes))
        expect(field).to_be_hidden()


def test_a_busy_server_is_asked_again(page: Page, origin: str, backend: Backend) -> None:
    page.goto(origin)
    backend.busy = 2
    page.locator("#files").set_input_files([photo("a.jpg")])
    expect(page.get_by_role("status")).to_contain_text("busy. Trying again in 1 second")
    expect(page.locator(".card .verdict strong")).to_have_text("glass")
    assert (backend.busy, backend.batches) == (0, [1])


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (503, "The server is busy."),
        (429, "The server is busy."),
        (408, "Sending takes too long."),
        (413, "This is more than the server takes at once."),
        (504, "The server takes too long."),
    ],
)
def test_a_server_to_which_photos_are_too_many_at_once_is_sent_fewer(
    page: Page, origin: str, backend: Backend, status: int, says: str
) -> None:
    page.goto(origin)
    page.route("**/v1/score", lambda route: route.fulfill(status=status, body="{}"), times=1)
    page.locator("#files").set_input_files([photo(f"{n}.jpg") for n in range(4)])
    expect(page.get_by_role("status")).to_have_text(f"{says} Trying again with fewer photos in 1 second …")
    expect(page.get_by_role("status")).to_have_text("4 photos: 4 glass.")
    assert backend.batches == [2, 2]


@pytest.mark.parametrize("path", ["/trash", "/trash/", "/trash/docs", "/trash/docs/", "/docs/"])
def test_below_the_prefix_of_a_proxy_a_page_is_whole_with_and_without_its_slash(
    page: Page, backend: Backend, path: str
) -> None:
    with serving(backend, root_path="/trash") as origin:
        page.goto(f"{origin}{path}")
        if "docs" in path:
            expect(page.locator(".opblock").first).to_be_visible()
            return
        expect(page.locator("#classes li")).to_have_count(len(CARD.classes))
        page.locator("#files").set_input_files([photo("a.jpg")])
        expect(page.get_by_role("status")).to_have_text("a.jpg: glass, 93%.")
        page.get_by_role("link", name="API").click()
        expect(page.locator(".opblock").first).to_be_visible()


def test_what_is_cleared_while_it_waits_is_not_answered_later(page: Page, origin: str, backend: Backend) -> None:
    page.goto(origin)
    backend.busy = 1
    page.locator("#files").set_input_files([photo("a.jpg"), photo("b.jpg")])
    expect(page.get_by_role("status")).to_contain_text("Trying again")
    page.get_by_role("button", name="Clear").click()
    page.locator("#files").set_input_files([photo("c.jpg")])
    expect(page.get_by_role("status")).to_have_text("c.jpg: glass, 93%.")
    expect(page.locator(".card")).to_have_count(1)
    assert backend.batches == [1]


def test_a_server_that_is_away_is_told_in_words_and_asked_again_on_request(page: Page, origin: str) -> None:
    page.goto(origin)
    expect(page.locator("#classes li")).to_have_count(len(CARD.classes))
    page.route("**/v1/score", lambda route: route.abort("connectionrefused"))
    page.locator("#files").set_input_files([photo("a.jpg")])
    expect(page.locator(".card")).to_contain_text("The server cannot be reached")
    page.unroute("**/v1/score")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".card .verdict strong")).to_have_text("glass")
    expect(page.get_by_role("button", name="Try again")).to_be_hidden()


def test_requests_keep_to_the_limits_of_the_server(page: Page, backend: Backend) -> None:
    with serving(backend, max_batch_images=2, max_body_mib=0.1) as origin:
        page.goto(origin)
        big = text_file("big.jpg")
        big["buffer"] = bytes(200_000)
        files = [photo(f"{n}.jpg") for n in range(5)]
        page.locator("#files").set_input_files([*files[:3], big, *files[3:]])
        expect(page.get_by_role("status")).to_have_text("6 photos: 5 glass, 1 failed.")
        expect(page.locator(".card").nth(3)).to_contain_text("larger than the server takes")
    assert backend.batches == [2, 2, 1]


@pytest.mark.parametrize("path", ["", "/docs"])
def test_a_phone_does_not_scroll_sideways(page: Page, origin: str, path: str) -> None:
    page.set_viewport_size({"width": 360, "height": 700})
    page.goto(origin + path)
    if path == "":
        long_name = "a-name-without-a-single-space-" * 8 + ".jpg"
        page.locator("#files").set_input_files([photo(long_name), photo("b.png", "PNG"), text_file("c.jpg")])
        expect(page.locator(".card[data-state=ok]")).to_have_count(1)
    else:
        expect(page.locator(".opblock").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 360


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_that_keeps_anyone_from_using_the_page(
    page: Page, origin: str, scheme: Literal["light", "dark"]
) -> None:
    page.emulate_media(color_scheme=scheme)
    page.goto(origin)
    assert Axe().run(page).generate_snapshot() == ""
    page.locator("#files").set_input_files([photo("a.jpg"), photo("b.png", "PNG"), text_file("c.jpg")])
    expect(page.get_by_role("status")).to_have_text(re.compile("^3 photos: "))
    assert Axe().run(page).generate_snapshot() == ""


def test_the_documentation_shows_every_route_and_schema_and_sends_a_request(page: Page, origin: str) -> None:
    page.goto(f"{origin}/docs")
    expect(page.locator(".opblock").first).to_be_visible()
    described = page.evaluate("fetch('openapi.json').then(answer => answer.json())")
    assert set(page.locator(".opblock-summary-path").all_inner_texts()) == set(described["paths"])
    assert set(page.locator(".json-schema-2020-12__title").all_inner_texts()) == set(described["components"]["schemas"])
    expect(page.locator(".info")).to_contain_text("curl -F images=@a.jpg -F images=@b.jpg")
    score = page.locator(".opblock", has_text="/v1/score")
    score.locator(".opblock-summary").click()
    for text in ("multipart/form-data", "application/json", "image/jpeg", "413"):
        expect(score).to_contain_text(text)
    score.get_by_role("button", name="Try it out").click()
    score.locator(".opblock-section-request-body select").first.select_option("image/jpeg")
    score.locator("input[type=file]").set_input_files([photo("a.jpg")])
    score.get_by_role("button", name="Execute").click()
    expect(score.locator(".live-responses-table")).to_contain_text('"label": "glass"')
    for text in (f"{origin}/v1/score", "Content-Type: image/jpeg", "--data-binary '@a.jpg'"):
        expect(score.locator(".curl-command")).to_contain_text(text)
