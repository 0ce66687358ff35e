"""faster-whisper: a CTranslate2 Whisper model, greedy, without its own voice detection."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qwen3_asr_onnx_eval.systems.adapters.serve import Answer, Config

__all__ = ["FasterWhisperSystem", "load"]


class FasterWhisperSystem:
    """`WhisperModel.transcribe` with beam size 1 and independent segments."""

    def __init__(self, config: Config) -> None:
        from faster_whisper import WhisperModel
        from faster_whisper.tokenizer import _LANGUAGE_CODES

        self._codes = frozenset(_LANGUAGE_CODES)
        compute_type = config["precision"] or "int8"
        self._model = WhisperModel(
            config["model"], device="cpu", compute_type=compute_type, cpu_threads=config["threads"]
        )
        file = Path(config["model"], "model.bin")
        self.info: dict[str, Any] = {
            "size_bytes": file.stat().st_size if file.exists() else None,
            "compute_type": compute_type,
            "versions": {name: version(name) for name in ("faster-whisper", "ctranslate2", "numpy")},
        }

    def transcribe(self, waveform: Any, language: str | None) -> Answer:
        """Return what Whisper writes."""
        code = _code(language, self._codes) if language else None
        segments, found = self._model.transcribe(
            waveform, language=code, beam_size=1, condition_on_previous_text=False, vad_filter=False
        )
        text = "".join(segment.text for segment in segments).strip()
        return {"text": text, "language": found.language if text else "", "stop_reason": None}


def _code(language: str, known: frozenset[str]) -> str:
    from qwen3_asr_onnx.text.languages import LANGUAGE_CODES

    code = LANGUAGE_CODES.get(language, "")
    code = {"fil": "tl"}.get(code, code)
    if code not in known:
        raise ValueError(f"Whisper does not know {language}")
    return code


def load(config: Config) -> FasterWhisperSystem:
    """Load a model folder, or a name that faster-whisper resolves."""
    return FasterWhisperSystem(config)
