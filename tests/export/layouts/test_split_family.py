"""The wyoming and split layouts: their contracts, and the ids of our runtime by hosts that keep caches as theirs do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.support.clips import synthetic_clip
from tests.support.layout_hosts import MergedHost, SplitHost, session

from qwen3_asr_onnx.model.features import log_mel, n_audio_tokens
from qwen3_asr_onnx.model.loading import load_model

from .conftest import AUDIO, STOPS, Clip, MakeLayout
from .test_sherpa import F32, I64, interface

PAST, TOTAL = [3, 1, 2, "past", 64], [3, 1, 2, "total", 64]
OUTPUTS = [("logits", F32, [1, 1, 1024]), ("present_keys", F32, TOTAL), ("present_values", F32, TOTAL)]
HOSTS: dict[str, type[MergedHost | SplitHost]] = {"wyoming": MergedHost, "split": SplitHost}


@pytest.mark.parametrize("layout", HOSTS)
@pytest.mark.parametrize("variant", ["fp32", "int4"])
def test_names_order_dtypes_and_static_dimensions(layout_of: MakeLayout, layout: str, variant: str) -> None:
    folder = layout_of(layout, variant)
    assert interface(folder / "encoder.int4.onnx") == (
        [("mel", F32, [1, 128, "frames"])],
        [("audio_features", F32, [1, "audio_tokens", 256])],
    )
    caches = [("past_keys", F32, PAST), ("past_values", F32, PAST)]
    if layout == "wyoming":
        assert interface(folder / "decoder_merged.int4.onnx") == (
            [
                ("input_embeds", F32, [1, "sequence", 256]),
                ("position_ids", I64, [1, "sequence"]),
                ("attention_mask", F32, [1, 1, "sequence", "total"]),
                *caches,
            ],
            OUTPUTS,  # the second gives the shape of an empty cache
        )
        return
    assert interface(folder / "decoder_init.int4.onnx") == (
        [
            ("input_ids", I64, [1, "sequence"]),
            ("position_ids", I64, [1, "sequence"]),
            ("audio_features", F32, [1, "audio_tokens", 256]),
            ("audio_offset", I64, [1]),
        ],
        OUTPUTS,
    )
    assert interface(folder / "decoder_step.int4.onnx") == (
        [("input_embeds", F32, [1, 1, 256]), ("position_ids", I64, [1, 1]), *caches],
        OUTPUTS,
    )


def test_the_files_of_each(layout_of: MakeLayout) -> None:
    both = {"config.json", "tokenizer.json", "embed_tokens.bin", "encoder.int4.onnx", "encoder.int4.onnx.data"}
    merged = {path.name for path in layout_of("wyoming", "int4").iterdir()}
    assert merged == both | {"decoder_merged.int4.onnx", "decoder_merged.int4.onnx.data"}
    split = layout_of("split", "int4")
    names = {"decoder_init.int4.onnx", "decoder_step.int4.onnx", "decoder_weights.int4.data"}
    assert {path.name for path in split.iterdir()} == both | names
    assert locations(split / "decoder_step.int4.onnx") == {"decoder_weights.int4.data"}
    assert locations(split / "decoder_init.int4.onnx") == {"decoder_weights.int4.data", "embed_tokens.bin"}


def locations(path: Path) -> set[str]:
    model = onnx.load(path, load_external_data=False)
    return {entry.value for one in model.graph.initializer for entry in one.external_data if entry.key == "location"}


def test_what_its_readers_look_for_in_the_config(layout_of: MakeLayout) -> None:
    config = json.loads((layout_of("split", "fp32") / "config.json").read_text(encoding="utf-8"))
    assert config["decoder"] == {
        "num_layers": 3,
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "vocab_size": 1024,
        "rope_theta": 1e6,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
    }
    assert (config["encoder"]["num_mel_bins"], config["encoder"]["output_dim"]) == (128, 256)
    assert (config["embed_tokens_shape"], config["embed_tokens_dtype"]) == ([1024, 256], "float16")
    mel = {"sample_rate": 16_000, "n_fft": 400, "hop_length": 160, "n_mels": 128, "fmin": 0, "fmax": 8000}
    assert config["mel"] == mel
    assert config["special_tokens"] == {
        "eos_token_ids": [1016, 1018],
        "audio_pad_token_id": 1021,
        "pad_token_id": 1016,
        "im_start_token_id": 1017,
        "im_end_token_id": 1018,
        "audio_start_token_id": 1019,
        "audio_end_token_id": 1020,
        "asr_text_token_id": 1022,
    }


@pytest.mark.parametrize("layout", HOSTS)
@pytest.mark.parametrize(("variant", "name"), [("fp32", "de_story_12s"), ("int8", "en_1"), ("int4", "zh_1")])
def test_the_ids_of_our_runtime(
    layout_of: MakeLayout,
    clip_of: Callable[[str], Clip],
    ours: Callable[[str, str], list[int]],
    layout: str,
    variant: str,
    name: str,
) -> None:
    host, clip = HOSTS[layout](layout_of(layout, variant), 256), clip_of(name)
    features = host.features(clip.mel)
    assert features.shape[1] == clip.n_tokens
    assert host.answer(features, clip.prompt, AUDIO, STOPS) == ours(name, variant)


@pytest.mark.parametrize("seconds", [0.01, 0.99, 1.0, 7.99, 8.01, 17.0])
def test_audio_of_any_length(layout_of: MakeLayout, mini: Path, seconds: float) -> None:
    mel = log_mel(synthetic_clip(17.0))[:, : round(100 * seconds)]
    found = session(layout_of("wyoming", "fp32") / "encoder.int4.onnx").run(None, {"mel": mel[None]})[0]
    (expected,) = load_model(mini, "fp32", "cpu", 1).encoder.encode([mel])
    assert found.shape[1] == n_audio_tokens(mel.shape[1], 100)
    np.testing.assert_allclose(found[0], expected, rtol=2e-6, atol=2e-5)


def test_the_mask_is_what_is_seen(layout_of: MakeLayout) -> None:
    """The caller's mask, and nothing beside it."""
    decoder = session(layout_of("wyoming", "fp32") / "decoder_merged.int4.onnx")
    rng = np.random.default_rng(1)
    embeds = rng.normal(size=(1, 3, 256)).astype(np.float32)
    past = rng.normal(size=(3, 1, 2, 2, 64)).astype(np.float32)
    other = past.copy()
    other[:, :, :, 0] += 1

    def logits(mask: list[float], cache: np.ndarray) -> np.ndarray:
        rows = np.tile(np.array(mask, np.float32), (1, 1, 3, 1))
        feeds = {"input_embeds": embeds, "position_ids": np.arange(2, 5)[None], "attention_mask": rows}
        return np.asarray(decoder.run(["logits"], {**feeds, "past_keys": cache, "past_values": cache})[0])

    lowest = float(np.finfo(np.float32).min)
    everything, without_first = [0.0] * 5, [lowest, 0.0, 0.0, 0.0, 0.0]
    np.testing.assert_allclose(logits(without_first, past), logits(without_first, other), atol=1e-5)
    assert np.abs(logits(everything, past) - logits(everything, other)).max() > 1e-3
