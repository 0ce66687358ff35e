"""The verb `serve`: a server that OpenAI's clients can speak to."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from qwen3_asr_onnx.errors import OptionsError, import_errors_named

from .arguments import add_aligner_arguments, add_model_arguments, at_least_one
from .command import EXIT_OK, Command
from .console import say, say_warnings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qwen3_asr_onnx.async_transcriber import AsyncTranscriber
    from qwen3_asr_onnx.serving.settings import Settings

__all__ = ["COMMAND", "add_arguments", "run"]

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `serve` to its parser."""
    model = add_model_arguments(parser, "")
    add_aligner_arguments(model)
    model.add_argument("--batch-size", metavar="N", type=at_least_one, help="pieces decoded together")
    model.add_argument("--alias", action="append", default=[], metavar="NAME", help="one more name for the model")
    place = parser.add_argument_group("address")
    place.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s: this machine)")
    place.add_argument("--port", metavar="N", type=_port, default=8000, help="default %(default)s; 0 takes a free one")
    place.add_argument("--ssl-certfile", metavar="FILE", type=Path, help="serve HTTPS with this certificate")
    place.add_argument("--ssl-keyfile", metavar="FILE", type=Path, help="its key")
    access = parser.add_argument_group("access")
    access.add_argument("--api-key-file", metavar="FILE", type=Path, help="keys, one a line (or QWEN3_ASR_API_KEY)")
    access.add_argument("--allow-url-host", action="append", default=[], metavar="HOST", help="fetch audio_url; * all")
    access.add_argument("--cors-origin", action="append", default=[], metavar="ORIGIN", help="web page that may ask")
    limits = parser.add_argument_group("limits")
    for name, default, what in (
        ("--max-upload-mb", 1024, "largest upload"),
        ("--max-audio-s", 28800, "longest audio"),
        ("--max-waiting-s", 3600, "seconds of audio that may wait; then 429"),
        ("--max-requests", 256, "requests at once; then 429"),
        ("--max-connections", 1000, "open connections; then 503"),
        ("--timeout-graceful-shutdown", 30, "seconds that requests may go on after SIGTERM"),
    ):
        limits.add_argument(name, metavar="N", type=at_least_one, default=default, help=f"{what} (default {default})")
    parser.add_argument("--log-text", action="store_true", help="write transcripts into the log")


def run(args: argparse.Namespace) -> int:
    """Serve until a signal comes, and return the exit status.

    Raises:
        MissingExtra: the serve extra is missing.
        Qwen3AsrError: the options or the bundle are wrong.
        OSError: the address is taken.
    """
    with import_errors_named("serve", "pip install 'qwen3-asr-onnx[serve]'"):
        import python_multipart  # noqa: F401 - asked for when a form comes, which is late to hear of it

        from qwen3_asr_onnx.serving.metrics import Metrics
        from qwen3_asr_onnx.serving.running import Server, listening_socket
        from qwen3_asr_onnx.serving.state import State
    _check_certificate(args.ssl_certfile, args.ssl_keyfile)
    settings = _settings(args)
    if args.host not in _LOOPBACK and not settings.keys:
        say("warning: everybody who reaches this address may use the server; give keys with --api-key-file")
    say_warnings()
    _allow_open_files()
    listening = listening_socket(args.host, args.port, settings.send_timeout_s)
    scheme = "http" if args.ssl_certfile is None else "https"
    host = f"[{args.host}]" if ":" in args.host else args.host
    say(f"listening on {scheme}://{host}:{listening.getsockname()[1]}; the model is being loaded")
    server = Server(
        State(settings, Metrics()),
        lambda: _load(args, settings),
        lambda: say("ready"),
        ssl_certfile=args.ssl_certfile,
        ssl_keyfile=args.ssl_keyfile,
    )
    with _log_on_stderr():
        server.run(sockets=[listening])
    if server.failure is not None:
        raise server.failure
    return EXIT_OK


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) < 1 << 16):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


def _check_certificate(certificate: Path | None, key: Path | None) -> None:
    """Refuse what cannot be served with, before anything is loaded."""
    if certificate is None:
        if key is not None:
            raise OptionsError("--ssl-keyfile needs --ssl-certfile")
        return
    import ssl

    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key)
    except OSError as error:  # what is wrong with a key is one too
        given = f"--ssl-certfile {certificate}" + (f", --ssl-keyfile {key}" if key else "")
        raise OptionsError(f"{given}: cannot be used: {error}") from error


def _settings(args: argparse.Namespace) -> Settings:
    from qwen3_asr_onnx.serving.keys import read_keys
    from qwen3_asr_onnx.serving.settings import DEFAULT_ALIASES, Settings

    return Settings(
        aliases=(*args.alias, *DEFAULT_ALIASES),
        keys=read_keys(args.api_key_file),
        max_upload_bytes=args.max_upload_mb << 20,
        max_audio_s=args.max_audio_s,
        max_waiting_s=args.max_waiting_s,
        max_requests=args.max_requests,
        max_connections=args.max_connections,
        url_hosts=tuple(host.lower() for host in args.allow_url_host),
        cors_origins=tuple(args.cors_origin),
        grace_s=args.timeout_graceful_shutdown,
        log_text=args.log_text,
    )


def _load(args: argparse.Namespace, settings: Settings) -> tuple[AsyncTranscriber, tuple[str, ...]]:
    """Return the engine, and the names of its model."""
    from qwen3_asr_onnx.alignment.aligner import Aligner
    from qwen3_asr_onnx.async_transcriber import AsyncTranscriber
    from qwen3_asr_onnx.audio.loading import AudioLimits
    from qwen3_asr_onnx.model.loading import fetch_prepared
    from qwen3_asr_onnx.transcriber import Transcriber

    limits = AudioLimits(settings.max_audio_s, settings.max_upload_bytes, allow_url=False, allow_path=False)
    how = {"device": args.device, "threads": args.threads, "limits": limits}
    aligner = None
    if args.aligner:
        name = None if args.aligner is True else args.aligner
        folder = fetch_prepared(name, args.aligner_variant, args.device, "aligner")
        aligner = Aligner(folder, args.aligner_variant, **how)
    folder = fetch_prepared(args.model, args.variant, args.device)
    transcriber = Transcriber(folder, args.variant, aligner=aligner, **how)
    engine = AsyncTranscriber(transcriber, batch_size=args.batch_size, max_waiting_s=settings.max_waiting_s)
    source = transcriber.manifest.source.get("model", "")
    names = (transcriber.manifest.name, source if isinstance(source, str) else "", args.model or "")
    # A directory is a place of this machine: its last part will do.
    return engine, tuple(Path(name).name if Path(name).exists() else name for name in names if name)


@contextlib.contextmanager
def _log_on_stderr() -> Iterator[None]:
    """Write the log of requests to stderr; afterwards the loggers are as they were."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    before: list[tuple[logging.Logger, list[logging.Handler], int, bool]] = []
    for name, level in (
        ("qwen3_asr_onnx.serving", logging.INFO),
        ("uvicorn.error", logging.WARNING),
        ("python_multipart", logging.ERROR),
    ):
        logger = logging.getLogger(name)
        before.append((logger, [*logger.handlers], logger.level, logger.propagate))
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False
    try:
        yield
    finally:
        for logger, handlers, level, propagates in before:
            logger.handlers[:] = handlers
            logger.setLevel(level)
            logger.propagate = propagates


def _allow_open_files() -> None:
    """Raise the number of files, and so connections, that this process may hold, as far as it may itself."""
    if os.name != "posix":
        return
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


COMMAND = Command("serve", "answer transcription requests over HTTP, as OpenAI's API does", add_arguments, run)
