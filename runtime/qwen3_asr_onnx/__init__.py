"""Run Qwen3-ASR with numpy and onnxruntime: audio in, text out, no torch."""

from .bundle import Bundle
from .errors import AudioError, BundleError, LimitError, MissingExtra, OptionsError, ProviderError, Qwen3AsrError
from .types import Segment, TranscribeOptions, Transcript, Word

__all__ = [
    "AudioError",
    "Bundle",
    "BundleError",
    "LimitError",
    "MissingExtra",
    "OptionsError",
    "ProviderError",
    "Qwen3AsrError",
    "Segment",
    "TranscribeOptions",
    "Transcript",
    "Word",
]
