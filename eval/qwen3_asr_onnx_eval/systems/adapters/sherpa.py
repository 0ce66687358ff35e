"""sherpa-onnx: any of its offline recognisers, described by a JSON file.

    {"type": "whisper", "encoder": "tiny-encoder.onnx", "decoder": "tiny-decoder.onnx", "tokens": "tiny-tokens.txt"}

`type` names the constructor `OfflineRecognizer.from_TYPE`, the other keys are its arguments. Values that name a file
beside the JSON file become its path.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qwen3_asr_onnx_eval.systems.adapters.serve import Answer, Config

__all__ = ["SherpaSystem", "load"]

SAMPLE_RATE = 16_000


class SherpaSystem:
    """`sherpa_onnx.OfflineRecognizer`."""

    def __init__(self, config: Config) -> None:
        import sherpa_onnx

        description = Path(config["model"])
        fields = json.loads(description.read_text(encoding="utf-8"))
        constructor = getattr(sherpa_onnx.OfflineRecognizer, f"from_{fields.pop('type')}")
        files = {
            key: description.parent / value
            for key, value in fields.items()
            if isinstance(value, str) and value and (description.parent / value).is_file()
        }
        arguments = {**fields, **{key: str(path) for key, path in files.items()}, "num_threads": config["threads"]}
        self._recognizer = constructor(**arguments)
        self.info: dict[str, Any] = {
            "size_bytes": sum(path.stat().st_size for path in files.values()),
            "versions": {name: version(name) for name in ("sherpa-onnx", "numpy")},
        }

    def transcribe(self, waveform: Any, language: str | None) -> Answer:
        """Return what the recogniser writes."""
        if language is not None:
            raise ValueError("sherpa-onnx takes its language from the JSON file; do not force one here")
        stream = self._recognizer.create_stream()
        stream.accept_waveform(SAMPLE_RATE, waveform)
        self._recognizer.decode_stream(stream)
        return {"text": stream.result.text.strip(), "language": stream.result.lang or None, "stop_reason": None}


def load(config: Config) -> SherpaSystem:
    """Load the recogniser that a JSON file describes."""
    return SherpaSystem(config)
