"""Checkpoints and bundles of the parity tests, each made once per session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the export extra")
pytest.importorskip("transformers", reason="needs the export extra")

from tests.parity.oracle import Reference, reference, synthetic_clip
from tests.support.checkpoints import SHAPES, CheckpointOptions, Layout, make_checkpoint
from tests.support.traces import made_once, shared_folder, traced_once

from qwen3_asr_onnx.transcriber import Transcriber

CheckpointMaker = Callable[[str, Layout], Path]
BundleMaker = Callable[[str, Layout], Path]
TranscriberMaker = Callable[[str, Layout], Transcriber]
Expectation = Callable[[str, float], Reference]


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread() -> Iterator[None]:
    """Models this small only wait for their threads, and wait long where another job has taken a core."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, real_tokenizer_dir: Path) -> CheckpointMaker:
    """Return a function (shape name, layout) -> checkpoint directory."""
    root = shared_folder(tmp_path_factory)

    def make(name: str, layout: Layout) -> Path:
        options = CheckpointOptions(layout=layout)
        return made_once(
            root / f"checkpoint-{name}-{layout}",
            lambda path: make_checkpoint(path, SHAPES[name], options, real_tokenizer_dir=real_tokenizer_dir),
        )

    return make


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, checkpoint: CheckpointMaker) -> BundleMaker:
    """Return a function (shape name, layout) -> bundle directory."""
    from qwen3_asr_onnx_export.pipeline import export_checkpoint

    root = shared_folder(tmp_path_factory)

    def make(name: str, layout: Layout) -> Path:
        source = checkpoint(name, layout)
        # The exporter's own check is left out: here the expected side is transformers' alone.
        with traced_once(tmp_path_factory):
            return made_once(
                root / f"bundle-{name}-{layout}", lambda path: export_checkpoint(source, path, check=False)
            )

    return make


@pytest.fixture(scope="session")
def transcriber(bundle: BundleMaker) -> Iterator[TranscriberMaker]:
    """Return a function (shape name, layout) -> loaded transcriber."""
    loaded: dict[tuple[str, Layout], Transcriber] = {}

    def load(name: str, layout: Layout) -> Transcriber:
        if (name, layout) not in loaded:
            loaded[name, layout] = Transcriber(bundle(name, layout))
        return loaded[name, layout]

    yield load
    for one in loaded.values():
        one.close()


@pytest.fixture(scope="session")
def expected(checkpoint: CheckpointMaker) -> Expectation:
    """Return a function (shape name, seconds) -> what transformers computes for the synthetic clip of that length."""
    known: dict[tuple[str, float], Reference] = {}

    def compute(name: str, seconds: float) -> Reference:
        if (name, seconds) not in known:
            known[name, seconds] = reference(checkpoint(name, "hf"), synthetic_clip(seconds))
        return known[name, seconds]

    return compute
