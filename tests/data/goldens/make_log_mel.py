"""Write log_mel.npz: features of upstream transformers for cuts of one clip, the expected side of test_features.py.

Run from anywhere with transformers >= 5.13, torch and soundfile: `python tests/data/goldens/make_log_mel.py`. It never
imports this project. The samples are stored with the features, so the test needs no audio decoder.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import transformers
from transformers import Qwen3ASRFeatureExtractor

HERE = Path(__file__).parent
SOURCE = HERE.parent / "audio" / "en_jfk_5s.flac"

START = 8_000
"""Cuts begin at 0.5 s, where the speaker is in mid-word: no cut starts or ends in silence."""

LENGTHS = (1, 100, 201, 1_600, 7_999, 8_001, 12_345, 33_333)

EXTRACTOR: Any = Qwen3ASRFeatureExtractor()

STRIDE = 5
"""Of the whole clip every fifth frame is kept; that is enough to see a shift, and small."""


def features(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return (128, n_frames) float32 as transformers computes it for one clip alone."""
    batch = EXTRACTOR(samples, sampling_rate=16_000, padding="longest", n_window=0, return_tensors="np")
    mel: npt.NDArray[np.float32] = batch["input_features"][0]
    return mel


def main() -> None:
    """Write the file next to this script."""
    pcm, rate = soundfile.read(SOURCE, dtype="int16")
    assert rate == 16_000
    samples = (pcm / 32_768).astype(np.float32)
    arrays: dict[str, Any] = {f"mel_{length}": features(samples[START : START + length]) for length in LENGTHS}
    arrays["mel_whole_every_5th"] = features(samples)[:, ::STRIDE]
    arrays["mel_filters"] = EXTRACTOR.mel_filters.astype(np.float32)
    np.savez_compressed(
        HERE / "log_mel.npz", pcm=pcm, start=START, stride=STRIDE, transformers=transformers.__version__, **arrays
    )


if __name__ == "__main__":
    main()
