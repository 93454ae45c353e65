"""A command that says nothing for long says at least that it is being loaded; one that has spoken is left alone."""

from __future__ import annotations

import time

import pytest

from ray_trash.terminal import say
from ray_trash.terminal.say import Terminal, breaking_silence
from ray_trash.terminal.streams import Stderr

SILENCE_S = 0.05


@pytest.fixture(autouse=True)
def nothing_said_and_little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stderr, "has_written", False)
    monkeypatch.setattr(say, "SILENCE_S", SILENCE_S)


def test_silence_is_broken_once(capsys: pytest.CaptureFixture[str]) -> None:
    with breaking_silence(Terminal.stderr(), "loading"):
        time.sleep(10 * SILENCE_S)
    assert capsys.readouterr().err == "loading\n"


def test_what_has_been_said_already_is_enough(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal.stderr()
    with breaking_silence(terminal, "loading"):
        terminal.say("reading 3 photos")
        time.sleep(10 * SILENCE_S)
    assert capsys.readouterr().err == "reading 3 photos\n"


def test_what_ends_soon_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with breaking_silence(Terminal.stderr(), "loading"):
        pass
    time.sleep(4 * SILENCE_S)
    assert capsys.readouterr().err == ""
