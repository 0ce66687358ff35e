"""The chat prompt as token ids: context and forced language in, ids with a run of audio placeholders out."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx.errors import BundleError

from .tokenizer import Tokenizer

__all__ = ["AUDIO_TOKEN", "END_OF_TURN", "FORCED_PREFIX", "TEMPLATE", "Prompt", "build_prompt"]

TEMPLATE = (
    "<|im_start|>system\n{context}<|im_end|>\n"
    "<|im_start|>user\n<|audio_start|>{audio}<|audio_end|><|im_end|>\n"
    "<|im_start|>assistant\n{forced}"
)
"""The official chat template for one clip, as strings; a bundle's manifest holds its own copy."""

FORCED_PREFIX = "language {language}<asr_text>"
"""How the assistant turn starts when the language is forced: the model then writes only the transcript."""

AUDIO_TOKEN = "<|audio_pad|>"  # noqa: S105 - a placeholder in the prompt, not a secret
"""The token repeated once per row of encoder output, whose embeddings those rows replace."""

END_OF_TURN = "<|im_end|>"
"""The token that ends an answer, as it ends every turn of the template."""

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
# Whatever looks like a special token in a template must be one: spelling it out as plain text would go unnoticed.
_SPECIAL_OR_AUDIO = re.compile(r"(<\|?\w+\|?>|\{audio\})")


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """One tokenized prompt.

    Attributes:
        ids: (n_tokens,) int64 token ids, audio placeholders included.
        audio_start: index in `ids` of the first audio placeholder.
        n_audio_tokens: how many placeholders follow each other from there.
    """

    ids: npt.NDArray[np.int64]
    audio_start: int
    n_audio_tokens: int


def build_prompt(
    tokenizer: Tokenizer,
    template: str,
    n_audio_tokens: int,
    context: str = "",
    language: str | None = None,
    forced: str = FORCED_PREFIX,
    audio_token: str = AUDIO_TOKEN,
) -> Prompt:
    """Return the prompt for one clip.

    Text between two special tokens is one BPE segment, as in training: a context that starts with a newline merges with
    the newline before it. The context is inserted as plain text after the template has been split at its special
    tokens, so nothing written in it can act as one.

    Args:
        tokenizer: the bundle's tokenizer.
        template: text with special tokens and the placeholders {context}, {audio} and {forced}; see `TEMPLATE`.
        n_audio_tokens: rows of encoder output, at least 1.
        context: background text for the system turn.
        language: name as the model spells it (`languages.resolve_language`), or None to let the model detect it.
        forced: what {forced} stands for when a language is given, with the placeholder {language}.
        audio_token: the special token that {audio} is made of.

    Raises:
        BundleError: the template has an unknown placeholder, not exactly one {audio}, or a token the tokenizer lacks.
        OptionsError: the context is not valid Unicode.
    """
    assert n_audio_tokens >= 1, "the encoder gives at least one row"
    whole = template.replace("{forced}", forced if language is not None else "")
    if whole.count("{audio}") != 1:
        raise BundleError(f"prompt template {template!r} must hold {{audio}} exactly once; export the bundle again")
    values = {"context": context, "language": language or ""}
    ids: list[int] = []
    audio_start = 0
    for part in _SPECIAL_OR_AUDIO.split(whole):
        if part == "{audio}":
            audio_start = len(ids)
            ids.extend([tokenizer.special_id(audio_token)] * n_audio_tokens)
        elif _SPECIAL_OR_AUDIO.fullmatch(part):
            ids.append(tokenizer.special_id(part))
        else:
            ids.extend(tokenizer.encode(_fill(part, values)))
    return Prompt(np.array(ids, dtype=np.int64), audio_start, n_audio_tokens)


def _fill(text: str, values: dict[str, str]) -> str:
    """Return template text with its placeholders replaced once; braces inside the values are left alone."""

    def value(match: re.Match[str]) -> str:
        try:
            return values[match[1]]
        except KeyError:
            raise BundleError(
                f"prompt template has an unknown placeholder {match[0]}; export the bundle again"
            ) from None

    return _PLACEHOLDER.sub(value, text)
