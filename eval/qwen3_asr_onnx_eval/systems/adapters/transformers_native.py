"""transformers' native Qwen3-ASR classes on a checkpoint of either layout: float32 or bfloat16, greedy."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qwen3_asr_onnx_eval.systems.adapters.serve import Answer, Config

__all__ = ["NativeSystem", "load"]

DTYPES = ("float32", "bfloat16")
BASE_TOKENS, TOKENS_PER_SECOND = 64, 32
"""Token limit, the same as the runtime's default: neither side may win by stopping early."""

SAMPLE_RATE = 16_000


class NativeSystem:
    """`Qwen3ASRForConditionalGeneration.generate` with the processor's own prompt and parser."""

    def __init__(self, config: Config) -> None:
        import torch

        dtype = config["precision"] or "float32"
        if dtype not in DTYPES:
            raise ValueError(f"transformers runs in {' or '.join(DTYPES)}, not {dtype!r}")
        torch.set_num_threads(config["threads"])
        checkpoint = Path(config["model"])
        self._model, self._processor = _load(checkpoint, dtype)
        self.info: dict[str, Any] = {
            "size_bytes": sum(file.stat().st_size for file in checkpoint.glob("*.safetensors")),
            "versions": {name: version(name) for name in ("transformers", "torch", "numpy")},
        }

    def transcribe(self, waveform: Any, language: str | None) -> Answer:
        """Return what the model writes."""
        import torch

        messages = [{"role": "system", "content": ""}, {"role": "user", "content": [{"type": "audio", "audio": ""}]}]
        processor = self._processor
        prompt = processor.tokenizer.apply_chat_template(
            messages, chat_template=processor.chat_template, tokenize=False, add_generation_prompt=True
        )
        if language:
            prompt += f"language {language}<asr_text>"
        inputs = processor(text=[prompt], audio=[waveform], audio_kwargs={"sampling_rate": SAMPLE_RATE})
        inputs["input_features"] = inputs["input_features"].to(self._model.dtype)
        limit = BASE_TOKENS + TOKENS_PER_SECOND * -(-len(waveform) // SAMPLE_RATE)
        with torch.inference_mode():
            ids = self._model.generate(**inputs, max_new_tokens=limit, do_sample=False)
        new = ids[0, inputs["input_ids"].shape[1] :]
        found = processor.decode(new, return_format="parsed")
        stopped = int(new[-1]) in self._model.generation_config.eos_token_id
        return {
            "text": found["transcription"] or "",
            "language": language or found["language"] or "",
            "stop_reason": "eos" if stopped else "length",
        }


def _load(checkpoint: Path, dtype: str) -> tuple[Any, Any]:
    """Return model and processor of a checkpoint of either layout."""
    import torch
    from transformers import AutoTokenizer, Qwen3ASRForConditionalGeneration, Qwen3ASRProcessor
    from transformers.utils import logging

    logging.disable_progress_bar()
    if "thinker_config" in json.loads((checkpoint / "config.json").read_text(encoding="utf-8")):
        from transformers import Qwen3ASRFeatureExtractor

        from qwen3_asr_onnx_eval.bench.upstream import load_upstream

        model = load_upstream(checkpoint, "bfloat16" if dtype == "bfloat16" else "float32").model
        template = json.loads((checkpoint / "chat_template.json").read_text(encoding="utf-8"))["chat_template"]
        tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        processor = Qwen3ASRProcessor(Qwen3ASRFeatureExtractor(), tokenizer, chat_template=template)
    else:
        model = Qwen3ASRForConditionalGeneration.from_pretrained(checkpoint, dtype=getattr(torch, dtype)).eval()
        processor = Qwen3ASRProcessor.from_pretrained(checkpoint)
    if isinstance(model.generation_config.eos_token_id, int):
        model.generation_config.eos_token_id = [model.generation_config.eos_token_id]
    return model, processor


def load(config: Config) -> NativeSystem:
    """Load a checkpoint."""
    return NativeSystem(config)
