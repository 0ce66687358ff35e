"""Run Qwen3-ASR with numpy and onnxruntime: audio in, text out, no torch.

from qwen3_asr_onnx import Transcriber

print(Transcriber("bundle/").transcribe("talk.flac").text)
"""

from .alignment.aligner import Aligner
from .audio.loading import AudioLimits, TruncatedAudioWarning, load_audio
from .bundle.files import Bundle
from .errors import (
    AudioError,
    BundleError,
    LimitError,
    MissingExtra,
    OptionsError,
    ProviderError,
    Qwen3AsrError,
    StreamError,
)
from .options import AlignOptions, StreamOptions, TranscribeOptions
from .results import Segment, Timings, Transcript, Word
from .stream.stream import Stream
from .stream.updates import StreamUpdate
from .transcriber import Transcriber

__all__ = [
    "AlignOptions",
    "Aligner",
    "AudioError",
    "AudioLimits",
    "Bundle",
    "BundleError",
    "LimitError",
    "MissingExtra",
    "OptionsError",
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
