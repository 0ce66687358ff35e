"""An aligner without a model, for tests of what is built on one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from qwen3_asr_onnx.alignment.aligner import Aligner, Words
from qwen3_asr_onnx.arrays import Waveform
from qwen3_asr_onnx.bundle.manifest import TimestampHead
from qwen3_asr_onnx.results import Word


class RecordingAligner(Aligner):
    """Gives every word of a text a tenth of a second and notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.tokenizer = None  # type: ignore[assignment]
        self.manifest = SimpleNamespace(  # type: ignore[assignment]
            timestamps=TimestampHead(5000, 80, 151705), languages=("Chinese", "English", "German")
        )

    def align_many(
        self, audios: Any, texts: Any, languages: Any, options: Any = None, progress: Any = None, **changes: Any
    ) -> list[Words]:
        assert not options.refine  # or times would differ from the official ones
        self.asked += zip(texts, languages, strict=True)
        return [self.words(text, 0.0) for text in texts]

    def align_waveform(
        self, waveform: Waveform, text: str, language: str, offset_s: float = 0.0, options: Any = None
    ) -> Words:
        assert not options.refine
        self.asked.append((waveform.size, text, language, offset_s))
        return self.words(text, offset_s)

    def words(self, text: str, offset_s: float) -> Words:
        return tuple(
            Word(word, offset_s + 0.1 * number, offset_s + 0.1 * (number + 1), unit=word.strip(",."))
            for number, word in enumerate(text.split())
        )
