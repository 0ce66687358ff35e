"""Command line of the miniature checkpoint: ``cd eval && python -m mini all``.

Flows in: nothing but a seed. Flows out: tests/data/mini-asr, tests/data/mini-aligner, tests/data/mini-clips and the
report. Every stage goes on from what an interrupted run has left in the working folder.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from mini.speech.clips import TEST_SEED
from mini.speech.voices import SpeechError
from mini.training.costs import measure, total_costs

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("corpus", "transcriber", "aligner", "clips", "evaluate")
MEASURED_ALONE = ("cues", "drafts")
"""They need a bundle that was exported, so they are no part of `all`."""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(prog="python -m mini", description=__doc__)
    parser.add_argument("stage", choices=("all", *STAGES, *MEASURED_ALONE), help="what to make")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "mini", help="working folder, about 7 GB")
    parser.add_argument("--out", type=Path, default=ROOT / "tests" / "data", help="where the checkpoints and clips go")
    parser.add_argument("--seed", type=int, default=20261)
    parser.add_argument("--clips", type=int, default=44000, help="training clips to render (59 h)")
    parser.add_argument("--steps", type=int, default=17000, help="training steps of the transcriber")
    parser.add_argument("--aligner-steps", type=int, default=8000, help="training steps of the aligner")
    parser.add_argument("--count", type=int, default=300, help="clips of each test set")
    parser.add_argument("--set-seed", type=int, default=TEST_SEED, help="another seed gives a validation set")
    parser.add_argument("--bundle", type=Path, help="transcriber that the stages cues and drafts measure")
    parser.add_argument("--float32", action="store_true", help="train in float32 even where bfloat16 is faster")
    return parser.parse_args(argv)


def say(line: str) -> None:
    """Show a line of progress on stderr without breaking a progress bar."""
    tqdm.write(line, file=sys.stderr)


def make_corpus(args: argparse.Namespace) -> None:
    """Render the training corpus and learn the vocabulary."""
    from mini.language.vocabulary import train_vocabulary, vocabulary_texts
    from mini.speech.build import build, read_rows

    manifest = build(args.work / "corpus", args.seed, args.clips, n_workers=2)
    say(f"corpus: {manifest['hours']} h, manifest sha256 {manifest['sha256']}")
    if not (args.work / "vocabulary" / "merges.txt").exists():
        train_vocabulary(vocabulary_texts(read_rows(args.work / "corpus")), args.work / "vocabulary")


def make_model(args: argparse.Namespace, task: Literal["transcriber", "aligner"]) -> None:
    """Train one model and write its checkpoint folder."""
    from mini.training.checkpoint import publish
    from mini.training.network import has_fast_bfloat16
    from mini.training.train import TrainOptions, train

    options = TrainOptions(
        task=task,
        folder=args.work,
        seed=args.seed,
        n_steps={"transcriber": args.steps, "aligner": args.aligner_steps}[task],
        peak_rate={"transcriber": 1.2e-3, "aligner": 8e-4}[task],
        bf16=has_fast_bfloat16() and not args.float32,
    )
    train(options)
    folder = args.out / ("mini-aligner" if task == "aligner" else "mini-asr")
    publish(options.state_path, args.work / "vocabulary", folder)


def make_clips(args: argparse.Namespace) -> None:
    """Write the checked-in clips and the manifest of the test sets."""
    from mini.speech.clips import write_clips, write_test_manifest

    write_clips(args.out / "mini-clips")
    write_test_manifest(args.out / "mini-test-manifest.jsonl", args.count)


def make_report(args: argparse.Namespace) -> None:
    """Measure both checkpoints and write report.json into the working folder."""
    import torch

    from mini.language.vocabulary import Vocabulary
    from mini.measuring.align import evaluate_aligner
    from mini.measuring.evaluate import evaluate
    from mini.training.curve import draw_curve
    from mini.training.model import load_original

    torch.set_num_threads(1)  # two threads lose more to a busy machine than they gain
    folder = args.out / "mini-asr"
    report = evaluate(load_original(folder), Vocabulary.load(folder), args.count, say, args.set_seed)
    folder = args.out / "mini-aligner"
    if folder.exists():
        report["aligner"] = evaluate_aligner(load_original(folder), Vocabulary.load(folder), args.count, args.set_seed)
    report["costs"] = total_costs(args.work / "costs.jsonl")
    for name in ("curve", "aligner_curve"):
        if (args.work / f"{name}.jsonl").exists():
            draw_curve(args.work / f"{name}.jsonl", args.work / f"{name}.svg")
    (args.work / "report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(report, indent=1, ensure_ascii=False) + "\n")


def report_cues(args: argparse.Namespace) -> None:
    """Measure the subtitles of a transcriber's bundle and show what was found."""
    from mini.measuring.cues import evaluate_cues

    sys.stdout.write(json.dumps(evaluate_cues(args.bundle, args.count, args.set_seed), indent=1) + "\n")


def report_drafts(args: argparse.Namespace) -> None:
    """Measure how often the drafts of `fast` hold and show what was found."""
    from mini.measuring.drafts import evaluate_drafts

    found = {name: evaluate_drafts(args.bundle, "fast", name, args.count, args.set_seed) for name in ("seen", "long")}
    sys.stdout.write(json.dumps(found, indent=1) + "\n")


def missing_stage(stage: str, args: argparse.Namespace) -> str | None:
    """Return what to run first where `stage` lacks what an earlier one makes."""
    if stage in MEASURED_ALONE and args.bundle is None:
        return (
            f"the stage {stage} needs --bundle, the directory that `qwen3-asr-onnx export` made of tests/data/mini-asr"
        )
    needs = {
        "transcriber": ("corpus", args.work / "vocabulary" / "merges.txt"),
        "aligner": ("transcriber", args.work / "train.pt"),
        "evaluate": ("transcriber", args.out / "mini-asr" / "model.safetensors"),
    }
    if stage not in needs:
        return None
    earlier, path = needs[stage]
    if not path.exists():
        return f"the stage {stage} needs {path}: run the stage {earlier} first, or all"
    if stage == "aligner":
        from mini.training.train import steps_left

        if left := steps_left(path):
            return f"{path} is {left} steps short of its end: run the stage transcriber to go on with it, or all"
    return None


def run(args: argparse.Namespace) -> int:
    """Run the stages asked for and return the exit code."""
    wanted = STAGES if args.stage == "all" else (args.stage,)
    actions = {
        "corpus": lambda: make_corpus(args),
        "transcriber": lambda: make_model(args, "transcriber"),
        "aligner": lambda: make_model(args, "aligner"),
        "clips": lambda: make_clips(args),
        "evaluate": lambda: make_report(args),
        "cues": lambda: report_cues(args),
        "drafts": lambda: report_drafts(args),
    }
    try:
        for stage in wanted:
            if (missing := missing_stage(stage, args)) is not None:
                say(f"mini: {missing}")
                return 1
            with measure(stage, args.work / "costs.jsonl"):
                actions[stage]()
    except SpeechError as error:
        say(f"mini: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run(parse_args()))
