"""Bundles as earlier versions wrote them: each folder of `tests/data/bundles` is named after the commit that did."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support.clips import synthetic_clip

from qwen3_asr_onnx import TranscribeOptions, Transcriber
from qwen3_asr_onnx.bundle.files import Bundle
from qwen3_asr_onnx.bundle.manifest import FAMILY, AnswerGrammar

DATA = Path(__file__).parents[2] / "data"
BUNDLES = sorted((DATA / "bundles").iterdir())


@pytest.mark.parametrize("path", BUNDLES, ids=lambda path: path.name)
def test_it_is_read_and_writes_what_it_wrote(path: Path) -> None:
    opened = Bundle.open(path)
    assert opened.verify() == []
    assert (opened.manifest.family, opened.manifest.answer) == (FAMILY, AnswerGrammar())
    assert opened.manifest.variants["fp32"].needs == ()
    expected = json.loads((DATA / "tiny_bundle.json").read_text(encoding="utf-8"))
    options = TranscribeOptions(max_new_tokens=expected["max_new_tokens"])
    with Transcriber(path, "fp32", threads=1) as asr:
        for clip in expected["clips"]:
            assert list(asr.transcribe(synthetic_clip(clip["seconds"]), options).token_ids) == clip["token_ids"]
