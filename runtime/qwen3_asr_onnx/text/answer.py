"""What the model wrote, made presentable: language and transcript apart, loops collapsed, a segment made of it.

Parsing and clean-up give exactly what the official package (qwen-asr 0.0.6) gives for the same string; joining differs
on purpose, because the official one glues the last word of a piece to the first word of the next.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from qwen3_asr_onnx.results import End, Segment, StopReason

from .languages import joins_with_space, normalize_name
from .scripts import is_spaceless
from .tokenizer import Tokenizer

__all__ = [
    "NOBODY",
    "NO_SPEECH",
    "REPLACEMENT",
    "TEXT_TAG",
    "ParsedOutput",
    "TextJoiner",
    "collapse_repetitions",
    "heard_speech",
    "join_texts",
    "lacks_tag",
    "language_probability",
    "make_segment",
    "merge_languages",
    "named_language",
    "parse_output",
    "read_answer",
]

TEXT_TAG = "<asr_text>"
"""The special token between the language and the transcript."""

REPLACEMENT = "\ufffd"
"""What half a character at the end of an answer is decoded to."""

NOBODY = "None"
"""What the model names as the language when nobody speaks."""

_LANGUAGE_PREFIX = "language "
_NOBODY = _LANGUAGE_PREFIX + NOBODY.lower()

_MAX_PATTERN_CHARS = 20
_MIN_PATTERN_CHARS = 2  # a pattern is looked for only where this many characters could still repeat


@dataclass(frozen=True, slots=True)
class ParsedOutput:
    """One model output taken apart.

    Attributes:
        language: the forced or the detected language name; "" when the model heard no speech or named none.
        text: the transcript, loops collapsed.
    """

    language: str
    text: str


NO_SPEECH = ParsedOutput("", "")


def parse_output(raw: str, forced_language: str | None = None, tag: str = TEXT_TAG) -> ParsedOutput:
    """Return language and transcript of one model output.

    Unforced output reads `language English<asr_text>transcript`; forced output is the transcript alone and is not
    searched for a tag. Empty output gives language "" even when a language was forced.

    Args:
        raw: decoded output, special tokens dropped.
        forced_language: the language name that was put in the prompt, if any.
        tag: the special token before the transcript, as the manifest names it.
    """
    stripped = raw.strip()
    if not stripped:
        return ParsedOutput("", "")
    cleaned = collapse_repetitions(stripped)
    if forced_language:
        return ParsedOutput(forced_language, cleaned)
    meta, found, text = cleaned.partition(tag)
    if not found:
        return ParsedOutput("", cleaned.strip())
    return ParsedOutput(_language_of(meta), text.strip())


def named_language(raw: str, tag: str = TEXT_TAG) -> str:
    """Return the language that an unforced output names, whatever stands behind it; "" where it names none, or not yet.

    Args:
        raw: decoded output, or the beginning of one.
        tag: the special token before the transcript, as the manifest names it.
    """
    meta, found, _ = raw.partition(tag)
    return _language_of(meta) if found else ""


def heard_speech(raw: str, forced_language: str | None = None, tag: str = TEXT_TAG) -> bool:
    """Return whether a model output claims that there was speech.

    It does not when it is empty, when it says `language None`, and when it never gets to the text tag. The official
    package shows what stands after `language None` or without a tag as transcript; it is not one.

    Args:
        raw: decoded output, special tokens dropped.
        forced_language: the language name that was put in the prompt, if any; the output is then the transcript alone.
        tag: the special token before the transcript, as the manifest names it.
    """
    if forced_language:
        return bool(raw.strip())
    meta, found, _ = raw.partition(tag)
    return bool(found) and _NOBODY not in meta.lower()


def lacks_tag(raw: str, forced_language: str | None = None, tag: str = TEXT_TAG) -> bool:
    """Return whether a model output is neither a transcript nor the claim that nobody speaks; as `heard_speech`."""
    return not forced_language and bool(raw.strip()) and tag not in raw and _NOBODY not in raw.lower()


def read_answer(raw: str, forced_language: str | None = None, tag: str = TEXT_TAG) -> ParsedOutput:
    """Return language and transcript of one model output, both "" where it claims no speech; see `heard_speech`."""
    return parse_output(raw, forced_language, tag) if heard_speech(raw, forced_language, tag) else NO_SPEECH


def make_segment(
    bounds_s: tuple[float, float],
    answer: ParsedOutput,
    token_ids: tuple[int, ...],
    logprobs: tuple[float, ...],
    end: End,
    *,
    raw: str = "",
    leaked: bool = False,
    untagged: bool = False,
    interrupted: StopReason | None = None,
) -> Segment:
    """Return the segment of one answer; fields that have a default are left to the caller.

    Args:
        bounds_s: start and end of the piece in seconds of the input.
        answer: what was said; dropped when it leaked.
        token_ids: every generated id, stop token excluded.
        logprobs: natural-log probability of each of them, and of the stop token where there was one.
        end: why the writing ended.
        raw: the decoded output, where a loop in it that was collapsed is to be told: it says more than the limit that
            the loop usually runs into.
        leaked: the words are those of the context (`loops.is_context_leak`).
        untagged: something was written, but not behind a tag (`lacks_tag`), on audio that may hold speech.
        interrupted: the reason behind the end "interrupt".
    """
    reason: StopReason
    if leaked:
        answer, reason = NO_SPEECH, "context_leak"
    elif end == "interrupt":
        assert interrupted is not None
        reason = interrupted
    elif end == "watch" or collapse_repetitions(raw) != raw:
        reason = "repetition"
    elif end == "limit":
        reason = "length"
    else:
        reason = "eos" if answer.text else "no_tag" if untagged else "no_speech"
    average = sum(logprobs) / len(logprobs) if logprobs else 0.0
    written = logprobs[: len(token_ids)]
    return Segment(
        *bounds_s, answer.text, answer.language, token_ids, reason, average, written, n_logprobs=len(logprobs)
    )


def language_probability(
    tokenizer: Tokenizer, ids: Sequence[int], logprobs: Sequence[float], tag: str = TEXT_TAG
) -> float | None:
    """Return the probability of what stands before the text tag, "language English"; None without a tag."""
    tag_id = tokenizer.special_id(tag)
    return math.exp(sum(logprobs[: ids.index(tag_id)])) if tag_id in ids else None


def collapse_repetitions(text: str, threshold: int = 20) -> str:
    """Return the text with runaway repetition reduced to one copy.

    First every run of more than `threshold` equal characters becomes one character; then, from left to right, every
    pattern of 1 to 20 characters repeated at least `threshold` times becomes one copy, the shortest pattern first. As
    in the official clean-up, no pattern is looked for in the last `2 * threshold - 1` characters.

    Time is linear in the length of the text: at each character at most 20 patterns are compared, and a repetition that
    is found is stepped over whole.

    Args:
        text: any text.
        threshold: copies that make a repetition, at least 1.
    """
    assert threshold >= 1
    text = re.sub(rf"(.)\1{{{threshold},}}", r"\1", text, flags=re.DOTALL)
    # Lazy {1,20}? tries the shortest pattern first; greedy {n,} then takes all its copies.
    pattern = re.compile(rf"(.{{1,{_MAX_PATTERN_CHARS}}}?)\1{{{threshold - 1},}}", re.DOTALL)
    last_start = len(text) - _MIN_PATTERN_CHARS * threshold
    kept: list[str] = []
    position = 0
    while position <= last_start:
        match = pattern.search(text, position)
        if match is None or match.start() > last_start:
            break
        kept += [text[position : match.start()], match[1]]
        position = match.end()
    return "".join([*kept, text[position:]])


def merge_languages(languages: Iterable[str]) -> str:
    """Return the languages of consecutive pieces as one string: "Chinese,English,Chinese".

    Empty names are left out and neighbours that are equal are named once.
    """
    merged: list[str] = []
    for name in (language.strip() for language in languages):
        if name and (not merged or merged[-1] != name):
            merged.append(name)
    return ",".join(merged)


class TextJoiner:
    """The transcripts of consecutive pieces as one text that grows.

    Pieces are joined with a space unless both are in a language written without spaces; even then two words in Latin
    letters or digits that would meet are kept apart. A piece without a language is judged by its script.
    """

    def __init__(self) -> None:
        self._last, self._language = "", ""

    def add(self, text: str, language: str) -> str:
        """Return what the next piece adds to the text; "" for a blank one, which is passed over."""
        if not text.strip():
            return ""
        glue = " " if self._last and _needs_space(self._last, self._language, text[0], language) else ""
        self._last, self._language = text[-1], language
        return glue + text


def join_texts(pieces: Iterable[tuple[str, str]]) -> str:
    """Return the transcripts of consecutive pieces as one text; see `TextJoiner`.

    Args:
        pieces: (text, language name) in order.
    """
    joiner = TextJoiner()
    return "".join(joiner.add(text, language) for text, language in pieces)


def _language_of(meta: str) -> str:
    """Return the language named in what precedes the text tag, "" when none is."""
    if _NOBODY in meta.lower():
        return ""
    for line in meta.splitlines():
        entry = line.strip()
        if entry.lower().startswith(_LANGUAGE_PREFIX):
            return normalize_name(entry[len(_LANGUAGE_PREFIX) :])
    return ""


def _needs_space(left: str, left_language: str, right: str, right_language: str) -> bool:
    """Return whether a space belongs between two pieces, given the characters that would touch and their languages."""
    if left.isspace() or right.isspace():
        return False
    if _uses_spaces(left, left_language) or _uses_spaces(right, right_language):
        return True
    return all(char.isalnum() and not is_spaceless(char) for char in (left, right))


def _uses_spaces(char: str, language: str) -> bool:
    return joins_with_space(language) if language else not is_spaceless(char)
