"""The official qwen-asr package, run by the interpreter of its own environment: it pins another transformers."""

from __future__ import annotations

import functools
import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qwen3_asr_onnx_eval.systems.adapters.serve import Answer, Config

__all__ = ["OfficialSystem", "load"]

BASE_TOKENS, TOKENS_PER_SECOND = 64, 32
SAMPLE_RATE = 16_000


class OfficialSystem:
    """`Qwen3ASRModel.transcribe` on the CPU."""

    def __init__(self, config: Config) -> None:
        import torch
        from qwen_asr import Qwen3ASRModel

        torch.set_num_threads(config["threads"])
        checkpoint = Path(config["model"])
        dtype = getattr(torch, config["precision"] or "float32")
        self._asr = Qwen3ASRModel.from_pretrained(str(checkpoint), dtype=dtype, device_map="cpu")
        # qwen-asr 0.0.6 has the released models' stop ids written into its generate; a fine-tune may have others.
        stop_ids = json.loads((checkpoint / "generation_config.json").read_text(encoding="utf-8"))["eos_token_id"]
        self._asr.model.generate = functools.partial(self._asr.model.generate, eos_token_id=stop_ids)
        self.info: dict[str, Any] = {
            "size_bytes": sum(file.stat().st_size for file in checkpoint.glob("*.safetensors")),
            "versions": {name: version(name) for name in ("qwen-asr", "transformers", "torch", "numpy")},
        }

    def transcribe(self, waveform: Any, language: str | None) -> Answer:
        """Return what the package writes."""
        # Its default of 512 tokens would cut long audio; this is the runtime's limit.
        self._asr.max_new_tokens = BASE_TOKENS + TOKENS_PER_SECOND * -(-len(waveform) // SAMPLE_RATE)
        (found,) = self._asr.transcribe((waveform, SAMPLE_RATE), language=language)
        return {"text": found.text, "language": found.language, "stop_reason": None}


def load(config: Config) -> OfficialSystem:
    """Load a checkpoint of the original layout."""
    return OfficialSystem(config)
