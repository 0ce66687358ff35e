"""`bench --serve URL`: many clients at once against a transcription server."""

from __future__ import annotations

import io
import json
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwen3_asr_onnx.bundle.json_text import measured_json
from qwen3_asr_onnx.commands.command import EXIT_FAILED, EXIT_OK
from qwen3_asr_onnx.commands.console import emit
from qwen3_asr_onnx.errors import MissingExtra, OptionsError

if TYPE_CHECKING:
    from qwen3_asr_onnx_eval.bench.load import LoadClip, LoadPlan

__all__ = ["add_arguments", "is_meant", "run"]

CLIP_S = 11.0
SHOWN_PROBLEMS = 3


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of `bench --serve` to the parser of `bench`."""
    group = parser.add_argument_group("load", "how a running server answers many clients at once")
    group.add_argument("--serve", metavar="URL", help="send requests to this server, such as http://127.0.0.1:8000")
    group.add_argument("--concurrency", default="1,4,8,32,128", help="numbers of clients (default: %(default)s)")
    group.add_argument(
        "--clips",
        metavar="JSONL",
        help="what to send: a manifest, or another dataset of eval (default: an 11 s clip)",
    )
    group.add_argument("--requests", type=int, default=4, help="per client and number (default: %(default)s)")
    group.add_argument("--duration", type=float, metavar="S", help="send for so long instead, at each number")
    group.add_argument(
        "--routes",
        default="transcriptions",
        help="in turns: transcriptions, stream, chat; only stream has a first text (default: %(default)s)",
    )
    group.add_argument("--hang-up", type=float, default=0.0, metavar="SHARE", help="clients that leave midway: 0.1")
    group.add_argument("--model", default="whisper-1", help="name to ask the server for (default: %(default)s)")
    group.add_argument("--key-file", type=Path, metavar="FILE", help="the server's key is in this file")
    group.add_argument("--timeout", type=float, default=600.0, metavar="S", help="for an answer (default: %(default)s)")
    group.add_argument("--pid", type=int, help="the server's process: its memory is measured too")


def is_meant(args: Namespace) -> bool:
    """Return whether the arguments ask for load: a server is named, or --report names such results."""
    if args.report is None or args.serve is not None:
        return args.serve is not None
    return bool(json.loads(args.report.read_text(encoding="utf-8")).get("kind") == "load")


def run(args: Namespace) -> int:
    """Measure, or read back with --report, and show; return 1 where a request failed.

    Raises:
        KeyboardInterrupt: Ctrl-C, after the table of what was measured.
        OptionsError: an option has no meaning.
    """
    from qwen3_asr_onnx_eval.bench.load_report import load_report

    if args.serve is None:
        emit(load_report(json.loads(args.report.read_text(encoding="utf-8"))))
        return EXIT_OK
    results = _measured(args)
    emit(load_report(results))
    if results["interrupted"]:
        raise KeyboardInterrupt
    return EXIT_FAILED if any(level["errors"] for level in results["levels"]) else EXIT_OK


def _measured(args: Namespace) -> dict[str, Any]:
    from qwen3_asr_onnx.outputs.saving import write_atomically
    from qwen3_asr_onnx_eval.bench.load import run_load
    from qwen3_asr_onnx_eval.machine.machine import commit, versions

    plan = _plan(args)
    about = {"server": args.serve, "started": time.strftime("%Y-%m-%dT%H:%M:%S"), "commit": commit()}

    def save(results: dict[str, Any]) -> None:
        results.update(about, versions=versions())
        _score(results["levels"][-1], plan.clips)
        if args.output is not None:
            write_atomically(args.output, measured_json(results, indent=1) + "\n")

    return run_load(plan, save)


def _plan(args: Namespace) -> LoadPlan:
    from qwen3_asr_onnx_eval.bench.load import LoadPlan
    from qwen3_asr_onnx_eval.bench.wire import ROUTES, parse_server

    routes = tuple(name.strip() for name in args.routes.split(","))
    unknown = [name for name in routes if name not in ROUTES]
    if unknown:
        raise OptionsError(f"no route {unknown[0]!r}; there are: {', '.join(ROUTES)}")
    if not 0 <= args.hang_up <= 1:
        raise OptionsError(f"--hang-up is {args.hang_up}; give a share from 0 to 1")
    for name in ("requests", "duration", "timeout"):
        value = getattr(args, name)
        if value is not None and not value > 0:
            raise OptionsError(f"--{name} is {value}; give more than 0")
    if args.pid is not None:
        _check_process(args.pid)
    key = "" if args.key_file is None else args.key_file.read_text(encoding="utf-8").strip()
    return LoadPlan(
        parse_server(args.serve, key),
        _clips(args.clips),
        _numbers(args.concurrency),
        routes,
        args.model,
        args.requests,
        args.duration,
        args.hang_up,
        args.timeout,
        args.pid,
    )


def _numbers(text: str) -> tuple[int, ...]:
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise OptionsError(f"--concurrency is {text!r}; give numbers, such as 1,4,8") from error
    if min(found) < 1:
        raise OptionsError(f"--concurrency is {text!r}; one client is the least")
    return found


def _check_process(pid: int) -> None:
    """Fail before anything is measured where a process cannot be watched."""
    try:
        import psutil
    except ModuleNotFoundError as error:
        raise MissingExtra("--pid needs psutil: pip install 'qwen3-asr-onnx[eval]'") from error
    if not psutil.pid_exists(pid):
        raise OptionsError(f"--pid {pid}: no such process")


def _clips(spec: str | None) -> list[LoadClip]:
    """Return what to send, each as a 16-bit WAV file."""
    from qwen3_asr_onnx_eval.bench.load import LoadClip
    from qwen3_asr_onnx_eval.machine.clip import benchmark_clip

    if spec is None:
        return [LoadClip(_wav(benchmark_clip(CLIP_S)), CLIP_S)]
    from qwen3_asr_onnx.arrays import SAMPLE_RATE
    from qwen3_asr_onnx_eval.datasets.dataset import DatasetError, read_waveform
    from qwen3_asr_onnx_eval.datasets.opening import open_dataset

    dataset = open_dataset(spec)
    if dataset.problems:
        first = "; ".join(str(problem) for problem in dataset.problems[:SHOWN_PROBLEMS])
        more = " ..." if len(dataset.problems) > SHOWN_PROBLEMS else ""
        raise DatasetError(f"{spec}: {len(dataset.problems)} entries cannot be sent: {first}{more}")
    clips = []
    for utterance in dataset.utterances:
        samples = read_waveform(utterance)
        clips.append(LoadClip(_wav(samples), samples.size / SAMPLE_RATE, utterance.text, utterance.language))
    if not clips:
        raise OptionsError(f"{spec}: nothing in it to send")
    return clips


def _wav(samples: Any) -> bytes:
    """Return mono float32 samples at 16 kHz as the bytes of a 16-bit WAV file."""
    import wave

    import numpy as np

    from qwen3_asr_onnx.arrays import SAMPLE_RATE

    file = io.BytesIO()
    with wave.open(file, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(SAMPLE_RATE)
        wav.writeframes(np.clip(np.rint(samples * 32767), -32768, 32767).astype("<i2").tobytes())
    return file.getvalue()


def _score(level: dict[str, Any], clips: Sequence[LoadClip]) -> None:
    """Add the error rate over all answers whose clip has a text: words, or characters where there are no words."""
    told = [(clips[entry["clip"]], entry) for entry in level["texts"] if clips[entry["clip"]].text.strip()]
    level["wer"] = None
    if not told:
        return
    from qwen3_asr_onnx_eval.scores.utterance import score_utterance

    errors = units = 0
    for clip, entry in told:
        score = score_utterance(clip.text, entry["text"], clip.language)
        errors, units = errors + entry["n"] * score.errors, units + entry["n"] * score.n_units
    level["wer"] = errors / units if units else None
