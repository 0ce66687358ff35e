"""The random checkpoints of the benchmark: real names, shapes, sizes; valid files; cached and complete or absent."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from qwen3_asr_onnx_eval.bench.random_checkpoint import BENCH_SHAPES, ensure_checkpoint, tensor_shapes
from qwen3_asr_onnx_eval.bench.synthetic_tokenizer import ADDED_TOKENS, added_token_ids, byte_symbols, write_tokenizer

TINY = BENCH_SHAPES["tiny"]


def read_tensors(directory: Path) -> dict[str, np.ndarray]:
    """Read bfloat16 safetensors as float32 with numpy alone."""
    tensors = {}
    for file in sorted(directory.glob("model*.safetensors")):
        raw = file.read_bytes()
        length = int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8 : 8 + length])
        header.pop("__metadata__")
        for name, entry in header.items():
            first, last = (8 + length + offset for offset in entry["data_offsets"])
            bits = np.frombuffer(raw[first:last], np.uint16).astype(np.uint32) << 16
            tensors[name] = bits.view(np.float32).reshape(entry["shape"])
        assert max(entry["data_offsets"][1] for entry in header.values()) == len(raw) - 8 - length
    return tensors


@pytest.mark.parametrize(
    ("name", "parameters", "tensors"),
    [("0.6b", 938_008_576, 612), ("1.7b", 2_349_217_408, 708), ("aligner-0.6b", 917_728_896, 708)],
)
def test_full_sizes_are_the_published_ones(name: str, parameters: int, tensors: int) -> None:
    shapes = tensor_shapes(BENCH_SHAPES[name])

    assert sum(math.prod(dims) for dims in shapes.values()) == parameters
    assert len(shapes) == tensors


def test_weights_are_finite_scaled_and_tied(tmp_path: Path) -> None:
    directory, made = ensure_checkpoint(TINY, tmp_path)
    tensors = read_tensors(directory)

    assert made
    assert {name: value.shape for name, value in tensors.items()} == tensor_shapes(TINY)
    assert all(np.isfinite(value).all() for value in tensors.values())
    assert np.array_equal(tensors["thinker.lm_head.weight"], tensors["thinker.model.embed_tokens.weight"])
    gate = tensors["thinker.model.layers.0.mlp.gate_proj.weight"]
    assert gate.std() == pytest.approx(1 / math.sqrt(TINY.hidden), rel=0.05)
    assert abs(gate.mean()) < 0.01
    other = tensors["thinker.model.layers.1.mlp.gate_proj.weight"]
    assert not np.array_equal(gate, other)


def test_shards_are_indexed(tmp_path: Path) -> None:
    directory, _ = ensure_checkpoint(TINY, tmp_path)

    index = json.loads((directory / "model.safetensors.index.json").read_text(encoding="utf-8"))

    assert set(index["weight_map"]) == set(tensor_shapes(TINY))
    assert set(index["weight_map"].values()) == {path.name for path in directory.glob("*.safetensors")}
    assert len(set(index["weight_map"].values())) == TINY.shards


def test_cache_is_reused_and_deterministic(tmp_path: Path) -> None:
    first, _ = ensure_checkpoint(TINY, tmp_path / "a")
    written: list[int] = []

    again, made = ensure_checkpoint(TINY, tmp_path / "a", written.append)
    other, _ = ensure_checkpoint(TINY, tmp_path / "b", written.append)

    assert (again, made) == (first, False)
    assert sum(written) == 2 * sum(math.prod(dims) for dims in tensor_shapes(TINY).values())
    for path in first.iterdir():
        assert path.read_bytes() == (other / path.name).read_bytes(), path.name


def test_interruption_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure_checkpoint(TINY, tmp_path, interrupt)

    assert list(tmp_path.iterdir()) == []


def test_tokenizer_is_a_valid_byte_level_bpe(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, 151_643)
    vocab = json.loads((tmp_path / "vocab.json").read_text(encoding="utf-8"))
    merges = (tmp_path / "merges.txt").read_text(encoding="utf-8").splitlines()[1:]

    assert sorted(vocab.values()) == list(range(151_643))
    assert len(merges) == 151_387
    model = models.BPE.from_file(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    text = "language English, 你好!\n"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert tokenizer.encode("abc").tokens == ["abc"]


def test_tokens_have_the_released_ids() -> None:
    ids = added_token_ids(151_643)

    assert sorted(byte_symbols()) == sorted(pre_tokenizers.ByteLevel.alphabet())
    assert len(ADDED_TOKENS) == 62
    assert sum(special for _, special in ADDED_TOKENS) == 48
    assert ids["<|im_start|>"] == 151_644
    assert ids["<think>"] == 151_667
    assert (ids["<|audio_start|>"], ids["<|audio_end|>"], ids["<|audio_pad|>"]) == (151_669, 151_670, 151_676)
    assert (ids["<non_speech>"], ids["<blank1>"], ids["<asr_text>"]) == (151_675, 151_677, 151_704)
