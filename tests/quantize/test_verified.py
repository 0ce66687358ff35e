"""Verified variants of the miniature write the text of their better weights, token for token; streams too."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from tests.conftest import DATA

pytest.importorskip("onnx_ir", reason="needs the quantize extra")
pytest.importorskip("torch", reason="needs the export extra")  # the miniature's bundle is checked with it
pytest.importorskip("soundfile", reason="needs the audio extra")

from qwen3_asr_onnx import Bundle, TranscribeOptions, Transcriber
from qwen3_asr_onnx.audio.loading import load_audio
from qwen3_asr_onnx.bundle.manifest import Variant
from qwen3_asr_onnx_quantize.apply import quantize_bundle
from qwen3_asr_onnx_quantize.recipes.recipe import load_recipe

pytestmark = pytest.mark.torch

CLIPS = sorted((DATA / "mini-clips").glob("*.flac"))


class Written(NamedTuple):
    """What a piece came to."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    stop_reason: str


@pytest.fixture(scope="module")
def bundle(mini_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature with both verified variants, and with the judge of `fast` as a variant of its own."""
    path = tmp_path_factory.mktemp("verified") / "bundle"
    shutil.copytree(mini_bundle, path)
    for name in ("fast", "lossless"):
        quantize_bundle(path, load_recipe(name))
    manifest = Bundle.open(path).manifest
    fast = manifest.variants["fast"]
    judge: Variant = replace(fast, decoder_step=fast.decoder_init, verified=False, judge_steps_from=0)
    unverified = replace(fast, verified=False, judge_steps_from=0, rescored=0)  # a graph that drafts cannot be rescored
    replace(manifest, variants={**manifest.variants, "judge": judge, "unverified": unverified}).save(path)
    return path


def transcribed(bundle: Path, variant: str, batch_size: int) -> list[Written]:
    with Transcriber(bundle, variant) as asr:
        options = TranscribeOptions(batch_size=batch_size, max_segment_s=12)
        found = asr.transcribe_many(CLIPS, options)
        return [
            Written(segment.token_ids, segment.token_logprobs, segment.stop_reason)
            for transcript in found
            for segment in transcript.segments
        ]


@pytest.fixture(scope="module")
def alone(bundle: Path) -> dict[str, list[Written]]:
    return {name: transcribed(bundle, name, 1) for name in ("fp32", "judge", "unverified")}


@pytest.mark.parametrize("batch_size", [1, 3, 8])  # from 8 rows on the judge of `fast` writes itself
@pytest.mark.parametrize(("variant", "judge"), [("fast", "judge"), ("lossless", "fp32")])
def test_a_verified_variant_writes_what_its_judge_writes(
    bundle: Path, alone: dict[str, list[Written]], variant: str, judge: str, batch_size: int
) -> None:
    found = transcribed(bundle, variant, batch_size)
    assert [one.token_ids for one in found] == [one.token_ids for one in alone[judge]]
    assert [one.stop_reason for one in found] == [one.stop_reason for one in alone[judge]]
    for one, other in zip(found, alone[judge], strict=True):
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=2e-2 if variant == "fast" else 1e-4)


def test_the_draft_alone_writes_something_else(alone: dict[str, list[Written]]) -> None:
    """Otherwise these clips would prove nothing."""
    differ = [a.token_ids != b.token_ids for a, b in zip(alone["unverified"], alone["judge"], strict=True)]
    assert sum(differ) >= 2


@pytest.mark.parametrize(("variant", "judge"), [("fast", "judge"), ("lossless", "fp32")])
def test_a_stream_is_written_by_the_judge(bundle: Path, variant: str, judge: str) -> None:
    texts = []
    for name in (variant, judge):
        with Transcriber(bundle, name) as asr:
            stream = asr.stream()
            updates = [*stream.feed(load_audio(DATA / "mini-clips" / "de_story_12s.flac")), *stream.finish()]
            texts.append("".join(update.committed for update in updates))
    assert texts[0] == texts[1]
