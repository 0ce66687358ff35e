"""transformers as a recogniser: the native classes on an original-layout checkpoint, timed stage by stage.

transformers has no loader for the original layout, so the name map is here. torch and transformers are imported when a
model is loaded, not before.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from qwen3_asr_onnx.arrays import SAMPLE_RATE, Waveform

from .recognizers import StageTimes, timed

if TYPE_CHECKING:
    import torch

__all__ = ["UpstreamRecognizer", "load_upstream", "native_config", "to_native_name"]

_PREFIXES = (
    ("thinker.audio_tower.proj1.", "model.multi_modal_projector.linear_1."),
    ("thinker.audio_tower.proj2.", "model.multi_modal_projector.linear_2."),
    ("thinker.audio_tower.", "model.audio_tower."),
    ("thinker.model.", "model.language_model."),
    ("thinker.lm_head.", "lm_head."),
)


_AUDIO_KEYS = [
    "num_mel_bins",
    "encoder_layers",
    "encoder_attention_heads",
    "encoder_ffn_dim",
    "d_model",
    "output_dim",
    "downsample_hidden_size",
    "n_window",
    "n_window_infer",
]
_TEXT_KEYS = [
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "max_position_embeddings",
    "rms_norm_eps",
    "tie_word_embeddings",
]


def to_native_name(original: str) -> str:
    """Return the native classes' name of a tensor of an original-layout checkpoint.

    Raises:
        KeyError: not a name of that layout.
    """
    for prefix, native in _PREFIXES:
        if original.startswith(prefix):
            return native + original[len(prefix) :]
    raise KeyError(original)


def native_config(checkpoint: Path) -> Any:
    """Return the native config of an original-layout checkpoint: parsing its config.json directly gives defaults."""
    from transformers import Qwen3ASRConfig

    thinker = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))["thinker_config"]
    stop_ids = json.loads((checkpoint / "generation_config.json").read_text(encoding="utf-8"))["eos_token_id"]
    audio, text = thinker["audio_config"], thinker["text_config"]
    rope = {"rope_type": "default", "rope_theta": float(text["rope_theta"])}
    return Qwen3ASRConfig(
        audio_config={"model_type": "qwen3_asr_encoder", **{key: audio[key] for key in _AUDIO_KEYS}},
        text_config={"model_type": "qwen3", **{key: text[key] for key in _TEXT_KEYS}, "rope_parameters": rope},
        audio_token_id=thinker["audio_token_id"],
        eos_token_id=list(stop_ids),
        pad_token_id=stop_ids[0],
        tie_word_embeddings=text["tie_word_embeddings"],
    )


def _tensors(checkpoint: Path, dtype: torch.dtype) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield native name and value of every tensor, one at a time; the tied head is left to the model."""
    from safetensors import safe_open

    for file in sorted(checkpoint.glob("model*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a dict
                if name != "thinker.lm_head.weight":
                    yield to_native_name(name), tensors.get_tensor(name).to(dtype)


def load_upstream(checkpoint: Path, dtype: Literal["float32", "bfloat16"]) -> UpstreamRecognizer:
    """Load an original-layout checkpoint into the native classes, on the CPU.

    Args:
        checkpoint: directory with `thinker.*` tensors.
        dtype: of weights and activations.
    """
    import torch
    from transformers import Qwen3ASRFeatureExtractor, Qwen3ASRForConditionalGeneration

    _silence_loading_bars()
    torch_dtype: torch.dtype = getattr(torch, dtype)
    config = native_config(checkpoint)
    model = Qwen3ASRForConditionalGeneration.from_pretrained(
        None, config=config, state_dict=dict(_tensors(checkpoint, torch_dtype)), dtype=torch_dtype
    )
    return UpstreamRecognizer(model.eval(), Qwen3ASRFeatureExtractor())


class UpstreamRecognizer:
    """The native classes, driven by an explicit greedy loop: less overhead per token than `generate`."""

    def __init__(self, model: Any, extractor: Any) -> None:
        self._model = model
        self._extractor = extractor

    @property
    def model(self) -> Any:
        """The native classes' model, in eval mode."""
        return self._model

    def run(self, waveform: Waveform, n_tokens: int) -> StageTimes:
        """Time one clip with exactly `n_tokens` greedy tokens.

        Args:
            waveform: (n_samples,) float32, 16 kHz.
            n_tokens: how many; stop tokens are not looked at.
        """
        import torch

        with torch.inference_mode():
            batch, mel_ms = timed(
                lambda: self._extractor(
                    waveform, sampling_rate=SAMPLE_RATE, padding="longest", return_attention_mask=True
                )
            )
            mel = batch["input_features"].to(self._model.dtype)
            features, encoder_ms = timed(
                lambda: self._model.get_audio_features(mel, batch["attention_mask"], return_dict=True).pooler_output
            )
            (token, cache), prefill_ms = timed(lambda: self._prefill(features))
            token_ms = []
            for _ in range(n_tokens - 1):
                token, elapsed_ms = timed(lambda previous=token: self._step(previous, cache))  # type: ignore[misc]
                token_ms.append(elapsed_ms)
        return StageTimes(mel_ms, encoder_ms, prefill_ms, tuple(token_ms), cache.get_seq_length() - len(token_ms))

    def step_times(self, capacities: tuple[int, ...], n_tokens: int) -> dict[int, list[float]] | None:
        """Return None: transformers grows its cache and has no capacity."""
        del capacities, n_tokens
        return None

    def greedy(self, waveform: Waveform, prompt_ids: list[int], n_tokens: int) -> list[int]:
        """Return `n_tokens` greedy ids after a given prompt, to compare recognisers by.

        Args:
            waveform: (n_samples,) float32, 16 kHz.
            prompt_ids: with one audio placeholder per audio token.
            n_tokens: how many; stop tokens are not looked at.
        """
        import torch

        with torch.inference_mode():
            batch = self._extractor(waveform, sampling_rate=SAMPLE_RATE, padding="longest", return_attention_mask=True)
            output = self._model(
                input_ids=torch.tensor([prompt_ids]),
                input_features=batch["input_features"].to(self._model.dtype),
                input_features_mask=batch["attention_mask"],
                use_cache=True,
                logits_to_keep=1,
            )
            ids = [int(output.logits[0, -1].argmax())]
            while len(ids) < n_tokens:
                ids.append(self._step(ids[-1], output.past_key_values))
        return ids

    def _prefill(self, features: torch.Tensor) -> tuple[int, Any]:
        """Run a prompt of the usual length (9 ids, the audio, 6 ids) and return first token and cache."""
        import torch

        embed = self._model.get_input_embeddings()
        before, after = embed(torch.arange(9)), embed(torch.arange(6))
        embeds = torch.cat([before, features.to(before.dtype), after])[None]
        output = self._model(inputs_embeds=embeds, use_cache=True, logits_to_keep=1)
        return int(output.logits[0, -1].argmax()), output.past_key_values

    def _step(self, token: int, cache: Any) -> int:
        import torch

        output = self._model(input_ids=torch.tensor([[token]]), past_key_values=cache, use_cache=True)
        return int(output.logits[0, -1].argmax())


def _silence_loading_bars() -> None:
    """Turn off transformers' own progress bars: progress is told in one place."""
    from transformers.utils import logging

    logging.disable_progress_bar()
