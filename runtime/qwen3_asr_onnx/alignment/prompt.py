"""The forced aligner's prompt as token ids: an audio length and word units in, ids and the positions of the slots out.

    <|audio_start|><|audio_pad|>...<|audio_end|>word<timestamp><timestamp>word<timestamp><timestamp>...

Two slots follow every unit, its start and its end. Units are separate segments for the tokenizer, without spaces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx.text.prompt import build_prompt
from qwen3_asr_onnx.text.tokenizer import Tokenizer

__all__ = ["ALIGNER_TEMPLATE", "AlignmentPrompt", "UnitIds", "build_alignment_prompt", "encode_units", "fixed_tokens"]

ALIGNER_TEMPLATE = "<|audio_start|>{audio}<|audio_end|>"
"""What stands in front of the units; a bundle's manifest holds its own copy. There is no chat template."""

UnitIds = Sequence[Sequence[int]]

SLOTS_PER_UNIT = 2


@dataclass(frozen=True, slots=True, eq=False)
class AlignmentPrompt:
    """One tokenized prompt.

    Attributes:
        ids: (n_tokens,) int64 token ids, audio placeholders and slots included.
        audio_start: index in `ids` of the first audio placeholder.
        slots: (2 n_units,) int64 indices in `ids` of the slots: start and end of the first unit, of the second, ...
    """

    ids: npt.NDArray[np.int64]
    audio_start: int
    slots: npt.NDArray[np.int64]


def encode_units(tokenizer: Tokenizer, units: Sequence[str]) -> list[list[int]]:
    """Return the token ids of every unit, each encoded by itself.

    Raises:
        OptionsError: a unit is not valid Unicode.
    """
    return [tokenizer.encode(unit) for unit in units]


def fixed_tokens(tokenizer: Tokenizer, template: str) -> int:
    """Return how many positions a prompt needs besides its audio, its units and their slots."""
    return len(build_prompt(tokenizer, template, 1).ids) - 1


def build_alignment_prompt(
    tokenizer: Tokenizer, template: str, slot_token: int, n_audio_tokens: int, units: UnitIds
) -> AlignmentPrompt:
    """Return the prompt for one clip.

    Args:
        tokenizer: the bundle's tokenizer.
        template: what stands in front of the units; see `ALIGNER_TEMPLATE`.
        slot_token: id of the token whose positions are asked for times.
        n_audio_tokens: rows of encoder output, at least 1.
        units: token ids of every unit (`encode_units`).

    Raises:
        BundleError: the template holds a token that the tokenizer lacks, or not exactly one {audio}.
    """
    head = build_prompt(tokenizer, template, n_audio_tokens)
    ids = head.ids.tolist()
    slots: list[int] = []
    for unit in units:
        ids += unit
        slots += range(len(ids), len(ids) + SLOTS_PER_UNIT)
        ids += [slot_token] * SLOTS_PER_UNIT
    return AlignmentPrompt(np.array(ids, dtype=np.int64), head.audio_start, np.array(slots, dtype=np.int64))
