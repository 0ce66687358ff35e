"""The Python interface of the official package (qwen-asr 0.0.6) on this runtime: same names, arguments and results.

    from qwen3_asr_onnx.compat import Qwen3ASRModel     # was: from qwen_asr import Qwen3ASRModel

    model = Qwen3ASRModel.from_pretrained("Qwen/Qwen3-ASR-0.6B", forced_aligner="Qwen/Qwen3-ForcedAligner-0.6B")
    for result in model.transcribe(["a.wav", "b.wav"], language="English", return_time_stamps=True):
        print(result.language, result.text, result.time_stamps)

A script needs another import and nothing else. What differs on purpose is listed in
runtime/COMPAT.md. Arguments that steer PyTorch or vLLM and mean nothing here raise a `CompatWarning`.
"""

from .aligner import Qwen3ForcedAligner
from .arguments import CompatWarning
from .asr import Qwen3ASRModel, parse_asr_output
from .results import ASRTranscription, ForcedAlignItem, ForcedAlignResult
from .streaming import ASRStreamingState

__all__ = [
    "ASRStreamingState",
    "ASRTranscription",
    "CompatWarning",
    "ForcedAlignItem",
    "ForcedAlignResult",
    "Qwen3ASRModel",
    "Qwen3ForcedAligner",
    "parse_asr_output",
]
