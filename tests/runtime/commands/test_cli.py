from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import EntryPoint
from types import ModuleType

import numpy as np
import pytest

from qwen3_asr_onnx.audio.waiting import Abandoned, can_be_abandoned, is_waiting, undisturbed
from qwen3_asr_onnx.commands import cli, signals
from qwen3_asr_onnx.commands.command import Command
from qwen3_asr_onnx.errors import MissingExtra


def plug_in(monkeypatch: pytest.MonkeyPatch, **modules: Callable[[], object] | None) -> list[str]:
    """Offer verbs under the entry-point group; return the list that will hold the names of those loaded."""
    loaded: list[str] = []
    points = [EntryPoint(name, f"plug_{name}:COMMAND", cli.GROUP) for name in modules]
    real_import = importlib.import_module

    def import_module(name: str, package: str | None = None) -> ModuleType:
        if not name.startswith("plug_"):
            return real_import(name, package)
        verb = name.removeprefix("plug_")
        loaded.append(verb)
        make = modules[verb]
        if make is None:
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        module = ModuleType(name)
        module.COMMAND = make()  # type: ignore[attr-defined]
        return module

    monkeypatch.setattr("importlib.metadata.import_module", import_module)
    monkeypatch.setattr(cli, "entry_points", lambda group: points)
    return loaded


def command(name: str, run: Callable[[argparse.Namespace], int] = lambda args: 0) -> Command:
    return Command(name, f"help of {name} at 100 %%", lambda parser: parser.add_argument("what"), run)


def test_a_plugged_in_verb_runs_with_its_own_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def run(args: argparse.Namespace) -> int:
        seen.append(args.what)
        return 7

    loaded = plug_in(monkeypatch, export=lambda: command("export", run), bench=None)
    assert cli.main(["export", "this"]) == 7
    assert seen == ["this"]
    assert loaded == ["export"]


def test_built_in_verbs_load_no_plug_in_and_cannot_be_replaced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = plug_in(monkeypatch, export=None, transcribe=None)
    with pytest.raises(SystemExit) as caught:
        cli.main(["transcribe", "--help"])
    assert caught.value.code == 0
    assert "--output-dir" in capsys.readouterr().out
    assert loaded == []


@pytest.mark.parametrize("arguments", [["--help"], ["nonsense"], []])
def test_all_verbs_are_listed_even_those_that_cannot_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: Sequence[str]
) -> None:
    plug_in(monkeypatch, export=None, other=lambda: command("other"))
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    help_text = "".join(capsys.readouterr())
    if arguments:
        assert all(verb in help_text for verb in ("transcribe", "info", "export", "other"))
    if arguments == ["--help"]:
        assert "help of other at 100 %" in help_text
        assert "pip install 'qwen3-asr-onnx[export]'" in " ".join(help_text.split())
    assert caught.value.code == (0 if arguments == ["--help"] else 2)


def test_a_verb_whose_extra_is_missing_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def needs_torch(args: argparse.Namespace) -> int:
        raise ModuleNotFoundError("No module named 'psutil'", name="psutil")

    plug_in(monkeypatch, export=None, bench=lambda: command("bench", needs_torch), mine=None)
    assert cli.main(["export", "x"]) == 2
    assert "pip install 'qwen3-asr-onnx[export]'" in capsys.readouterr().err
    assert cli.main(["bench", "x"]) == 2
    assert "pip install 'qwen3-asr-onnx[eval]'" in capsys.readouterr().err
    assert cli.main(["mine", "x"]) == 2
    assert "No module named 'torch'" in capsys.readouterr().err


def test_a_missing_extra_named_by_the_verb_itself_is_passed_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(args: argparse.Namespace) -> int:
        raise MissingExtra("drawing needs matplotlib: pip install 'x[plot]'")

    plug_in(monkeypatch, bench=lambda: command("bench", refuse))
    assert cli.main(["bench", "x"]) == 2
    assert capsys.readouterr().err == "qwen3-asr-onnx: error: drawing needs matplotlib: pip install 'x[plot]'\n"


def test_a_failed_import_of_our_own_code_is_a_bug_and_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(args: argparse.Namespace) -> int:
        raise ImportError("cannot import name 'x'", name="qwen3_asr_onnx_export.trace")

    plug_in(monkeypatch, export=lambda: command("export", broken))
    with pytest.raises(ImportError, match="cannot import name"):
        cli.main(["export", "x"])


def test_a_plug_in_that_is_no_command_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch, mine=lambda: "not a command")
    with pytest.raises(TypeError, match="Command"):
        cli.main(["mine"])


def test_plugged_in_verbs_are_interrupted_alike(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(args: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    plug_in(monkeypatch, export=lambda: command("export", interrupt))
    assert cli.main(["export", "x"]) == 130
    assert capsys.readouterr().err == "qwen3-asr-onnx: interrupted\n"


def test_numpy_adds_nothing_to_what_a_verb_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def overflow(args: argparse.Namespace) -> int:
        assert np.isinf(np.full(1, 3e38, np.float32) * np.float32(10))
        raise OSError(errno.ENOSPC, "No space left on device", "variant.data")

    plug_in(monkeypatch, mine=lambda: command("mine", overflow))
    assert cli.main(["mine", "x"]) == 1
    assert capsys.readouterr().err == "qwen3-asr-onnx: error: variant.data: No space left on device\n"


def test_the_module_runs_like_the_command() -> None:
    process = subprocess.run(
        [sys.executable, "-m", "qwen3_asr_onnx", "--version"], capture_output=True, text=True, check=True
    )
    assert process.stdout.startswith("qwen3-asr-onnx ")


def test_handlers_are_as_before_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [signal.getsignal(number) for number in signals.ENDING]
    during: list[object] = []

    def look(args: argparse.Namespace) -> int:
        during.extend(signal.getsignal(number) for number in signals.ENDING)
        return 0

    plug_in(monkeypatch, mine=lambda: command("mine", look))
    assert cli.main(["mine", "x"]) == 0
    assert [signal.getsignal(number) for number in signals.ENDING] == before
    assert signal.SIG_DFL not in during


@pytest.mark.skipif(sys.platform == "win32", reason="raise_signal ends the process there")
@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_every_verb_cleans_up_and_ends_with_the_status_of_its_signal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, status: int
) -> None:
    cleaned = []

    def work(args: argparse.Namespace) -> int:
        try:
            signal.raise_signal(getattr(signal, name))
        finally:
            signal.raise_signal(signal.SIGTERM)  # a second one must not disturb the clean-up
            cleaned.append(True)
        return 0

    plug_in(monkeypatch, mine=lambda: command("mine", work))
    with python_s_own_ctrl_c():
        assert cli.main(["mine", "x"]) == status
    assert cleaned == [True]
    assert capsys.readouterr().err == "qwen3-asr-onnx: interrupted\n"


@pytest.mark.skipif(sys.platform == "win32", reason="raise_signal ends the process there")
def test_a_signal_that_somebody_swallowed_may_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(args: argparse.Namespace) -> int:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        return 0

    plug_in(monkeypatch, mine=lambda: command("mine", work))
    assert cli.main(["mine", "x"]) == 143


@pytest.mark.skipif(sys.platform == "win32", reason="raise_signal ends the process there")
def test_a_signal_waits_for_a_library_that_calls_us_back(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def work(args: argparse.Namespace) -> int:
        with undisturbed():
            signal.raise_signal(signal.SIGTERM)
            done.append("inside")
        done.append("behind")
        return 0

    plug_in(monkeypatch, mine=lambda: command("mine", work))
    assert cli.main(["mine", "x"]) == 143
    assert done == ["inside"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGHUP")
def test_a_signal_that_is_ignored_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(args: argparse.Namespace) -> int:
        with signals.first_signal_asks() as asked:
            signal.raise_signal(signal.SIGHUP)
        assert asked.number is None
        return 0

    plug_in(monkeypatch, mine=lambda: command("mine", work))
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        assert cli.main(["mine", "x"]) == 0
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@contextlib.contextmanager
def python_s_own_ctrl_c() -> Iterator[None]:
    """A test run in the background has Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_first_signal_asks_and_the_second_insists() -> None:
    with python_s_own_ctrl_c(), pytest.raises(KeyboardInterrupt), signals.first_signal_asks() as asked:  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        assert (asked.event.is_set(), asked.number) == (True, signal.SIGINT)
        signal.raise_signal(signal.SIGINT)


def test_what_waits_is_abandoned_at_once_and_what_works_is_not() -> None:
    with python_s_own_ctrl_c(), signals.first_signal_asks() as asked:
        with pytest.raises(Abandoned), can_be_abandoned():
            signal.raise_signal(signal.SIGINT)
        assert asked.event.is_set()
        assert not is_waiting()
