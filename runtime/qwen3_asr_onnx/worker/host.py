"""The model that a worker holds: loaded and unloaded on request, shared by all its clients."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from qwen3_asr_onnx.alignment.aligner import Aligner
from qwen3_asr_onnx.async_transcriber import AsyncTranscriber
from qwen3_asr_onnx.model.loading import fetch_prepared

from .faults import INVALID_PARAMS, NO_MODEL, NOT_NOW, Fault

__all__ = ["Choice", "Host"]


@dataclass(frozen=True, slots=True)
class Choice:
    """Which model to load, and how to run it; see `Transcriber`.

    Attributes:
        model: directory, name in the store or hub id; None is the store's default.
        variant: None takes the first one.
        device: "cpu" or "cuda".
        threads: per operator; None uses every core.
        aligner: as `model`, of an aligner; True for the store's default, False for none.
        aligner_variant: None takes the first one.
        batch_size: most pieces that decode together; None lets the memory decide.
    """

    model: str | None = None
    variant: str | None = None
    device: str = "cpu"
    threads: int | None = None
    aligner: str | bool = False
    aligner_variant: str | None = None
    batch_size: int | None = None


class Host:
    """One model at most, and how many requests use it. For one event loop."""

    def __init__(self) -> None:
        self._loaded: AsyncTranscriber | None = None
        self._loading: asyncio.Task[AsyncTranscriber] | None = None
        self._aligner: Aligner | None = None
        self.n_users = 0

    @property
    def info(self) -> dict[str, Any] | None:
        """What is loaded, as plain values; None for nothing."""
        if self._loaded is None:
            return None
        transcriber = self._loaded.transcriber
        return {
            "name": transcriber.manifest.name,
            "variant": transcriber.variant,
            "languages": list(transcriber.manifest.languages),
            "aligner": self._aligner is not None,
        }

    @property
    def is_loading(self) -> bool:
        """Whether a model is being loaded."""
        return self._loading is not None

    async def load(self, choice: Choice) -> None:
        """Load a model.

        Raises:
            Fault: one is loaded, or is being loaded.
            Qwen3AsrError, OSError: as `AsyncTranscriber`.
        """
        if self._loading is not None:
            raise Fault(NOT_NOW, "a model is being loaded; wait for it")
        if self._loaded is not None:
            raise Fault(NOT_NOW, "a model is loaded; unload it first")
        self._loading = asyncio.create_task(asyncio.to_thread(self._load, choice))
        self._loading.add_done_callback(self._has_loaded)
        await asyncio.shield(self._loading)

    def _has_loaded(self, loading: asyncio.Task[AsyncTranscriber]) -> None:
        """Keep what was loaded, whether or not who asked for it still waits."""
        self._loading = None
        if not loading.cancelled() and loading.exception() is None:
            self._loaded = loading.result()

    def _load(self, choice: Choice) -> AsyncTranscriber:
        aligner = None
        if choice.aligner:
            name = None if choice.aligner is True else choice.aligner
            folder = fetch_prepared(name, choice.aligner_variant, choice.device, "aligner")
            aligner = Aligner(folder, choice.aligner_variant, choice.device, choice.threads)
        loaded = AsyncTranscriber(
            fetch_prepared(choice.model, choice.variant, choice.device),
            choice.variant,
            choice.device,
            choice.threads,
            aligner,
            batch_size=choice.batch_size,
        )
        self._aligner = aligner
        return loaded

    async def model(self) -> AsyncTranscriber:
        """Return the model; that which is being loaded, once it is.

        Raises:
            Fault: there is none.
        """
        if self._loading is not None:
            return await asyncio.shield(self._loading)
        if self._loaded is None:
            raise Fault(NO_MODEL, "no model is loaded; send load first")
        return self._loaded

    def require_aligner(self, what: str) -> None:
        """Refuse what needs an aligner where there is none.

        Raises:
            Fault: there is none.
        """
        if self._loaded is not None and self._aligner is None:
            raise Fault(INVALID_PARAMS, f"{what} needs an aligner; load the model with aligner: true, or its name")

    async def unload(self) -> None:
        """Release the model.

        Raises:
            Fault: it is in use, or being loaded.
        """
        if self._loading is not None or self.n_users:
            raise Fault(NOT_NOW, "the model is in use; wait for its requests and streams, or cancel them")
        await self.close()

    async def close(self) -> None:
        """Release whatever there is; requests that are under way end with an error.

        A load that has begun cannot be stopped, and is waited for.
        """
        if self._loading is not None:
            await asyncio.wait([self._loading])
        loaded, self._loaded = self._loaded, None
        aligner, self._aligner = self._aligner, None
        if loaded is not None:
            await loaded.close(finish=False)
        if aligner is not None:
            aligner.close()
