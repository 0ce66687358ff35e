"""Which part of a growing answer is final, and what the listener reads of it: token ids in, text out."""

from __future__ import annotations

from collections.abc import Sequence

from qwen3_asr_onnx.model.asking import Prompter
from qwen3_asr_onnx.text.answer import (
    REPLACEMENT,
    ParsedOutput,
    collapse_repetitions,
    heard_speech,
    join_texts,
    lacks_tag,
    read_answer,
)
from qwen3_asr_onnx.text.languages import joins_with_space

__all__ = ["AnswerReader", "TextJoiner"]


class AnswerReader:
    """Reads the answers of one stream.

    The text of an answer is what follows its tag; a forced language puts the tag into the prompt.
    """

    def __init__(self, prompter: Prompter) -> None:
        self._tokenizer = prompter.model.tokenizer
        self._forced = prompter.language
        self._tag = prompter.tag

    def parse(self, ids: Sequence[int]) -> ParsedOutput:
        """Return language and text of an answer as for a recording: neither where no speech was heard."""
        return read_answer(self._tokenizer.decode(ids).strip().rstrip(REPLACEMENT), self._forced, self._tag)

    def lacks_tag(self, ids: Sequence[int]) -> bool:
        """Return whether an answer is neither a transcript nor the claim that nobody speaks."""
        return lacks_tag(self._tokenizer.decode(ids), self._forced, self._tag)

    def body(self, ids: Sequence[int]) -> str:
        """Return the text of an answer, or of its beginning, as written; without half a character at its end."""
        return self._written(ids).rstrip(REPLACEMENT)

    def final_text(self, ids: Sequence[int], n_committed: int) -> str:
        """Return the text of a complete answer of which the first ids are committed.

        Loops are collapsed in what is not committed; what is committed stays as it is.
        """
        committed = self.body(ids[:n_committed])
        if not committed:
            return self.parse(ids).text
        return committed + collapse_repetitions(self.body(ids)[len(committed) :]).rstrip()

    def header(self, ids: Sequence[int]) -> list[int]:
        """Return the ids up to the tag and with it; none when the language is forced or no tag has come."""
        for end in range(1, len(ids) + 1):
            if self._tag in self._tokenizer.decode(ids[:end]):
                return list(ids[:end])
        return []

    def word_end(self, ids: Sequence[int], n: int) -> int:
        """Return the largest count of ids, `n` at most, after which a word is complete; 0 when there is none.

        In languages written with spaces a word is complete when the next id begins with one; in others any character
        will do. Nothing is complete in an answer without words.
        """
        language = self.parse(ids).language
        spaced = not language or joins_with_space(language)
        whole = self._written(ids)
        for end in range(n, 0, -1):
            text = self._written(ids[:end])
            rest = whole[len(text) :]
            # A half character makes the beginning of an answer differ from the answer's beginning.
            if (
                text
                and rest
                and whole.startswith(text)
                and not text[-1].isspace()
                and (rest[0].isspace() or not spaced)
            ):
                return end
        return 0

    def _written(self, ids: Sequence[int]) -> str:
        raw = self._tokenizer.decode(ids)
        if not heard_speech(raw, self._forced, self._tag):
            return ""
        return (raw if self._forced else raw.partition(self._tag)[2]).lstrip()


class TextJoiner:
    """Joins the segments of an endless transcript, remembering only the end of it."""

    def __init__(self) -> None:
        self._last, self._language = "", ""

    def append(self, text: str, language: str, *, continues: bool) -> str:
        """Return what `text` adds to the transcript: itself, after a space where it begins a segment and needs one.

        Args:
            text: the next piece; "" adds nothing.
            language: the segment's language.
            continues: whether it continues a segment of which something was appended before.
        """
        if not text:
            return ""
        joined = text
        if self._last and not continues:
            joined = join_texts([(self._last, self._language), (text, language)])[len(self._last) :]
        self._last, self._language = text[-1], language
        return joined
