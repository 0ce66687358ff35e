"""The verb `eval`: a bundle and a dataset in, rows of results and a report out. Imports nothing heavy until it runs."""

from __future__ import annotations

import shlex
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from qwen3_asr_onnx.commands.arguments import at_least_one
from qwen3_asr_onnx.commands.command import EXIT_FAILED, EXIT_OK, Command
from qwen3_asr_onnx.commands.console import emit, progress_bar, say
from qwen3_asr_onnx.commands.signals import exit_status
from qwen3_asr_onnx.errors import OptionsError

if TYPE_CHECKING:
    from qwen3_asr_onnx_eval.results.evaluation import RunCounts
    from qwen3_asr_onnx_eval.systems.process import SystemSpec

__all__ = ["COMMAND"]

NO_BUNDLE = "none"


def _add_arguments(parser: ArgumentParser) -> None:
    from qwen3_asr_onnx_eval.datasets.opening import DATASET_HELP
    from qwen3_asr_onnx_eval.systems.process import SYSTEM_HELP

    parser.add_argument("bundle", metavar="BUNDLE", help=f"a bundle, or {NO_BUNDLE!r} for other systems only")
    parser.add_argument("dataset", metavar="DATASET", nargs="?", default="mini", help=DATASET_HELP.replace("%", "%%"))

    systems = parser.add_argument_group("systems")
    systems.add_argument("--variants", metavar="A,B", help="variants of the bundle (default: all)")
    systems.add_argument("--system", dest="systems", metavar="SYSTEM", action="append", default=[], help=SYSTEM_HELP)
    systems.add_argument("--official-python", metavar="PATH", help="interpreter of an environment with qwen-asr")
    systems.add_argument("--threads", metavar="N", type=at_least_one, help="for every system (default: all cores)")
    systems.add_argument("--one-at-a-time", action="store_true", help="load one system after the other: less memory")

    data = parser.add_argument_group("data")
    data.add_argument("--language", default="", help="language of entries that name none")
    data.add_argument("--force-language", default="", help="tell every system this language instead of detecting it")
    data.add_argument("--by-segment", action="store_true", help="take each segment of a manifest as an utterance")
    data.add_argument("--limit", metavar="N", type=at_least_one, help="only the first N utterances")
    data.add_argument("--keep-going", action="store_true", help="evaluate what is usable of a faulty dataset")

    running = parser.add_argument_group("running")
    running.add_argument("--repeats", metavar="N", type=at_least_one, default=1, help="times per utterance; medians")
    running.add_argument(
        "--settle-ms",
        metavar="MS",
        type=_milliseconds,
        default=100,
        help="pause before each turn (default: %(default)s)",
    )
    running.add_argument("--timeout-s", metavar="S", type=_seconds, default=600.0, help="limit for one utterance")
    running.add_argument(
        "-o",
        "--output-dir",
        dest="output",
        metavar="DIR",
        type=Path,
        help="folder of results and report (default: build/eval/DATASET)",
    )
    running.add_argument(
        "--overwrite", action="store_true", help="begin anew; the old results become results.previous.jsonl"
    )
    running.add_argument("--retry-failed", action="store_true", help="try again where a system failed before")
    running.add_argument("-q", "--quiet", action="store_true", help="no progress bar")


def _run(args: Namespace) -> int:
    from qwen3_asr_onnx_eval.datasets.opening import open_dataset
    from qwen3_asr_onnx_eval.report.report import load_summary, write_report
    from qwen3_asr_onnx_eval.report.tables import accuracy_table, markdown, speed_table
    from qwen3_asr_onnx_eval.results.evaluation import EvaluationPlan, evaluate

    if args.force_language or args.language:
        from qwen3_asr_onnx.text.languages import resolve_language

        args.force_language, args.language = (
            resolve_language(name) if name.strip() else "" for name in (args.force_language, args.language)
        )
    specs = _specs(args)
    dataset = open_dataset(args.dataset, default_language=args.language, by_segment=args.by_segment).limited(args.limit)
    dataset.require_usable(keep_going=args.keep_going)
    for problem in dataset.problems:
        say(f"not evaluated: {problem}")
    folder: Path = args.output or Path("build/eval") / _folder_name(dataset.name)
    results = folder / "results.jsonl"
    if args.overwrite and results.exists():
        results.replace(folder / "results.previous.jsonl")  # hours of computing are not thrown away for a typing error
    plan = EvaluationPlan(
        repeats=args.repeats,
        settle_s=args.settle_ms / 1000,
        timeout_s=args.timeout_s,
        forced_language=args.force_language,
        one_at_a_time=args.one_at_a_time,
        retry_failed=args.retry_failed,
        command=shlex.join(["qwen3-asr-onnx", *sys.argv[1:]]),
    )
    say(f"{dataset.name}: {len(dataset.utterances)} utterances, {len(specs)} systems; results in {results}")
    rounds = len(specs) if plan.one_at_a_time else 1
    try:
        with progress_bar(total=rounds * len(dataset.utterances), unit="utterance", quiet=args.quiet) as bar:
            counts = evaluate(dataset, specs, plan, results, report=say, progress=lambda _: bar.update())
    except KeyboardInterrupt as interrupt:
        again = "the same command without --overwrite" if args.overwrite else "the same command"
        say(f"interrupted; what is finished is in {results}, {again} goes on from there")
        return exit_status(interrupt)
    summary = load_summary(results)
    files = write_report(summary, folder)
    emit(f"{markdown(accuracy_table(summary))}\n{markdown(speed_table(summary))}")
    say(f"{_said(counts)}; report: {files[0]}")
    return EXIT_FAILED if counts.failed or counts.undecodable or dataset.problems else EXIT_OK


def _specs(args: Namespace) -> list[SystemSpec]:
    """Return the systems to run: the bundle's variants first."""
    from qwen3_asr_onnx.model.session import usable_cores
    from qwen3_asr_onnx_eval.systems.process import SystemSpec, parse_system

    threads = args.threads or usable_cores()
    specs = []
    if args.bundle == NO_BUNDLE:
        if args.variants:
            raise OptionsError("--variants are those of a bundle; name one")
    else:
        from qwen3_asr_onnx.bundle.files import Bundle

        bundle = Bundle.open(args.bundle)
        names = args.variants.split(",") if args.variants else list(bundle.manifest.variants)
        for name in dict.fromkeys(names):
            bundle.variant(name)  # raises for a name it does not have
            specs.append(SystemSpec(name, "ours", str(args.bundle), name, threads))
    specs += [parse_system(text, threads=threads, official_python=args.official_python) for text in args.systems]
    if not specs:
        raise OptionsError("no system to evaluate; name a bundle, or add --system")
    return specs


def _said(counts: RunCounts) -> str:
    parts = [f"{counts.transcribed} transcribed"]
    parts += [f"{counts.done_before} done before"] if counts.done_before else []
    parts += [f"{counts.failed} failed"] if counts.failed else []
    parts += [f"{counts.undecodable} not decodable"] if counts.undecodable else []
    return ", ".join(parts)


def _folder_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name).strip(".") or "dataset"


def _milliseconds(text: str) -> float:
    return _number(text, 0)


def _seconds(text: str) -> float:
    return _number(text, 0.001)


def _number(text: str, low: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not value >= low:
        raise ArgumentTypeError(f"{text!r} is not a number of at least {low:g}")
    return value


COMMAND = Command(
    "eval", "measure accuracy, speed and memory of variants and other systems on a dataset", _add_arguments, _run
)
