"""The expected side of the parity tests: transformers' native classes in float32, one clip at a time.

Only transformers, torch and numpy are used: a fault in the packages under test cannot hide here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tests.support.clips import CLIP_SECONDS, SAMPLE_RATE, synthetic_clip
from transformers import (
    AutoTokenizer,
    Qwen3ASRFeatureExtractor,
    Qwen3ASRForConditionalGeneration,
    Qwen3ASRForTokenClassification,
)

__all__ = ["CLIP_SECONDS", "Reference", "generate", "prompt_ids", "reference", "slot_logits", "synthetic_clip"]

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Reference:
    """What transformers computes for one clip.

    Attributes:
        mel: (128, n_frames) log-mel features, the padding to whole blocks cut off.
        features: (n_audio_tokens, hidden) output of encoder and projector.
        prompt_ids: ids of the whole prompt, one `<|audio_pad|>` per audio token.
        first_logits: (vocab,) logits after the prompt.
        token_ids: greedy continuation, stop token excluded.
        stopped: whether it ended with a stop token rather than at the limit.
        margins: gap between the best and the second-best logit of every choice, the stop token's included.
    """

    mel: Floats
    features: Floats
    prompt_ids: tuple[int, ...]
    first_logits: Floats
    token_ids: tuple[int, ...]
    stopped: bool
    margins: Floats


@lru_cache(maxsize=8)
def _load(hf_dir: Path) -> tuple[Any, Any, Any]:
    model = Qwen3ASRForConditionalGeneration.from_pretrained(hf_dir, dtype=torch.float32).eval()
    return model, Qwen3ASRFeatureExtractor.from_pretrained(hf_dir), AutoTokenizer.from_pretrained(hf_dir)


def prompt_ids(tokenizer: Any, n_audio_tokens: int, context: str = "", language: str | None = None) -> tuple[int, ...]:
    """Return the ids of the prompt as transformers' template and tokenizer give them.

    Args:
        tokenizer: a transformers tokenizer.
        n_audio_tokens: how often the audio placeholder is repeated.
        context: text of the system turn, without special tokens.
        language: name to force, for example "English".
    """
    template = (Path(tokenizer.name_or_path) / "chat_template.jinja").read_text(encoding="utf-8")
    messages = [
        {"role": "system", "content": context},
        {"role": "user", "content": [{"type": "audio", "audio": ""}]},
    ]
    text = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, add_generation_prompt=True)
    if language is not None:
        text += f"language {language}<asr_text>"
    text = text.replace("<|audio_pad|>", "<|audio_pad|>" * n_audio_tokens)
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def _inputs(hf_dir: Path, waveform: Floats) -> tuple[torch.Tensor, torch.Tensor]:
    """Return features (1, 128, whole blocks) and mask of one clip, not padded to 30 s."""
    extractor = _load(hf_dir)[1]
    batch = extractor(waveform, sampling_rate=SAMPLE_RATE, padding="longest", return_attention_mask=True)
    return batch["input_features"], batch["attention_mask"]


@torch.inference_mode()
def reference(
    hf_dir: Path, waveform: Floats, context: str = "", language: str | None = None, max_new_tokens: int = 24
) -> Reference:
    """Return what the native classes make of one clip, in float32.

    Args:
        hf_dir: checkpoint in transformers' layout.
        waveform: (n_samples,) float32, 16 kHz.
        context: text of the system turn.
        language: name to force.
        max_new_tokens: limit of the greedy continuation.
    """
    model, _, tokenizer = _load(hf_dir)
    mel, mask = _inputs(hf_dir, waveform)
    features = model.get_audio_features(mel, mask, return_dict=True).pooler_output
    ids = prompt_ids(tokenizer, features.shape[0], context, language)
    stops = set(model.generation_config.eos_token_id)
    step = model(
        input_ids=torch.tensor([ids]), input_features=mel, input_features_mask=mask, use_cache=True, logits_to_keep=1
    )
    first_logits = step.logits[0, -1]
    tokens: list[int] = []
    margins: list[float] = []
    stopped = False
    while True:
        best, second = torch.topk(step.logits[0, -1], 2).values.tolist()
        token = int(step.logits[0, -1].argmax())
        margins.append(best - second)
        stopped = token in stops
        if stopped:
            break
        tokens.append(token)
        if len(tokens) == max_new_tokens:
            break
        step = model(input_ids=torch.tensor([[token]]), past_key_values=step.past_key_values, use_cache=True)
    return Reference(
        mel=mel[0, :, : int(mask.sum())].numpy(),
        features=features.numpy(),
        prompt_ids=ids,
        first_logits=first_logits.numpy(),
        token_ids=tuple(tokens),
        stopped=stopped,
        margins=np.asarray(margins, np.float32),
    )


@torch.inference_mode()
def generate(hf_dir: Path, waveform: Floats, max_new_tokens: int = 24) -> tuple[int, ...]:
    """Return the ids of transformers' own `generate`, stop token excluded: the check of the loop in `reference`."""
    model, _, tokenizer = _load(hf_dir)
    mel, mask = _inputs(hf_dir, waveform)
    n_audio_tokens = model.get_audio_features(mel, mask, return_dict=True).pooler_output.shape[0]
    ids = torch.tensor([prompt_ids(tokenizer, n_audio_tokens)])
    output = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        input_features=mel,
        input_features_mask=mask,
        do_sample=False,
        max_new_tokens=max_new_tokens,
    )
    new = [int(token) for token in output[0, ids.shape[1] :]]
    stops = set(model.generation_config.eos_token_id)
    while new and new[-1] in stops:
        new.pop()
    return tuple(new)


@lru_cache(maxsize=8)
def _load_aligner(hf_dir: Path) -> Any:
    return Qwen3ASRForTokenClassification.from_pretrained(hf_dir, dtype=torch.float32).eval()


@torch.inference_mode()
def slot_logits(hf_dir: Path, waveform: Floats, units: Sequence[str]) -> Floats:
    """Return the aligner's logits (2 n_units, n_classes) at every slot, start and end of each unit in turn.

    Args:
        hf_dir: an aligner in transformers' layout.
        waveform: (n_samples,) float32, 16 kHz.
        units: what is said, cut into units.
    """
    model, tokenizer = _load_aligner(hf_dir), AutoTokenizer.from_pretrained(hf_dir)
    extractor = Qwen3ASRFeatureExtractor.from_pretrained(hf_dir)
    batch = extractor(waveform, sampling_rate=SAMPLE_RATE, padding="longest", return_attention_mask=True)
    n_frames = int(batch["attention_mask"].sum())
    # 13 per full second, then one per started 8 frames; what the model itself counts would fail to fit otherwise.
    n_audio_tokens = 13 * (n_frames // 100) + -(-(n_frames % 100) // 8)
    text = "".join(f"{unit}<timestamp><timestamp>" for unit in units)
    prompt = "<|audio_start|>" + "<|audio_pad|>" * n_audio_tokens + "<|audio_end|>" + text
    ids = torch.tensor([tokenizer(prompt, add_special_tokens=False)["input_ids"]])
    output = model(input_ids=ids, input_features=batch["input_features"], input_features_mask=batch["attention_mask"])
    logits: Floats = output.logits[0, ids[0] == model.config.timestamp_token_id].numpy()
    return logits
