"""Our runtime: a bundle and the name of one of its variants."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from qwen3_asr_onnx.bundle.files import Bundle
from qwen3_asr_onnx.options import TranscribeOptions
from qwen3_asr_onnx.transcriber import Transcriber

if TYPE_CHECKING:
    from qwen3_asr_onnx_eval.systems.adapters.serve import Answer, Config

__all__ = ["OurSystem", "load"]


class OurSystem:
    """One variant of a bundle."""

    def __init__(self, config: Config) -> None:
        bundle = Bundle.open(config["model"])
        self._asr = Transcriber(bundle, config["precision"] or None, threads=config["threads"])
        manifest = bundle.manifest
        variant = manifest.variants[self._asr.variant]
        files = variant.files
        self.info: dict[str, Any] = {
            "size_bytes": sum(manifest.files[name].size for name in files),
            "sha256": {name: manifest.files[name].sha256 for name in files},
            "variant": self._asr.variant,
            "recipe": dict(variant.recipe),
            "versions": {name: version(name) for name in ("qwen3-asr-onnx", "onnxruntime", "numpy")},
        }

    def transcribe(self, waveform: Any, language: str | None) -> Answer:
        """Return what the runtime writes."""
        found = self._asr.transcribe(waveform, TranscribeOptions(language=language))
        return {"text": found.text, "language": found.language, "stop_reason": found.stop_reason}


def load(config: Config) -> OurSystem:
    """Load a variant."""
    return OurSystem(config)
