"""8-bit products that overflow: asked of this processor, and of an emulated one without VNNI where there is QEMU."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.programs import find

from qwen3_asr_onnx.bundle.manifest import FULL_RANGE_INT8
from qwen3_asr_onnx.errors import ProviderError
from qwen3_asr_onnx.model import saturation
from qwen3_asr_onnx.model.saturation import int8_products_saturate, refuse_saturation


@pytest.mark.skipif(
    platform.machine() != "x86_64" or not Path("/proc/cpuinfo").exists(), reason="reads the flags of Linux on x86"
)
def test_the_answer_agrees_with_the_flags_of_the_processor() -> None:
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    assert int8_products_saturate() is not ("avx512_vnni" in flags or "avx_vnni" in flags)


def test_only_full_range_is_refused_and_only_where_it_saturates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saturation, "int8_products_saturate", lambda: True)
    refuse_saturation("here", "fine", ())
    with pytest.raises(ProviderError, match=r"here: variant 'fast' .*without VNNI.*reduce_range = true"):
        refuse_saturation("here", "fast", (FULL_RANGE_INT8,))
    monkeypatch.setattr(saturation, "int8_products_saturate", lambda: False)
    refuse_saturation("here", "fast", (FULL_RANGE_INT8,))


def test_nothing_is_asked_of_variants_without_8_bit_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saturation, "int8_products_saturate", None)
    refuse_saturation("here", "int4", ())


def test_a_need_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ProviderError, match=r"variant 'new' needs int2, which this version does not know; upgrade"):
        refuse_saturation("here", "new", ("int2",))


EMULATED = """
import numpy as np
from qwen3_asr_onnx.model.saturation import PRODUCT_GRAPH, int8_products_saturate
from qwen3_asr_onnx.model.session import import_onnxruntime
ort = import_onnxruntime()
session = ort.InferenceSession(PRODUCT_GRAPH, providers=["CPUExecutionProvider"])
a = np.full((3, 4), 255, dtype=np.uint8)
exact = session.run(None, {"a": a, "b": np.full((4, 16), 63, dtype=np.int8)})[0]
print(int8_products_saturate(), bool((exact == 4 * 255 * 63).all()))
"""


@pytest.mark.program("qemu")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="emulates the same architecture")
def test_a_processor_without_vnni_saturates_and_seven_bits_do_not() -> None:
    qemu = find("qemu")
    assert qemu is not None
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [qemu, "-cpu", "Haswell", sys.executable, "-c", EMULATED],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        timeout=300,
    )
    assert done.stdout.split() == ["True", "True"]
