"""Which recipe suits a machine: by its processor's products and its memory, and the size of the model."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from qwen3_asr_onnx.model import memory, recommended
from qwen3_asr_onnx.model.memory import total_bytes
from qwen3_asr_onnx.model.recommended import recommended_recipe

SMALL, LARGE = 1_876_000_000, 4_700_000_000
"""Bytes of the checkpoints of 0.6B and 1.7B."""


@pytest.mark.parametrize(
    ("saturates", "gigabytes", "weights", "recipe", "why"),
    [
        (False, 4, SMALL, "int4", "fast asks for 6.5 GB of memory, and there are 4.0"),
        (False, 7.7, SMALL, "fast", "8-bit products, and 7.7 GB of memory"),
        (False, 7.7, LARGE, "int4", "fast asks for 16.2 GB of memory, and there are 7.7"),
        (False, 16.5, LARGE, "fast", "8-bit products, and 16.5 GB of memory"),
        (True, 32, SMALL, "int4", "no instructions for 8-bit products"),
        (True, 4, SMALL, "int4", "no instructions for 8-bit products"),
        (False, None, SMALL, "int4", "does not say how much memory"),
    ],
)
def test_the_recipe_follows_processor_memory_and_size(
    saturates: bool,
    gigabytes: float | None,
    weights: int,
    recipe: str,
    why: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recommended, "int8_products_saturate", lambda: saturates)
    monkeypatch.setattr(recommended, "total_bytes", lambda: None if gigabytes is None else int(gigabytes * 1e9))
    found, reason = recommended_recipe(weights)
    assert found == recipe
    assert why in reason


def test_a_container_has_the_memory_of_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    whole = total_bytes()
    (tmp_path / "memory.max").write_text("max\n")
    assert total_bytes() == whole
    (tmp_path / "memory.max").write_text("4096\n")
    assert total_bytes() == 4096
    monkeypatch.delattr(os, "sysconf")  # as on Windows
    assert total_bytes() == 4096
    (tmp_path / "memory.max").unlink()
    assert total_bytes() is None
