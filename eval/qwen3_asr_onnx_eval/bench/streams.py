"""Live streams on models of the real size: bundles with random weights in, seconds per chunk of a policy out.

Random weights write noise, so the words are scripted: the graphs run on what they are given, and then their choices are
replaced by those of a model that hears a speaker say 3 tokens a second and mishears the last two words each time.

    python -m qwen3_asr_onnx_eval.bench.streams BUNDLE --variant fast --policy official --every 4
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt

from qwen3_asr_onnx import Stream, StreamOptions, StreamUpdate, TranscribeOptions
from qwen3_asr_onnx.arrays import SAMPLE_RATE, Waveform
from qwen3_asr_onnx.bundle.names import EMBEDS, POSITIONS, TOTAL
from qwen3_asr_onnx.model.asking import Prompter
from qwen3_asr_onnx.model.batch import Watch
from qwen3_asr_onnx.model.decoder import Decoder
from qwen3_asr_onnx.model.kv_cache import KvCache
from qwen3_asr_onnx.model.loading import Model, load_model
from qwen3_asr_onnx.model.session import Session
from qwen3_asr_onnx.stream.hypothesis import Hypothesis, StreamDecoder
from qwen3_asr_onnx.stream.official import ModelWriter, Written
from qwen3_asr_onnx_eval.machine.memory import peak_rss

TOKENS_PER_S = 3.0
UNSTABLE_TOKENS = 4
WORDS = ("two", "the", "and", "of", "to", "in", "is", "on")
BLOCK_SAMPLES = 1600
"""0.1 s, as a sound card delivers."""


class ScriptedDecoder(Decoder):
    """Runs every graph as the real decoder does and chooses what the script says.

    `answer` is the whole answer to the audio in hand, stop token included; `prompt_length` is where it begins.
    """

    def __init__(self, real: Decoder) -> None:
        super().__init__(real.init, real.step, real.embeddings, real.dims, tuple(real.eos))
        self.answer: list[int] = []
        self.prompt_length = 0

    def call(
        self,
        session: Session,
        cache: KvCache,
        first: int,
        last: int,
        inputs: Mapping[str, npt.NDArray[Any]],
        logits: npt.NDArray[np.float32],
    ) -> Callable[[], None]:
        """Return what runs the graph and makes its logits choose the script."""
        run = super().call(session, cache, first, last, inputs, logits)

        def scripted_run() -> None:
            run()
            n_past = int(inputs[TOTAL]) - inputs[EMBEDS].shape[1]
            for position, row in zip(inputs[POSITIONS][0].tolist(), logits[0], strict=True):
                at = n_past + position + 1 - self.prompt_length
                if 0 <= at < len(self.answer):
                    row[self.answer[at]] = 1e4

        return scripted_run


class Script:
    """What is said in audio of any length, told to the decoder before each answer."""

    def __init__(self, model: Model, decoder: ScriptedDecoder) -> None:
        tokenizer = model.tokenizer
        self._decoder = decoder
        self._prompter = Prompter(model)
        self._around_audio = len(self._prompter.prompt(1).ids) - 1
        self._header = [*tokenizer.encode("language English"), tokenizer.special_id("<asr_text>")]
        self._words = [tokenizer.encode(f" {word}") for word in WORDS]

    def hear(self, n_samples: int) -> list[int]:
        """Let the decoder answer to a stretch of so many samples; return the answer."""
        n_tokens = int(TOKENS_PER_S * n_samples / SAMPLE_RATE)
        said: list[int] = []
        for number in itertools.count():
            if len(said) >= n_tokens:
                break
            shift = n_tokens if len(said) >= n_tokens - UNSTABLE_TOKENS else 0
            said += self._words[(number + shift) % len(self._words)]
        self._decoder.answer = [*self._header, *said, min(self._decoder.eos)]
        self._decoder.prompt_length = self._around_audio + self._prompter.n_audio_tokens(n_samples)
        return self._decoder.answer


@contextmanager
def scripted(model: Model, every: int) -> Iterator[Model]:
    """Give a model whose streams follow the script.

    Args:
        model: of the real size.
        every: compute one answer of so many; official policy only, whose answers share no work.
    """
    decoder = ScriptedDecoder(model.decoder)
    script = Script(model, decoder)
    listen, write = StreamDecoder.listen, ModelWriter.write
    counter = itertools.count()

    def scripted_listen(
        self: StreamDecoder, audio: Waveform, fixed: Sequence[int], draft: Sequence[int], limit: int, _watch: Watch
    ) -> Hypothesis:
        script.hear(audio.size)
        return listen(self, audio, fixed, draft, limit)  # to a watch, the script is a loop

    def scripted_write(self: ModelWriter, audio: Waveform, prefix: str) -> Written:
        answer = script.hear(audio.size)
        if next(counter) % every == every // 2:
            return write(self, audio, prefix)
        return Written(model.tokenizer.decode(answer[:-1])[len(prefix) :])

    with (
        mock.patch.object(StreamDecoder, "listen", scripted_listen),
        mock.patch.object(ModelWriter, "write", scripted_write),
    ):
        yield replace(model, decoder=decoder)


def measure(model: Model, options: StreamOptions, waveform: Waveform) -> tuple[list[float], list[StreamUpdate]]:
    """Return the seconds that each chunk's audio takes to digest, and all updates."""
    stream = Stream(model, TranscribeOptions(), options)
    chunk = round(options.chunk_s * SAMPLE_RATE)
    seconds, updates = [], []
    for start in range(0, waveform.size, chunk):
        started = time.perf_counter()
        for first in range(start, start + chunk, BLOCK_SAMPLES):
            updates += stream.feed(waveform[first : min(first + BLOCK_SAMPLES, start + chunk)])
        seconds.append(time.perf_counter() - started)
    started = time.perf_counter()
    updates += stream.finish()
    seconds[-1] += time.perf_counter() - started
    return seconds, updates


def steady_noise_of_speech(seconds: float) -> Waveform:
    """Return noise that is as loud and soft by turns as syllables are: no pause ends a segment."""
    rng = np.random.default_rng(0)
    n_samples = round(seconds * SAMPLE_RATE)
    knots = np.arange(0, n_samples + 1600, 1600)
    loudness = np.interp(np.arange(n_samples), knots, rng.uniform(0.02, 0.3, knots.size))
    return (loudness * rng.standard_normal(n_samples)).clip(-1, 1).astype(np.float32)


def main() -> None:
    """Run one policy and print its figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--variant")
    parser.add_argument("--policy", default="incremental")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--chunk-seconds", type=float, default=2.0)
    parser.add_argument("--every", type=int, default=1, help="compute one chunk of so many (official only)")
    parser.add_argument("--rounds", type=int, default=1, help="take the fastest of so many for each chunk")
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    model = load_model(args.bundle, args.variant, "cpu", args.threads)
    options = StreamOptions(policy=args.policy, chunk_s=args.chunk_seconds)
    waveform = steady_noise_of_speech(args.seconds)
    chunks: list[list[float]] = []
    answers: list[list[float]] = []
    for _ in range(args.rounds):
        with scripted(model, args.every) as speaker:
            seconds, updates = measure(speaker, options, waveform)
        chunks.append(seconds)
        answers.append([t.mel_s + t.encoder_s + t.prefill_s + t.decode_s for t in (u.timings for u in updates)])
    # The fastest round of each chunk: what other work on the machine adds is left out.
    computed = [s for s in map(min, zip(*chunks, strict=True)) if s > 0.02]
    spent = [s for s in map(min, zip(*answers, strict=True)) if s > 0.02]
    timings = [update.timings for update in updates]
    print(json.dumps({  # noqa: T201
        "variant": model.variant, "policy": args.policy, "seconds_of_audio": args.seconds, "chunks": len(seconds),
        "rounds": args.rounds,
        "computed_chunks": len(computed), "total_s": sum(computed) * args.every,
        "per_chunk_s": [round(s, 3) for s in computed],
        "median_chunk_s": statistics.median(computed),
        "median_latency_s": statistics.median(spent),
        "p95_latency_s": float(np.quantile(spent, 0.95)),
        "segments": [round(u.segment.end_s, 2) for u in updates if u.segment],
        "mean_s": {name: round(statistics.mean(getattr(t, name) for t in timings), 3)
                   for name in ("mel_s", "encoder_s", "prefill_s", "decode_s")},
        "peak_resident_gb": peak_rss() / 1e9,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
