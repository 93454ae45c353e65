from __future__ import annotations

from ray_trash.terminal.text import rejected_by_kind


def rejected(path: str, reason: str = "unsupported_format", message: str = "") -> dict[str, str]:
    return {"path": path, "reason": reason, "message": message}


def test_rejected_files_are_counted_by_what_they_are():
    page = "the file is an HTML page; supported are JPEG"
    files = [
        *[rejected(f"a/{n}.jpg", message=page) for n in range(3)],
        *[rejected(f"{n}.MOV", message="the file is an MP4 or QuickTime video; supported are JPEG") for n in range(2)],
        rejected("a.jpg", "truncated", "the JPEG file ends before its picture does"),
        rejected("b", message="the file is a text file; supported are JPEG"),
    ]
    assert rejected_by_kind(files) == "7 rejected: 3 HTML page, 2 MP4 or QuickTime video, 1 truncated JPG, 1 text file"


def test_without_a_message_the_name_says_what_a_file_is():
    assert rejected_by_kind([rejected("a.heic"), rejected("b.heic")]) == "2 rejected: 2 HEIC"
