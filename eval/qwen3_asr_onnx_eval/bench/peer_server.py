"""transcribe-cpp behind Starlette, one request at a time: what a server without batches does, for `bench --serve`.

python -m qwen3_asr_onnx_eval.bench.peer_server --gguf FILE --port 8001
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwen3_asr_onnx.arrays import Waveform
from qwen3_asr_onnx.audio.loading import load_audio
from qwen3_asr_onnx.errors import AudioError, MissingExtra

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

__all__ = ["main", "peer_app"]


def peer_app(transcribe: Callable[[Waveform], str]) -> Starlette:
    """Return the app: `/v1/audio/transcriptions` with JSON back, and `/health`.

    Args:
        transcribe: from (n_samples,) float32 at 16 kHz to text; called in a thread, never twice at a time.
    """
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    one_at_a_time = asyncio.Lock()

    def work(data: bytes) -> str:
        return transcribe(load_audio(data))

    async def transcriptions(request: Request) -> Response:
        async with request.form() as form:
            file = form.get("file")
            if file is None or isinstance(file, str):
                return JSONResponse({"error": {"message": "no file"}}, 400)
            data = await file.read()
        async with one_at_a_time:
            try:
                return JSONResponse({"text": await asyncio.to_thread(work, data)})
            except AudioError as error:
                return JSONResponse({"error": {"message": str(error)}}, 400)

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    return Starlette(
        routes=[Route("/v1/audio/transcriptions", transcriptions, methods=["POST"]), Route("/health", health)]
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Serve a GGUF file on this machine until stopped.

    Raises:
        MissingExtra: transcribe-cpp, Starlette or uvicorn is not installed.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gguf", type=Path, required=True, help="the model")
    parser.add_argument("--port", type=int, default=8001, help="on 127.0.0.1 (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="for one request (default: %(default)s)")
    args = parser.parse_args(argv)
    try:
        import transcribe_cpp
        import uvicorn
    except ModuleNotFoundError as error:
        raise MissingExtra(f"the peer needs {error.name}: pip install 'qwen3-asr-onnx[serve,peers]'") from error
    # Any: its annotations leave out the numpy arrays that it takes.
    session: Any = transcribe_cpp.Model(str(args.gguf), backend="cpu").session(n_threads=args.threads)
    uvicorn.run(
        peer_app(lambda samples: str(session.run(samples).text)), host="127.0.0.1", port=args.port, log_level="warning"
    )


if __name__ == "__main__":
    main()
