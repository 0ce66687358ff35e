"""A folder in the split layout as a model of our own runtime: the same text, slower, and said so."""

from __future__ import annotations

import asyncio
import json
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from qwen3_asr_onnx import AsyncTranscriber, BundleError, TranscribeOptions, Transcriber, load_audio
from qwen3_asr_onnx.commands import cli

from .conftest import CLIPS, MakeLayout

pytestmark = pytest.mark.filterwarnings("ignore:.*made by another exporter")

FILES = sorted(CLIPS.glob("*.flac"))
SPOKEN = CLIPS / "en_1.flac"


@pytest.fixture(scope="module")
def asr(mini: Path) -> Iterator[Transcriber]:
    with Transcriber(mini, "fp32", threads=1) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def split(layout_of: MakeLayout) -> Iterator[Transcriber]:
    with pytest.warns(UserWarning, match=r"split layout.*decoded one by one.*damage is not noticed"):
        loaded = Transcriber(layout_of("split", "fp32"), threads=1)
    with loaded:
        yield loaded


@pytest.fixture
def copied(layout_of: MakeLayout, tmp_path: Path) -> Path:
    return Path(shutil.copytree(layout_of("split", "fp32"), tmp_path / "split"))


@pytest.mark.parametrize(
    "options",
    [
        TranscribeOptions(),
        TranscribeOptions(language="en", context="Anna, Berlin", batch_size=4),
        TranscribeOptions(max_segment_s=2.0),
    ],
)
def test_the_text_is_that_of_our_own_files(asr: Transcriber, split: Transcriber, options: TranscribeOptions) -> None:
    ours, theirs = (list(one.transcribe_many(FILES, options)) for one in (asr, split))
    for one, other in zip(ours, theirs, strict=True):
        assert other.token_ids == one.token_ids
        assert (other.text, other.language, other.stop_reason) == (one.text, one.language, one.stop_reason)
        assert other.avg_logprob == pytest.approx(one.avg_logprob, abs=1e-3)


def test_noise_in_a_forced_language_gives_no_words(asr: Transcriber, split: Transcriber) -> None:
    noise = np.random.default_rng(1).normal(0, 0.01, 32_000).astype(np.float32)
    options = TranscribeOptions(language="en")
    assert split.transcribe(noise, options).text == asr.transcribe(noise, options).text


def test_streams_and_the_engine_write_the_same(asr: Transcriber, split: Transcriber) -> None:
    audio = load_audio(SPOKEN)
    texts = []
    for one in (asr, split):
        stream = one.stream(chunk_s=1.0)
        updates = [*stream.feed(audio), *stream.finish()]
        texts.append("".join(update.committed for update in updates))
    assert texts[0] == texts[1] != ""

    async def together() -> list[str]:
        async with AsyncTranscriber(split) as engine:
            return [one.text for one in await asyncio.gather(*map(engine.transcribe, FILES[:3]))]

    assert asyncio.run(together()) == [asr.transcribe(path).text for path in FILES[:3]]


def test_files_without_a_variant_in_their_names(copied: Path, asr: Transcriber) -> None:
    for part in ("encoder", "decoder_init", "decoder_step"):
        (copied / f"{part}.int4.onnx").rename(copied / f"{part}.onnx")
    with Transcriber(copied, "fp32") as split:
        assert split.transcribe(SPOKEN).text == asr.transcribe(SPOKEN).text


def test_ids_that_the_folder_has_wrong_do_not_matter(copied: Path, asr: Transcriber) -> None:
    config = json.loads((copied / "config.json").read_text(encoding="utf-8"))
    config["special_tokens"] = {"eos_token_ids": [1], "audio_pad_token_id": 2, "asr_text_token_id": 3}
    (copied / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with Transcriber(copied) as split:
        assert split.transcribe(SPOKEN).text == asr.transcribe(SPOKEN).text


def test_the_command_line_says_what_is_lost_and_what_is_no_bundle(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)  # as it is outside of this module
        assert cli.main(["transcribe", str(SPOKEN), "-m", str(copied)]) == 0
    out, err = capsys.readouterr()
    assert out.strip()
    assert err.startswith(f"qwen3-asr-onnx: warning: {copied}: made by another exporter (split layout)")
    assert ".py:" not in err
    assert cli.main(["info", str(copied)]) == 1
    assert "made by another exporter: it can be transcribed with, and nothing else" in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tokenizer.json", r"no tokenizer\.json, which a folder in the split layout has"),
        ("embed_tokens.bin", r"no embed_tokens\.bin"),
        ("encoder.int4.onnx", r"no encoder\.int4\.onnx, which belongs to decoder_init\.int4\.onnx"),
        ("decoder_step.int4.onnx", r"no decoder_step\.int4\.onnx"),
        ("decoder_weights.int4.data", r"cannot load this graph"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(copied: Path, name: str, message: str) -> None:
    (copied / name).unlink()
    with pytest.raises(BundleError, match=message):
        Transcriber(copied)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embed_tokens_dtype": "float32"}, "embed_tokens_dtype is 'float32'; only float16 is read here"),
        ({"decoder": {}}, r"decoder\.hidden_size is None, where a size is expected"),
        ({"decoder": {"hidden_size": True}}, r"decoder\.hidden_size is True"),
        ({"decoder": {"hidden_size": 1 << 40}}, r"decoder\.hidden_size is 1099511627776"),
        ({"decoder": {"hidden_size": 1021}}, "no whole rows of 1021 float16"),
        ({"num_layers": 5}, r"decoder\.num_layers is 5 in the manifest, and \d in the graph"),
        ({"head_dim": 3}, r"decoder\.head_dim is 3 in the manifest"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(copied: Path, change: dict[str, object], message: str) -> None:
    config = json.loads((copied / "config.json").read_text(encoding="utf-8"))
    if set(change) <= set(config):
        config |= change
    else:
        config["decoder"] |= change
    (copied / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(BundleError, match=message):
        Transcriber(copied)
