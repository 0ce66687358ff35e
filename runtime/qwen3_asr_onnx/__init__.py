"""Run Qwen3-ASR with numpy and onnxruntime: audio in, text out, no torch.

from qwen3_asr_onnx import Transcriber

print(Transcriber("bundle/").transcribe("talk.flac").text)
"""

import logging
import typing

from .alignment.aligner import Aligner
from .async_transcriber import AsyncTranscriber
from .audio.loading import AudioLimits, CancelledMixWarning, TruncatedAudioWarning, load_audio
from .bundle.files import Bundle
from .errors import (
    AudioError,
    BundleError,
    BusyError,
    LimitError,
    MissingExtra,
    OptionsError,
    ProviderError,
    Qwen3AsrError,
    StreamError,
)
from .model.holding import Memory
from .options import AlignOptions, StreamOptions, TranscribeOptions
from .results import Partial, Segment, Timings, Transcript, Word
from .stream.stream import Stream
from .stream.updates import StreamUpdate
from .transcriber import Transcriber

__all__ = [
    "AlignOptions",
    "Aligner",
    "AsyncTranscriber",
    "AudioError",
    "AudioLimits",
    "Bundle",
    "BundleError",
    "BusyError",
    "CancelledMixWarning",
    "LimitError",
    "Memory",
    "MissingExtra",
    "OptionsError",
    "Partial",
    "ProviderError",
    "Qwen3AsrError",
    "Segment",
    "Stream",
    "StreamError",
    "StreamOptions",
    "StreamUpdate",
    "Timings",
    "TranscribeOptions",
    "Transcriber",
    "Transcript",
    "TruncatedAudioWarning",
    "Word",
    "load_audio",
]

__version__: str

# A library says nothing until the program asks: logging.getLogger("qwen3_asr_onnx").setLevel(...) and a handler.
logging.getLogger(__name__).addHandler(logging.NullHandler())

if not typing.TYPE_CHECKING:  # for a type checker, a module that answers for one name answers for every misspelled one

    def __getattr__(name: str) -> str:
        """Return the installed version; read when asked for, because metadata takes as long as the import itself."""
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib.metadata import version

        return version("qwen3-asr-onnx")
