"""The sherpa layout: its contract, and the ids of our runtime by a host that keeps the cache as sherpa-onnx does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx_ir.convenience import extract
from tests.support.layout_hosts import SherpaHost, session

from qwen3_asr_onnx import Bundle
from qwen3_asr_onnx_export.layouts.packaging import write_layout
from qwen3_asr_onnx_quantize.apply import quantize_into
from qwen3_asr_onnx_quantize.recipes.recipe import load_recipe
from qwen3_asr_onnx_quantize.schemes import WeightOnly

from .conftest import AUDIO, STOPS, Clip, MakeLayout

F32, I64, BOOL = "tensor(float)", "tensor(int64)", "tensor(bool)"
CACHE = [1, "capacity", 2, 64]
DELTA = [1, "sequence", 2, 64]


def interface(path: Path) -> tuple[list[tuple[str, str, list[object]]], list[tuple[str, str, list[object]]]]:
    graph = session(path)
    inputs, outputs = ([(v.name, v.type, v.shape) for v in vs] for vs in (graph.get_inputs(), graph.get_outputs()))
    return inputs, outputs


@pytest.mark.parametrize("variant", ["fp32", "int8", "int4"])
def test_names_order_dtypes_and_static_dimensions(layout_of: MakeLayout, variant: str) -> None:
    folder = layout_of("sherpa", variant)
    assert interface(folder / "conv_frontend.onnx") == (
        [("input_features", F32, [1, "frames", 128])],
        [("conv_output", F32, [1, "rows", 256])],
    )
    assert interface(folder / "encoder.int8.onnx") == (
        [("input_features", F32, [1, "rows", 256]), ("feature_attention_mask", BOOL, [1, "rows"])],
        [("audio_features", F32, [1, "rows", 256])],
    )
    kinds = [(kind, layer) for layer in range(3) for kind in ("key", "value")]
    assert interface(folder / "decoder.int8.onnx") == (
        [
            ("input_ids", I64, [1, "sequence"]),
            ("audio_features", F32, [1, "audio_tokens", 256]),
            ("attention_mask", I64, [1, "sequence"]),
            ("cache_position", I64, ["sequence"]),
            *((f"cache_{kind}_{layer}", F32, CACHE) for kind, layer in kinds),
        ],
        [("logits", F32, [1, "sequence", 1024]), *((f"{kind}_delta_{layer}", F32, DELTA) for kind, layer in kinds)],
    )


@pytest.mark.parametrize("variant", ["fp32", "int4"])
def test_files_and_versions_that_old_programs_read(layout_of: MakeLayout, variant: str) -> None:
    folder = layout_of("sherpa", variant)
    graphs = ("conv_frontend.onnx", "encoder.int8.onnx", "decoder.int8.onnx")
    tokenizer = {f"tokenizer/{name}" for name in ("vocab.json", "merges.txt", "tokenizer_config.json")}
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found == {*graphs, *(f"{name}.data" for name in graphs), *tokenizer}
    for name in graphs:
        model = onnx.load(folder / name, load_external_data=False)
        assert model.ir_version <= 10
        assert {one.domain: one.version for one in model.opset_import} == {"": 20, "com.microsoft": 1}


@pytest.mark.parametrize(
    ("variant", "name"),
    [("fp32", "de_story_12s"), ("int8", "en_1"), ("int4", "zh_1"), ("int4", "de_2"), ("int8-tied", "en_1")],
)
def test_the_ids_of_our_runtime(
    layout_of: MakeLayout,
    clip_of: Callable[[str], Clip],
    ours: Callable[[str, str], list[int]],
    variant: str,
    name: str,
) -> None:
    host, clip = SherpaHost(layout_of("sherpa", variant)), clip_of(name)
    features = host.features(clip.mel, clip.n_tokens)
    assert host.answer(features[:, : clip.n_tokens], clip.prompt, STOPS) == ours(name, variant)
    assert host.logits[0].shape == (1, len(clip.prompt), 1024)  # of all positions: sherpa-onnx looks for its last


def test_rows_behind_the_mask_are_zero_and_change_nothing(
    layout_of: MakeLayout, clip_of: Callable[[str], Clip]
) -> None:
    host, clip = SherpaHost(layout_of("sherpa", "fp32")), clip_of("de_story_12s")
    kept = host.features(clip.mel, clip.n_tokens)
    assert kept.shape[1] % 13 == 0 and kept.shape[1] > clip.n_tokens  # noqa: PT018 - whole blocks
    assert not kept[:, clip.n_tokens :].any()
    assert kept[:, : clip.n_tokens].any(axis=2).all()
    fewer = host.features(clip.mel, 110)  # of 104 in the first window and some in the second
    assert not fewer[:, 110:].any()
    np.testing.assert_allclose(fewer[:, :104], kept[:, :104], atol=1e-5)
    assert np.abs(fewer[:, 104:110] - kept[:, 104:110]).max() > 1e-3  # what is masked is not heard
    silent = host.features(clip.mel, 0)
    assert np.isfinite(silent).all()
    assert not silent.any()


@pytest.mark.parametrize("filler", [0.0, 1e3])
def test_what_lies_in_an_empty_cache_does_not_matter(
    layout_of: MakeLayout, clip_of: Callable[[str], Clip], ours: Callable[[str, str], list[int]], filler: float
) -> None:
    host, clip = SherpaHost(layout_of("sherpa", "fp32"), filler=filler), clip_of("en_2")
    features = host.features(clip.mel, clip.n_tokens)[:, : clip.n_tokens]
    assert host.answer(features, clip.prompt, STOPS) == ours("en_2", "fp32")


def test_a_prompt_in_pieces(layout_of: MakeLayout, clip_of: Callable[[str], Clip]) -> None:
    """What daobidao does with its system turn: more than one new position behind a cache."""
    host, clip = SherpaHost(layout_of("sherpa", "fp32")), clip_of("en_1")
    features = host.features(clip.mel, clip.n_tokens)[:, : clip.n_tokens]
    host.answer(features, clip.prompt, STOPS, limit=1)
    whole = host.logits.pop()
    decoder, caches, found, past = host.decoder, {}, [], 0
    for one in decoder.get_inputs()[4:]:
        caches[one.name] = np.zeros((1, 64, 2, 64), np.float32)
    for piece in (clip.prompt[:5], clip.prompt[5:-3], clip.prompt[-3:]):
        positions = np.arange(past, past + len(piece))
        feeds = {
            "input_ids": np.array([piece]),
            "audio_features": features,
            "attention_mask": np.ones((1, len(piece)), np.int64),
            "cache_position": positions,
        }
        logits, *deltas = decoder.run(None, {**feeds, **caches})
        for cache, delta in zip(caches.values(), deltas, strict=True):
            cache[:, positions] = delta
        past += len(piece)
        found.append(logits)
    np.testing.assert_allclose(np.concatenate(found, axis=1), whole, atol=2e-4)


def test_half_logits_differ_by_rounding_alone(
    mini: Path, tmp_path: Path, layout_of: MakeLayout, clip_of: Callable[[str], Clip]
) -> None:
    write_layout(mini, tmp_path / "half", "sherpa", variant="fp32", half_logits=True)
    hosts, clip = [SherpaHost(tmp_path / "half"), SherpaHost(layout_of("sherpa", "fp32"))], clip_of("en_1")
    features = hosts[0].features(clip.mel, clip.n_tokens)[:, : clip.n_tokens]
    assert hosts[0].answer(features, clip.prompt, STOPS) == hosts[1].answer(features, clip.prompt, STOPS)
    assert hosts[0].logits[0].dtype == np.float16
    np.testing.assert_array_equal(hosts[0].logits[0], hosts[1].logits[0].astype(np.float16))


def test_audio_goes_where_its_token_stands(layout_of: MakeLayout) -> None:
    """More places than rows, as after a cut: the last row stands for those that are missing."""
    host = SherpaHost(layout_of("sherpa", "fp32"))
    rows = np.random.default_rng(0).normal(size=(1, 2, 256)).astype(np.float32)
    host.answer(rows, [1, AUDIO, 2, AUDIO, AUDIO], STOPS, limit=1)
    host.answer(np.concatenate([rows, rows[:, 1:]], axis=1), [1, AUDIO, 2, AUDIO, AUDIO], STOPS, limit=1)
    host.answer(rows[:, ::-1], [1, AUDIO, 2, AUDIO, AUDIO], STOPS, limit=1)
    short, filled, swapped = host.logits
    np.testing.assert_array_equal(short, filled)
    np.testing.assert_array_equal(short[:, 0], swapped[:, 0])
    assert np.abs(short[:, 1] - swapped[:, 1]).max() > 1e-3


def test_a_tied_head_is_the_table_too(mini: Path, tmp_path: Path, layout_of: MakeLayout) -> None:
    places = {}
    for variant in ("int8", "int8-tied"):
        graph = onnx.load(layout_of("sherpa", variant) / "decoder.int8.onnx", load_external_data=False).graph
        found = {one.name: {entry.key: entry.value for entry in one.external_data} for one in graph.initializer}
        places[variant] = found
        assert ("model.embed_tokens.weight" in found) == (variant == "int8")  # whose head is in another basis
    tied = places["int8-tied"]
    assert tied["lm_head.weight.int8.rows"] == tied["lm_head.weight.int8"]
    assert SherpaHost(layout_of("sherpa", "int8-tied")).decoder.get_outputs()[0].shape == [1, "sequence", 1024]
    folder = tmp_path / "zeros"
    recipe = load_recipe("int8-tied")
    zeros = replace(recipe, name="zeros", head=WeightOnly("int8", symmetric=False))
    quantize_into(folder, mini, zeros)
    write_layout(folder, tmp_path / "out", "sherpa")
    graph = onnx.load(tmp_path / "out" / "decoder.int8.onnx", load_external_data=False).graph
    assert "model.embed_tokens.weight" in {one.name for one in graph.initializer}


def test_embeddings_of_a_tied_head_are_its_rows(mini: Path, layout_of: MakeLayout, tmp_path: Path) -> None:
    path = layout_of("sherpa", "int8-tied") / "decoder.int8.onnx"
    graph = ir.load(path)
    (lookup,) = (node for node in graph.graph if node.op_type == "GatherBlockQuantized")
    rows = lookup.outputs[0]
    part = extract(graph.graph, ["input_ids"], [rows])
    ir.save(ir.Model(part, ir_version=10), tmp_path / "part.onnx", external_data="part.data", size_threshold_bytes=1024)
    ids = np.arange(1024)[None]
    found = session(tmp_path / "part.onnx").run(None, {"input_ids": ids})[0][0]
    table = np.fromfile(mini / "embed_tokens.bin", np.float16).reshape(1024, 256).astype(np.float32)
    steps = np.abs(table.reshape(1024, 2, 128)).max(axis=2) / 127
    assert (np.abs(found - table).reshape(1024, 2, 128).max(axis=2) <= steps).all()


def test_the_bundle_is_as_it_was(mini: Path, layout_of: MakeLayout) -> None:
    layout_of("sherpa", "int8")
    assert Bundle.open(mini).verify() == []
