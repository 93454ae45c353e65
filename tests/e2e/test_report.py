"""A report in a real browser, from its file: it asks nobody, fits a phone, and is read by keyboard."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from ray_trash.report.run import write_report
from ray_trash.storage import Storage
from tests.unit.report.folders import make_run

FITS = "document.documentElement.scrollWidth <= window.innerWidth"
TOLD = "document.activeElement.getAttribute('aria-label') || document.activeElement.textContent"


def look(browser: Browser, file: Path, width: int, scheme: Literal["light", "dark"]) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    page = context.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(file.as_uri())
    assert page.evaluate(FITS)
    assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    assert complaints == []
    assert Axe().run(page).generate_snapshot() == ""
    assert {url.partition(":")[0] for url in asked} <= {"file", "data"}
    reached = set()
    for _ in range(page.locator("[role=region]").count() + 20):
        page.keyboard.press("Tab")
        reached.add(page.evaluate(TOLD))
    assert {"Confusion matrix", "Class by class", "Every setting"} <= reached
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 24, 28)"}[scheme]
    context.close()


def test_a_report_opens_offline_on_every_screen_and_every_part_of_it_is_reached_by_keyboard(
    browser: Browser, tmp_path: Path
) -> None:
    run = make_run(tmp_path)
    write_report(Storage.at(run))
    look(browser, run / "report.html", 1200, "light")
    look(browser, run / "report.html", 390, "dark")
