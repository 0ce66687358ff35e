"""Slices, sharing and determinism of the weight files, on graphs whose source tensors are larger than a slice."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from tests.support.graphs import Array, product_graph

from qwen3_asr_onnx.bundle.files import file_record
from qwen3_asr_onnx.errors import BundleError
from qwen3_asr_onnx_quantize.schemes import Dynamic, Keep, Scheme, WeightOnly
from qwen3_asr_onnx_quantize.schemes.w8a8 import DynamicPerTokenPass
from qwen3_asr_onnx_quantize.schemes.weight_only import WeightOnlyPass
from qwen3_asr_onnx_quantize.weights import pending
from qwen3_asr_onnx_quantize.weights.blockwise import quantize_blocks
from qwen3_asr_onnx_quantize.weights.channelwise import FULL_RANGE, quantize_channels
from qwen3_asr_onnx_quantize.weights.files import WeightFiles, source_bytes, stored_bytes
from qwen3_asr_onnx_quantize.weights.pending import Job

K, N = 96, 70
INT4 = WeightOnly("int4", 32)


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices of 16 columns, so that every weight takes several and the last is cut short."""
    monkeypatch.setattr(pending, "SLICE_BYTES", 4 * K * 16)


def external(directory: Path, *weights: Array) -> ir.Model:
    """Return a product graph whose weights lie in a file, one after the other."""
    model = product_graph(*weights)
    offset = 0
    with (directory / "source.data").open("wb") as file:
        for index, weight in enumerate(weights):
            file.write(weight.tobytes())
            tensor = ir.ExternalTensor(
                "source.data",
                offset,
                weight.nbytes,
                ir.DataType.FLOAT,
                shape=ir.Shape(weight.shape),
                name=f"w{index}",
                base_dir=directory,
            )
            model.graph.initializers[f"w{index}"].const_value = tensor
            offset += weight.nbytes
    return model


def weights(count: int = 2) -> list[Array]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal((K, N)).astype(np.float32) for _ in range(count)]


def quantised(directory: Path, part: Scheme, count: int = 2, only: str | None = None) -> ir.Model:
    model = external(directory, *weights(count))
    kind = DynamicPerTokenPass if isinstance(part, Dynamic) else WeightOnlyPass
    kind(lambda name: part if only in (None, name) else Keep())(model)
    return model


def stored(model: ir.Model, directory: Path, name: str) -> Array:
    tensor = model.graph.initializers[name].const_value
    assert isinstance(tensor, ir.ExternalTensor)
    array = np.frombuffer((directory / tensor.location).read_bytes(), dtype=tensor.dtype.numpy(), count=tensor.size,
                          offset=tensor.offset or 0)  # fmt: skip
    return array.reshape(tensor.shape.numpy())


def test_slices_join_to_what_the_whole_would_give(tmp_path: Path) -> None:
    model = quantised(tmp_path, WeightOnly("int4", 32, symmetric=False))
    files = WeightFiles(tmp_path)
    assert files.add(model, "new.data") == ("new.data",)
    for index, weight in enumerate(weights()):
        expected = quantize_blocks(weight, WeightOnly("int4", 32, symmetric=False))
        assert expected.zero_points is not None
        np.testing.assert_array_equal(stored(model, tmp_path, f"w{index}.int4"), expected.codes)
        np.testing.assert_array_equal(stored(model, tmp_path, f"w{index}.int4_scales"), expected.scales.reshape(-1))
        np.testing.assert_array_equal(stored(model, tmp_path, f"w{index}.int4_zeros"), expected.zero_points.reshape(-1))
    assert files.records == {"new.data": file_record(tmp_path / "new.data")}


def test_columns_of_codes_are_put_side_by_side(tmp_path: Path) -> None:
    model = quantised(tmp_path, Dynamic())
    WeightFiles(tmp_path).add(model, "new.data")
    for index, weight in enumerate(weights()):
        codes, scales = quantize_channels(weight, FULL_RANGE)
        np.testing.assert_array_equal(stored(model, tmp_path, f"w{index}.int8"), codes)
        np.testing.assert_array_equal(stored(model, tmp_path, f"w{index}.int8_scales"), scales)


def test_what_stays_float32_is_copied(tmp_path: Path) -> None:
    model = quantised(tmp_path, INT4, only="w1")
    WeightFiles(tmp_path).add(model, "new.data")
    np.testing.assert_array_equal(stored(model, tmp_path, "w0"), weights()[0])


@pytest.mark.parametrize("part", [INT4, Dynamic()], ids=["int4", "w8a8"])
def test_threads_do_not_change_the_bytes(tmp_path: Path, part: Scheme) -> None:
    contents = []
    for threads in (1, 2, 5):
        WeightFiles(tmp_path, threads=threads).add(quantised(tmp_path, part, count=4), f"{threads}.data")
        contents.append((tmp_path / f"{threads}.data").read_bytes())
    assert contents[0] == contents[1] == contents[2]


def test_a_second_graph_stores_only_what_is_new(tmp_path: Path) -> None:
    first, second = quantised(tmp_path, INT4), quantised(tmp_path, INT4, only="w0")
    files = WeightFiles(tmp_path)
    files.add(first, "first.data")
    assert files.add(second, "second.data") == ("second.data", "first.data")
    assert (tmp_path / "second.data").stat().st_size == weights()[1].nbytes  # w1 in float32, and no w0
    np.testing.assert_array_equal(stored(second, tmp_path, "w0.int4"), stored(first, tmp_path, "w0.int4"))


def test_a_graph_with_nothing_new_makes_no_file(tmp_path: Path) -> None:
    files = WeightFiles(tmp_path)
    files.add(quantised(tmp_path, INT4), "first.data")
    assert files.add(quantised(tmp_path, INT4), "second.data") == ("first.data",)
    assert not (tmp_path / "second.data").exists()


def test_another_scheme_is_new(tmp_path: Path) -> None:
    files = WeightFiles(tmp_path)
    files.add(quantised(tmp_path, INT4), "first.data")
    assert files.add(quantised(tmp_path, WeightOnly("int4", 64)), "second.data") == ("second.data",)


def test_settings_that_leave_no_trace_in_the_bytes_are_not_another_scheme(tmp_path: Path) -> None:
    files = WeightFiles(tmp_path)
    files.add(quantised(tmp_path, INT4), "first.data")
    files.add(quantised(tmp_path, WeightOnly("int4", 32, accuracy_level=1, exclude=("w9",))), "second.data")
    assert list(files.records) == ["first.data"]


def test_large_tensors_start_on_pages_and_small_ones_on_cache_lines(tmp_path: Path) -> None:
    files = WeightFiles(tmp_path)
    files.add(quantised(tmp_path, Dynamic(), count=3), "new.data")
    for place in files.placed.values():
        assert place.offset % (4096 if place.n_bytes >= 4096 else 64) == 0


def test_the_foretold_sizes(tmp_path: Path) -> None:
    models = [quantised(tmp_path, INT4), quantised(tmp_path, INT4)]
    read = source_bytes(models)
    assert read == 2 * weights()[0].nbytes
    assert stored_bytes(models) == 2 * (K * N // 2 + 2 * N * K // 32)
    seen: list[int] = []
    WeightFiles(tmp_path, seen.append).add(models[0], "new.data")
    assert sum(seen) == read


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("part", [INT4, Dynamic(), Keep()], ids=["int4", "w8a8", "fp32"])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, value: float, part: Scheme) -> None:
    broken = weights()
    broken[1][3, 4] = value
    model = external(tmp_path, *broken)
    kind = DynamicPerTokenPass if isinstance(part, Dynamic) else WeightOnlyPass
    kind(lambda name: part)(model)
    with pytest.raises(BundleError, match="w1 holds NaN or infinity"):
        WeightFiles(tmp_path).add(model, "new.data")


def test_scales_beyond_half_precision_are_refused(tmp_path: Path) -> None:
    model = external(tmp_path, weights(1)[0] * np.float32(1e7))
    WeightOnlyPass(lambda name: INT4)(model)
    with pytest.raises(BundleError, match=r'a scale exceeds FP16; set scales = "fp32"'):
        WeightFiles(tmp_path).add(model, "new.data")


def test_few_slices_are_in_memory_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compute, lock = Job.compute, threading.Lock()
    alive, most = 0, 0

    def counted(self: Job, piece: slice) -> tuple[Array, ...]:
        nonlocal alive, most
        with lock:
            alive += 1
            most = max(most, alive)
        try:
            return compute(self, piece)
        finally:
            with lock:
                alive -= 1

    monkeypatch.setattr(Job, "compute", counted)
    WeightFiles(tmp_path, threads=2).add(quantised(tmp_path, INT4, count=4), "new.data")
    assert 1 <= most <= 2


def test_an_error_stops_the_slices_that_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[slice] = []

    def interrupted(self: Job, piece: slice) -> tuple[Array, ...]:
        started.append(piece)
        raise KeyboardInterrupt

    monkeypatch.setattr(Job, "compute", interrupted)
    with pytest.raises(KeyboardInterrupt):
        WeightFiles(tmp_path, threads=1).add(quantised(tmp_path, INT4, count=8), "new.data")
    assert len(started) < 8
