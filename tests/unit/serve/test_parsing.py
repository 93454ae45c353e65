"""Bodies as clients make them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ray_trash.serve.names import read_name
from tests.encoded import jpeg, smooth_photo
from tests.unit.serve.asking import JPEG, code_of, encoded, post
from tests.unit.serve.backends import GOOD, FakeBackend

PHOTO = b"\xfb\xff\xbe\x00"
"""Base64 of it is `+/++AA==`."""
LIST = json.dumps(encoded(GOOD))


def part(disposition: str, photo: bytes = GOOD) -> dict[str, Any]:
    """Make a request of one part whose headers are written as they are."""
    head = f"--x\r\nContent-Disposition: form-data; {disposition}\r\nContent-Type: image/jpeg\r\n\r\n"
    content = head.encode() + photo + b"\r\n--x--\r\n"
    return {"content": content, "headers": {"content-type": "multipart/form-data; boundary=x"}}


@pytest.mark.parametrize(
    "kind",
    [
        "image/jpg",
        "image/pjpeg",
        "image/heic",
        "image/avif",
        "image/*",
        "Image/JPEG; q=1",
        "application/octet-stream",
        "binary/octet-stream",
        "*/*",
        "",
        None,
    ],
)
def test_a_photo_is_read_by_content_whatever_its_type_says_or_leaves_open(backend: FakeBackend, kind: str | None):
    response = post(backend, content=GOOD, headers={} if kind is None else {"content-type": kind})
    assert (response.status_code, response.json()["results"][0]["label"]) == (200, "glass")


@pytest.mark.parametrize("kind", ["text/html", "application/pdf", "image/svg+xml", "video/mp4", "multipart/mixed"])
def test_a_type_that_says_it_is_something_else_is_refused_by_name(backend: FakeBackend, kind: str):
    response = post(backend, content=GOOD, headers={"content-type": kind})
    assert (response.status_code, code_of(response)) == (415, "unsupported_media_type")
    assert kind in response.json()["error"]["message"]


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain; charset=UTF-8"])
def test_what_curl_says_by_itself_of_a_body_hides_no_photo_and_no_json(backend: FakeBackend, kind: str):
    assert post(backend, content=LIST, headers={"content-type": kind}).status_code == 200
    photo = jpeg(smooth_photo())
    assert post(backend, content=photo, headers={"content-type": kind}).status_code == 422
    assert backend.asked[-1] == [photo]
    assert post(backend, content=b"images=text", headers={"content-type": kind}).status_code == 415


@pytest.mark.parametrize("kind", ["application/json", "text/json", "application/vnd.api+json", "", "text/plain"])
@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16"])
def test_json_is_read_with_a_byte_order_mark_in_utf_16_and_under_other_types(
    backend: FakeBackend, kind: str, codec: str
):
    response = post(backend, content=LIST.encode(codec), headers={"content-type": kind})
    assert (response.status_code, response.json()["results"][0]["label"]) == (200, "glass")


@pytest.mark.parametrize(
    "data",
    [
        "+/++AA==",
        "-_--AA==",
        "+/++AA",
        "-_--AA",
        "+/+\r\n+AA=\n=\n",
        "data:image/jpeg;base64,+/++AA==",
        "data:image/jpeg;name=a,b.jpg;base64,+/++AA==",
    ],
)
def test_base64_is_read_as_clients_make_it(backend: FakeBackend, data: str):
    assert post(backend, json={"images": [{"data": data}]}).status_code == 200
    assert backend.asked == [[PHOTO]]


@pytest.mark.parametrize("data", ["?", "A", "AAAA=AAA", "ä", "data:text/plain,hello", "\u202e", "a.jpg"])
def test_what_is_no_base64_is_still_an_error_of_that_photo(backend: FakeBackend, data: str):
    bad, good = post(backend, json={"images": [{"data": data}, *encoded(GOOD)["images"]]}).json()["results"]
    assert bad["error"] == {"code": "undecodable", "message": "the data is not base64"}
    assert good["status"] == "ok"


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('name="images"; filename="a b.jpg"', "a b.jpg"),
        ("NAME=images; FILENAME=a.jpg", "a.jpg"),
        ('name="images"; filename="ä.jpg"', "ä.jpg"),
        ('name="images"; filename="=?utf-8?B?w6QuanBn?="', "ä.jpg"),
        ('name="images"; filename="=?iso-8859-1?Q?=E4=20b.jpg?="', "ä b.jpg"),
        ("name=images; filename=\"=?utf-8?B?w6QuanBn?=\"; filename*=utf-8''%C3%A4.jpg", "ä.jpg"),
        ("name=\"images\"; filename*=UTF-8''%C3%A4%22.jpg", 'ä".jpg'),
        ("name=\"images\"; filename*=iso-8859-1'de'%E4.jpg", "ä.jpg"),
        ('name="images"; filename="%C3%A4%20b.jpg"', "ä b.jpg"),
        ('name="images"; filename="100%25%20b.jpg"', "100%25%20b.jpg"),
        ('name="images"; filename="%E4.jpg"', "%E4.jpg"),
        ('name="images"; filename="C:\\photos\\a.jpg"', "a.jpg"),
        ('name="images"; filename="a\\"b.jpg"', 'a"b.jpg'),
        ('name="images"; filename="=?nonsense?B?w6Q?="', "=?nonsense?B?w6Q?="),
        ('name="images"; filename=""', "image-0"),
        ('name="images[]"; filename="a.jpg"', "a.jpg"),
        ('name="images[0]"; filename="a.jpg"', "a.jpg"),
    ],
)
def test_a_field_and_its_file_name_are_read_as_old_and_new_clients_spell_them(
    backend: FakeBackend, disposition: str, name: str
):
    (result,) = post(backend, **part(disposition)).json()["results"]
    assert (result["status"], result["name"]) == ("ok", name)


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (part('name="file"; filename="a.jpg"'), "'file'"),
        (part('name="images"'), "give it a file name"),
        (part("name=\"images\"; filename*=nonsense''%E4.jpg"), "give it a file name"),
        ({"content": b"--x--\r\n", "headers": {"content-type": "multipart/form-data; boundary=x"}}, "no photos"),
        ({"content": b"", "headers": {"content-type": "multipart/form-data; boundary=x"}}, "no photos"),
        ({"content": b"--x\r\n", "headers": {"content-type": "multipart/form-data"}}, "names no boundary"),
        ({"content": b"", "headers": {"content-type": "application/json"}}, "not valid JSON"),
    ],
)
def test_a_body_that_holds_no_photo_is_told_why(backend: FakeBackend, request_: dict[str, Any], says: str):
    response = post(backend, **request_)
    assert (response.status_code, code_of(response)[:3]) in ((400, "bad"), (400, "no_"))
    assert says in response.json()["error"]["message"]


@pytest.mark.parametrize("name", ["ä.jpg", "%C3%A4.jpg", "=?utf-8?B?w6QuanBn?="])
def test_a_raw_photo_s_name_is_read_like_a_file_name(backend: FakeBackend, name: str):
    response = post(backend, content=GOOD, headers={**JPEG, "x-file-name": name.encode()})
    assert response.json()["results"][0]["name"] == "ä.jpg"


def test_a_name_made_to_be_slow_to_read_is_cut_first():
    assert len(read_name("=?utf-8?b?" * 100_000 + "?=")) == 1024


def test_a_body_that_says_it_is_not_compressed_is_read_and_one_that_is_not(backend: FakeBackend):
    for coding, status in (("", 200), ("identity", 200), ("gzip", 415), ("br", 415)):
        response = post(backend, content=GOOD, headers={**JPEG, "content-encoding": coding})
        assert response.status_code == status
