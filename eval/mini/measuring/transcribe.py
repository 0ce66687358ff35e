"""Greedy transcription with the native transformers classes: the reference behaviour, windows and all.

Flows in: a native model, mels and prompts. Flows out: the raw answer strings, ``language X<asr_text>...``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mini.language.vocabulary import Vocabulary
from mini.speech.features import Mel
from mini.training.batches import n_audio_tokens, pad_mels

FRAMES_PER_BATCH = 24000


@dataclass(frozen=True, slots=True)
class Request:
    """One clip to transcribe: (n_frames, 128) mel, context of the system turn, and a forced prefix ("" for none)."""

    mel: Mel
    context: str = ""
    prefix: str = ""


def parse_answer(raw: str) -> tuple[str, str]:
    """Return (language, text) of a raw answer; language is "" for no speech or a malformed answer."""
    head, tag, text = raw.partition("<asr_text>")
    if not tag:
        return "", raw.strip()
    language = head.strip().removeprefix("language ").strip()
    return ("" if language == "None" else language), text.strip()


def _batches(requests: Sequence[Request]) -> list[list[int]]:
    order = sorted(range(len(requests)), key=lambda i: len(requests[i].mel))
    batches: list[list[int]] = [[]]
    for index in order:
        if batches[-1] and len(requests[index].mel) * (len(batches[-1]) + 1) > FRAMES_PER_BATCH:
            batches.append([])
        batches[-1].append(index)
    return batches


def transcribe(
    model: Any, vocabulary: Vocabulary, requests: Sequence[Request], tokens_per_s: float = 12.0
) -> list[str]:
    """Return the raw answers of all requests, decoded greedily in left-padded batches.

    Args:
        model: native `Qwen3ASRForConditionalGeneration` in eval mode.
        vocabulary: the checkpoint's tokenizer.
        requests: the clips.
        tokens_per_s: answers are cut after 24 tokens plus this many for each second of audio.
    """
    answers = [""] * len(requests)
    for batch in _batches(requests):
        prompts = [
            vocabulary.prompt(n_audio_tokens(len(requests[i].mel)), requests[i].context)
            + vocabulary.encode(requests[i].prefix)
            for i in batch
        ]
        longest_s = max(len(requests[i].mel) for i in batch) / 100
        ids, mask = left_pad(prompts, vocabulary.ids["<|endoftext|>"])
        mels = pad_mels([requests[i].mel for i in batch])
        frame_mask = torch.zeros(len(batch), mels.shape[2], dtype=torch.long)
        for row, i in enumerate(batch):
            frame_mask[row, : len(requests[i].mel)] = 1
        with torch.inference_mode():
            out = model.generate(
                input_ids=ids, attention_mask=mask, input_features=mels, input_features_mask=frame_mask,
                max_new_tokens=int(24 + tokens_per_s * longest_s), do_sample=False,
                eos_token_id=[vocabulary.ids["<|endoftext|>"], vocabulary.ids["<|im_end|>"]],
                pad_token_id=vocabulary.ids["<|endoftext|>"],
            )  # fmt: skip
        for row, i in enumerate(batch):
            answers[i] = vocabulary.decode(out[row, ids.shape[1] :].tolist())
    return answers


def left_pad(sequences: Sequence[list[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and attention mask [B, S], padded on the left."""
    longest = max(map(len, sequences))
    ids = torch.full((len(sequences), longest), pad_id, dtype=torch.long)
    mask = torch.zeros(len(sequences), longest, dtype=torch.long)
    for row, sequence in enumerate(sequences):
        ids[row, longest - len(sequence) :] = torch.tensor(sequence)
        mask[row, longest - len(sequence) :] = 1
    return ids, mask
