"""The join of the workshops: what comes out is what export and quantize make one after the other."""

from __future__ import annotations

import importlib.metadata
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from tests.support.clips import synthetic_clip

from qwen3_asr_onnx.bundle import workshops
from qwen3_asr_onnx.bundle.workshops import make_variant
from qwen3_asr_onnx.errors import BundleError, MissingExtra, OptionsError

CHECKPOINT = Path(__file__).parents[2] / "data" / "mini-asr"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_package_registers_its_workshops() -> None:
    assert {point.name for point in importlib.metadata.entry_points(group=workshops.GROUP)} == {"export", "quantize"}


@pytest.mark.parametrize("value", ["no_such_package:WORKSHOP", None])
def test_what_is_not_installed_names_the_pip_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str | None
) -> None:
    points = [] if value is None else [EntryPoint("export", value, workshops.GROUP)]
    monkeypatch.setattr(workshops, "entry_points", lambda group: points)
    with pytest.raises(MissingExtra, match=r"pip install 'qwen3-asr-onnx\[get\]'"):
        make_variant(CHECKPOINT, tmp_path / "out", "int4")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_made_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(OptionsError, match="no recipe 'int5'"):
        make_variant(CHECKPOINT, out, "int5")
    clip = [synthetic_clip(1.0)]
    for keep, calibration in ((False, []), (True, []), (False, clip)):
        with pytest.raises(OptionsError, match="'int4-gptq' is calibrated"):
            make_variant(CHECKPOINT, out, "int4-gptq", keep_float32=keep, calibration=calibration)
    with pytest.raises(OptionsError, match="'int4' is not calibrated"):
        make_variant(CHECKPOINT, out, "int4", calibration=clip)
    with pytest.raises(BundleError, match=r"no config\.json"):
        make_variant(tmp_path, out, "int4")
    assert list(tmp_path.iterdir()) == []
