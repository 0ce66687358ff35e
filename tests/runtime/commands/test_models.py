from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from qwen3_asr_onnx.bundle import store as shelves
from qwen3_asr_onnx.bundle.choices import Origin
from qwen3_asr_onnx.commands import cli


@pytest.fixture
def two(store: Path, tiny_bundle: Path) -> Path:
    for name in ("one", "longer-name"):
        shutil.copytree(tiny_bundle, store / name)
    shelves.record("one", Origin("Qwen/One", "c" * 40, "int4"))
    return store


def test_models_are_listed_with_what_one_chooses_by(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models"]) == 0
    out, err = capsys.readouterr()
    size = f"{sum(path.stat().st_size for path in (two / 'one').iterdir()) / 1e6:,.1f}"
    assert out.splitlines()[1].split() == ["longer-name", "asr", size, "MB", "fp32", "-", "-"]
    assert out.splitlines()[0].split() == ["name", "kind", "size", "variants", "default", "from"]
    assert out.splitlines()[2].split("  ")[-2:] == ["default", "Qwen/One"]
    assert err == ""
    assert cli.main(["models", "list", "--json"]) == 0
    other, one = json.loads(capsys.readouterr().out)
    assert (other["name"], other["default"], other["source"]) == ("longer-name", False, None)
    assert (one["path"], one["default"], one["revision"]) == (str(two / "one"), True, "c" * 40)


def test_the_default_is_chosen_and_models_go(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "default", "longer-name"]) == 0
    assert "longer-name is the default model now" in capsys.readouterr().err
    assert shelves.default_name("asr") == "longer-name"
    assert cli.main(["models", "remove", "longer-name"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "longer-name is removed; " in err
    assert cli.main(["models", "remove", "one", "-q"]) == 0
    assert capsys.readouterr().err == ""
    assert cli.main(["models"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "get one: qwen3-asr-onnx get Qwen/Qwen3-ASR-0.6B" in err


def test_who_has_not_chosen_is_told_how(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (two.parent / "models.json").unlink()
    assert cli.main(["models"]) == 0
    assert capsys.readouterr().err.endswith(
        ": no model is the default; choose one: qwen3-asr-onnx models default NAME\n"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["default"], "models default needs the name of a model"),
        (["remove"], "models remove needs the name of a model"),
        (["list", "one"], "models list takes no name"),
        (["remove", "oen"], "oen: no such model; did you mean one?"),
        (["default", "../one"], "../one: no such model"),
        (["remove", "."], ".: no such model"),
    ],
)
def test_wrong_names_are_told(two: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    assert cli.main(["models", *arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert said in err
    assert len(shelves.entries()) == 2


def test_a_broken_model_does_not_break_the_list(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (two / "one" / "config.json").write_text("{", encoding="utf-8")
    assert cli.main(["models"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[2].split()[:2] == ["one", "broken"]
    assert "one is broken: " in err
    assert "models remove one" in err
