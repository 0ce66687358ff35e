"""What is alike in all verbs: their own, those of the workshops, and what they say to wrong usage."""

from __future__ import annotations

from argparse import ArgumentParser

import pytest

pytest.importorskip("jinja2", reason="needs the eval extra")
pytest.importorskip("onnx", reason="needs the quantize extra")

from qwen3_asr_onnx.commands import cli

VERBS = (
    "transcribe",
    "stream",
    "align",
    "get",
    "models",
    "info",
    "pull",
    "export",
    "quantize",
    "sweep",
    "eval",
    "report",
    "bench",
)
FILES = ("transcribe", "align", "pull", "quantize", "sweep", "eval", "report", "bench")
REPLACING = ("transcribe", "get", "export", "quantize", "eval")


def options_of(verb: str) -> dict[str, str]:
    """Return every option string of a verb -> where its value goes."""
    parser = ArgumentParser()
    (command,) = (command for command in cli._commands_for(verb) if command.name == verb)
    command.add_arguments(parser)
    return {option: action.dest for action in parser._actions for option in action.option_strings}


@pytest.mark.parametrize("verb", VERBS)
def test_the_same_thing_has_the_same_name_in_every_verb(verb: str) -> None:
    options = options_of(verb)
    assert options["-q"] == options["--quiet"] == "quiet"
    assert ("-o" in options) == (verb in FILES)
    assert ("--overwrite" in options) == (verb in REPLACING)
    assert not {"--clobber", "--output-folder", "--lang", "--silent"} & set(options)


@pytest.mark.parametrize("verb", VERBS)
def test_wrong_usage_is_told_in_one_line(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([verb, "a", "b", "c", "--no-such-option"])
    out, err = capsys.readouterr()
    assert (caught.value.code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("qwen3-asr-onnx: error: ")
    assert err.endswith(f"; see qwen3-asr-onnx {verb} --help\n")


def test_no_verb_at_all_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["nonsense"], ["--nonsense"]):
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        assert caught.value.code == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert err.endswith("; see qwen3-asr-onnx --help\n")
