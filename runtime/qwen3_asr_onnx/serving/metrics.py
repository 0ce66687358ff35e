"""What a server counts, for Prometheus; nothing where prometheus-client is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qwen3_asr_onnx.results import Transcript

from .errors import ApiError

if TYPE_CHECKING:
    from .state import State

__all__ = ["Metrics"]


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        self._registry: Any = None
        try:
            import prometheus_client as client
        except ImportError:
            return
        self._registry = client.CollectorRegistry()
        own = {"registry": self._registry, "namespace": "qwen3_asr"}
        self._requests = client.Counter("requests", "Requests answered", ["route", "status"], **own)
        self._seconds = client.Histogram("request_seconds", "Seconds from request to the end of its reply", **own)
        self._audio = client.Counter("audio_seconds", "Seconds of audio transcribed", **own)
        self._tokens = client.Counter("tokens", "Tokens written", **own)
        self._ends = client.Counter("segments", "Segments by why they ended", ["stop_reason"], **own)
        self._active = client.Gauge("requests_active", "Requests being transcribed", **own)
        self._waiting = client.Gauge("requests_waiting", "Requests that have not begun", **own)
        self._waiting_s = client.Gauge("waiting_audio_seconds", "Seconds of audio that have not begun", **own)
        self._loaded = client.Gauge("model_loaded", "Whether the model is loaded", **own)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        if self._registry is not None:
            self._requests.labels(route, str(status)).inc()
            self._seconds.observe(seconds)

    def transcribed(self, transcript: Transcript) -> None:
        """Count what a request gave."""
        if self._registry is not None:
            self._audio.inc(transcript.duration_s)
            self._tokens.inc(len(transcript.token_ids))
            for segment in transcript.segments:
                self._ends.labels(segment.stop_reason).inc()

    def page(self, state: State) -> bytes:
        """Return all of them as Prometheus reads them.

        Raises:
            ApiError: prometheus-client is not installed.
        """
        if self._registry is None:
            why = "metrics need one more package: pip install 'qwen3-asr-onnx[metrics]'"
            raise ApiError(501, why, code="missing_package")
        from prometheus_client import generate_latest

        engine = state.engine
        self._loaded.set(engine is not None)
        if engine is not None:
            self._active.set(engine.n_active)
            self._waiting.set(engine.n_waiting)
            self._waiting_s.set(engine.waiting_s)
        return generate_latest(self._registry)
