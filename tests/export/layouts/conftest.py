"""The miniature as a bundle of three variants, and in every layout, each made once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pytest
from tests.support.traces import made_once, shared_folder

pytest.importorskip("onnx_ir", reason="needs the get extra")
pytest.importorskip("soundfile", reason="needs the audio extra")

from qwen3_asr_onnx import Transcriber
from qwen3_asr_onnx.audio.loading import load_audio
from qwen3_asr_onnx.model.features import log_mel, n_audio_tokens
from qwen3_asr_onnx.text.prompt import TEMPLATE, build_prompt
from qwen3_asr_onnx.text.tokenizer import Tokenizer
from qwen3_asr_onnx_export.layouts.packaging import write_layout
from qwen3_asr_onnx_export.pipeline import export_checkpoint
from qwen3_asr_onnx_quantize.apply import quantize_bundle
from qwen3_asr_onnx_quantize.recipes.recipe import load_recipe

DATA = Path(__file__).parents[2] / "data"
MINI, CLIPS = DATA / "mini-asr", DATA / "mini-clips"
AUDIO, STOPS = 1021, (1016, 1018)

MakeLayout: TypeAlias = Callable[[str, str], Path]


@dataclass(frozen=True)
class Clip:
    """One clip: its features, how many audio tokens they give, and the prompt for it."""

    samples: npt.NDArray[np.float32]
    mel: npt.NDArray[np.float32]
    n_tokens: int
    prompt: list[int]


@pytest.fixture(scope="session")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make(path: Path) -> None:
        export_checkpoint(MINI, path, check=False)
        for recipe in ("int8", "int4", "int8-tied"):
            quantize_bundle(path, load_recipe(recipe))

    return made_once(shared_folder(tmp_path_factory) / "layouts_mini", make)


@pytest.fixture(scope="session")
def layout_of(mini: Path, tmp_path_factory: pytest.TempPathFactory) -> MakeLayout:
    def made(layout: str, variant: str) -> Path:
        folder = shared_folder(tmp_path_factory) / f"layouts_mini_{layout}_{variant}"
        return made_once(folder, lambda path: write_layout(mini, path, layout, variant=variant))

    return made


@pytest.fixture(scope="session")
def clip_of(mini: Path) -> Callable[[str], Clip]:
    tokenizer = Tokenizer.from_file(mini / "tokenizer.json")

    def clip(name: str) -> Clip:
        samples = load_audio(CLIPS / f"{name}.flac")
        mel = log_mel(samples)
        n_tokens = n_audio_tokens(mel.shape[1], 100)
        return Clip(samples, mel, n_tokens, build_prompt(tokenizer, TEMPLATE, n_tokens).ids.tolist())

    return clip


@pytest.fixture(scope="session")
def ours(mini: Path) -> Callable[[str, str], list[int]]:
    """What our runtime writes of a clip, by variant: the ids without the last, which ends the answer."""
    loaded: dict[str, Transcriber] = {}

    def ids(name: str, variant: str) -> list[int]:
        if variant not in loaded:
            loaded[variant] = Transcriber(mini, variant=variant)
        answer = loaded[variant].transcribe(CLIPS / f"{name}.flac")
        (segment,) = answer.segments
        return [one for one in segment.token_ids if one not in STOPS]

    return ids
