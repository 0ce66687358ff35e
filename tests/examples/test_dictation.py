"""The dictation app in examples/dictation, driven like a person would, on a screen that nobody sees."""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.support.clips import wav_bytes
from tests.support.programs import find

from qwen3_asr_onnx.audio.loading import load_audio

tkinter = pytest.importorskip("tkinter", reason="this Python was built without Tk")

pytestmark = pytest.mark.program("xvfb")

FOLDER = Path(__file__).parents[2] / "examples" / "dictation"
CLIP = Path(__file__).parents[1] / "data" / "mini-clips" / "en_1.flac"
SAID = "How is the weather in Rome Friday?"
WORKER = f"{sys.executable} -m qwen3_asr_onnx worker"


@pytest.fixture(scope="module")
def dictation() -> ModuleType:
    """The app as a module."""
    spec = importlib.util.spec_from_file_location("dictation", FOLDER / "dictation.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def display() -> Iterator[str]:
    """A screen of its own."""
    reading, writing = os.pipe()
    command = [str(find("xvfb")), "-displayfd", str(writing), "-screen", "0", "900x600x24", "-nolisten", "tcp"]
    server = subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.DEVNULL)
    os.close(writing)
    try:
        with os.fdopen(reading) as number:
            yield f":{number.readline().strip()}"
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture
def start(dictation: ModuleType, display: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Opens the window, with a worker that has the arguments; at the end it is closed, and the worker has ended."""
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    apps = []

    def start(**changes: Any) -> Any:
        defaults = {"model": None, "microphone": None, "input": None, "speed": 4.0, "dark": False, "worker": WORKER}
        apps.append(dictation.App(tkinter.Tk(), argparse.Namespace(**{**defaults, **changes})))
        return apps[-1]

    yield start
    for app in apps:
        app.close()
        if app.worker is not None:
            with app.worker.process as process:
                assert process.wait(10) == 0


def until(app: Any, is_so: Callable[[], object], seconds: float = 60.0) -> None:
    """Let the window live until something is so."""
    due = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < due, (app.state, app.status.cget("text"), app.text.get("1.0", "end"))
        app.root.update()
        time.sleep(0.01)


def is_played() -> bool:
    """Return whether the recordings have ended; the thread of one is named after its function."""
    return not any(thread.name.endswith("(play)") for thread in threading.enumerate())


def shown(app: Any) -> str:
    return str(app.text.get("1.0", "end-1c"))


def tentative(app: Any) -> str:
    ranges = app.text.tag_ranges("tentative")
    return str(app.text.get(ranges[0], ranges[-1])) if ranges else ""


def test_it_is_short_and_has_no_model_in_it() -> None:
    text = (FOLDER / "dictation.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 250
    assert not [line for line in text.splitlines() if "import" in line and "qwen3" in line.partition("#")[0]]
    assert len((FOLDER / "README.md").read_text(encoding="utf-8").splitlines()) <= 40


def test_what_is_said_while_the_button_or_the_key_is_held_is_there(
    start: Callable[..., Any], mini_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "en.wav").write_bytes(wav_bytes(load_audio(CLIP)))
    app = start(model=str(mini_bundle), input=str(tmp_path / "en.wav"), dark=True)
    assert "being loaded" in app.status.cget("text")
    app.button.event_generate("<Button-1>")  # too early: nothing happens
    until(app, lambda: app.state == "ready")
    assert "English" in app.language.cget("values")
    app.language.set("English")

    app.button.event_generate("<Button-1>")
    assert app.button.cget("text").startswith("Listening")
    until(app, lambda: app.level.coords(app.bar)[2] > 0.3 * app.level.winfo_width())
    until(app, lambda: tentative(app))
    assert shown(app).endswith(tentative(app))
    until(app, is_played)
    app.button.event_generate("<ButtonRelease-1>")
    until(app, lambda: app.state == "ready")
    assert shown(app) == SAID
    assert tentative(app) == ""
    assert app.root.clipboard_get() == SAID
    assert app.level.coords(app.bar)[2] == 0

    app.copies.set(False)
    app.root.clipboard_clear()
    app.root.focus_force()
    app.root.event_generate("<F9>")
    for _ in range(3):  # a key that is held repeats
        app.root.event_generate("<KeyRelease-F9>")
        app.root.event_generate("<F9>")
    until(app, lambda: len(shown(app)) > len(SAID) + 20)
    app.root.event_generate("<KeyRelease-F9>")
    until(app, lambda: app.state == "ready")
    assert shown(app).startswith(f"{SAID} How is the")

    with app.worker.process as process:
        process.kill()
        until(app, lambda: "was started again" in app.status.cget("text"))
    until(app, lambda: app.state == "ready")
    assert shown(app).startswith(SAID)
    app.toggle()
    assert app.state == "listening"
    app.toggle()
    until(app, lambda: app.state == "ready")


def test_what_is_typed_elsewhere(
    start: Callable[..., Any], mini_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "en.wav").write_bytes(wav_bytes(load_audio(CLIP)))
    tool = tmp_path / "xdotool"
    tool.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/typed\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    app = start(model=str(mini_bundle), input=str(tmp_path / "en.wav"))
    app.types.set(True)
    monkeypatch.setattr(app.root, "focus_displayof", lambda: None)  # another window has the keyboard
    until(app, lambda: app.state == "ready")
    app.toggle()
    until(app, is_played)
    app.toggle()
    until(app, lambda: app.state == "ready")
    assert (tmp_path / "typed").read_text() == f"type -- {SAID}\n"


def test_what_is_missing_is_said_in_the_window(
    start: Callable[..., Any], mini_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    app = start(worker=str(tmp_path / "no-such-program"))
    assert app.button.cget("text") == "Try again"
    assert "no-such-program" in app.status.cget("text")
    assert "Typing elsewhere needs xdotool" in str([part.cget("text") for part in all_of(app.root, "TCheckbutton")])

    app = start(model=str(tmp_path / "none"))
    until(app, lambda: app.state == "down")
    assert "none" in app.status.cget("text")
    old = app.worker.process
    app.args.model = str(mini_bundle)
    app.press()
    until(app, lambda: app.state == "ready")
    with old:
        assert old.wait(10) == 0

    monkeypatch.setitem(sys.modules, "sounddevice", None)
    app.press()
    assert app.state == "ready"
    assert "qwen3-asr-onnx[mic]" in app.status.cget("text")


def all_of(widget: Any, kind: str) -> list[Any]:
    found = [widget] if widget.winfo_class() == kind else []
    return found + [one for child in widget.winfo_children() for one in all_of(child, kind)]
