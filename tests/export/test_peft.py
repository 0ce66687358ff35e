"""Adapters as peft saves them, merged here and by peft itself: the same weights."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the export extra")

import torch
from tests.support.checkpoints import SHAPES, CheckpointOptions, make_checkpoint

from qwen3_asr_onnx.errors import BundleError
from qwen3_asr_onnx_export.checkpoint import Checkpoint
from qwen3_asr_onnx_export.tensor_index import from_native

pytestmark = [pytest.mark.conformance, pytest.mark.torch]

SHAPE = SHAPES["grouped"]

CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {"target_modules": ["q_proj", "v_proj"]},
    "everything": {"target_modules": "all-linear", "use_rslora": True, "exclude_modules": ["lm_head"]},
    "patterns": {
        "target_modules": ["q_proj", "o_proj", "down_proj", "fc2", "linear_1"],
        "rank_pattern": {r"layers\.1\.self_attn\.q_proj": 2, "fc2": 8},
        "alpha_pattern": {"language_model.layers.0.*q_proj": 40, "(down|o)_proj": 3},
        "fan_in_fan_out": True,
    },
    "convolutions": {"target_modules": ["conv2d1", "conv2d2", "conv_out"]},
    "whole modules": {"target_modules": ["k_proj"], "modules_to_save": ["linear_2", "ln_post"]},
}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One model in both layouts, in float32."""
    folder = tmp_path_factory.mktemp("checkpoints")
    native = CheckpointOptions(layout="hf", storage="float32")
    original = CheckpointOptions(storage="float32")
    return make_checkpoint(folder / "hf", SHAPE, native), make_checkpoint(folder / "original", SHAPE, original)


def trained(checkpoint: Path, config: dict[str, Any]) -> Any:
    """Return a model in peft's hands, all that it can train at random."""
    peft = pytest.importorskip("peft", reason="needs the conformance extra")
    from transformers import Qwen3ASRForConditionalGeneration

    model = Qwen3ASRForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of fan_in_fan_out, and of a class without a model card
        wrapped = peft.get_peft_model(model, peft.LoraConfig(r=4, lora_alpha=6, **config))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return wrapped


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_the_weights_are_those_that_peft_merges(
    checkpoints: tuple[Path, Path], tmp_path: Path, config: dict[str, Any]
) -> None:
    wrapped = trained(checkpoints[0], config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped.save_pretrained(tmp_path)
    expected = wrapped.merge_and_unload().state_dict()
    plain = Checkpoint.open(checkpoints[0])
    for checkpoint in checkpoints:  # an adapter does not ask in which layout its base is stored
        merged = Checkpoint.open(checkpoint, tmp_path)
        assert merged.adapter is not None
        changed = set(merged.adapter.added) | set(merged.adapter.replaced)
        for key, value in expected.items():
            name = from_native(key)
            assert name is not None
            np.testing.assert_allclose(merged.read(name), value.numpy(), rtol=1e-5, atol=1e-6, err_msg=name)
            if name in changed:
                assert not np.allclose(merged.read(name), plain.read(name), atol=1e-4), name
        assert changed


@pytest.mark.parametrize("config", [{"use_dora": True}, {"bias": "all"}, {"lora_bias": True}], ids=str)
def test_what_is_more_than_a_sum_is_refused(
    checkpoints: tuple[Path, Path], tmp_path: Path, config: dict[str, Any]
) -> None:
    targets = ["q_proj"] if "lora_bias" not in config else ["fc1"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trained(checkpoints[0], {"target_modules": targets, **config}).save_pretrained(tmp_path)
    with pytest.raises(BundleError, match=next(iter(config))):
        Checkpoint.open(checkpoints[0], tmp_path)
