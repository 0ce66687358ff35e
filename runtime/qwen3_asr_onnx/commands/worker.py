"""The verb `worker`: a process that another program starts and drives by lines of JSON; docs/worker.md."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from typing import NoReturn

from qwen3_asr_onnx.errors import OptionsError

from .arguments import add_aligner_arguments, add_model_arguments, at_least_one
from .command import EXIT_OK, Command
from .console import say, say_warnings

__all__ = ["COMMAND", "TOKEN", "add_arguments", "run"]

TOKEN = "QWEN3_ASR_WORKER_TOKEN"  # noqa: S105 - the name of a variable
"""The environment variable that holds what clients of a socket have to say."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `worker` to its parser."""
    model = add_model_arguments(parser, "")
    add_aligner_arguments(model)
    model.add_argument(
        "--batch-size", metavar="N", type=at_least_one, help="pieces decoded together (default: by memory)"
    )
    model.add_argument("--no-model", action="store_true", help="load nothing until a client says so")
    parser.add_argument(
        "--socket",
        metavar="ADDRESS",
        help=f"path of a Unix socket, or 127.0.0.1:PORT, instead of stdin and stdout; clients say the token in {TOKEN}",
    )
    parser.add_argument(
        "--max-memory-mb", metavar="MB", type=at_least_one, help="most memory of its own the process may take (Linux)"
    )


def run(args: argparse.Namespace) -> int:
    """Answer until there is nobody to answer, and return the exit status.

    Raises:
        OptionsError: the socket cannot be listened on, there is no token, or memory cannot be limited here.
        Qwen3AsrError: the model that was named cannot be loaded.
    """
    from qwen3_asr_onnx.worker.host import Choice
    from qwen3_asr_onnx.worker.serving import own_stdio, serve_socket, serve_stdio

    say_warnings()
    if args.max_memory_mb is not None:
        _limit_memory(args.max_memory_mb << 20)
    choice = Choice(
        args.model, args.variant, args.device, args.threads, args.aligner, args.aligner_variant, args.batch_size
    )
    if args.socket is not None:
        token = os.environ.get(TOKEN, "")
        if not token:
            raise OptionsError(f"--socket needs a token that clients know: set {TOKEN}")
        asyncio.run(serve_socket(args.socket, token, None if args.no_model else choice, _say_where))
        return EXIT_OK
    with own_stdio() as (stream_in, stream_out):
        asyncio.run(serve_stdio(stream_in, stream_out, None if args.no_model else choice, _leave))
    return EXIT_OK


def _say_where(address: str) -> None:
    say(f"listening on {address}")


def _leave() -> NoReturn:
    """End while other threads are busy: whatever they still do is for nobody."""
    sys.stderr.flush()
    os._exit(EXIT_OK)


def _limit_memory(limit: int) -> None:
    """Let allocations beyond a limit fail, which ends a request with an error and not the machine."""
    if sys.platform != "linux":
        raise OptionsError("--max-memory-mb needs Linux; leave it out here")
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


COMMAND = Command("worker", "answer another program: JSON lines on stdin and stdout", add_arguments, run)
