"""The checked-in clips, the test manifest, and regeneration of test sounds on demand.

Flows in: fixed seeds. Flows out: FLAC files with a manifest, a JSONL list of all test clips, and `Sample` values for
tests that want waveforms and references without knowing how they are made.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import soundfile

from mini.language.sentences import is_invented
from mini.speech.corpus import Clip, Utterance, examples, plan, render
from mini.speech.voices import SAMPLE_RATE, Waveform

TEST_SEED = 7
CLIP_SEED = 11
MANIFEST_SETS = ("seen", "unseen", "long", "nonspeech", "names")
LICENCE = "Synthetic speech made by this project with espeak-ng and flite from its own sentences; Apache-2.0."


@dataclass(frozen=True, slots=True)
class Sample:
    """One regenerated test clip: (n_samples,) float32 at 16 kHz and what a transcriber should answer.

    `language` is "" for clips without speech; `context` is the system-turn text that names the rare names.
    """

    waveform: Waveform
    text: str
    language: str
    context: str


def _sample(utterance: Utterance, clip: Clip) -> Sample:
    language = "" if utterance.language == "None" else utterance.language
    return Sample(clip.waveform, utterance.text, language, utterance.context)


def samples(set_name: str, count: int, seed: int = TEST_SEED) -> list[Sample]:
    """Return the first `count` clips of a test set: seen, unseen, clean, long, nonspeech, names, mixed or story."""
    return [_sample(utterance, clip) for utterance, clip in examples(set_name, seed, count)]


def regenerate(row: dict[str, Any]) -> Sample:
    """Return the clip of one manifest row; only its set, seed and index are used."""
    utterance = plan(row["set"], row["seed"], row["index"])
    return _sample(utterance, render(utterance))


def read_test_manifest(path: Path, set_name: str) -> list[dict[str, Any]]:
    """Return the manifest rows of one set."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if row["set"] == set_name]


def write_test_manifest(path: Path, count: int) -> None:
    """Write one row for each of `count` clips of every test set."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for set_name in MANIFEST_SETS:
            for utterance, clip in examples(set_name, TEST_SEED, count):
                row = utterance.to_json() | {"duration_s": round(len(clip.waveform) / SAMPLE_RATE, 3)}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _first(
    set_name: str, language: str, skip: int = 0, low_s: float = 1.5, high_s: float = 8.0
) -> tuple[Utterance, Clip]:
    """Return the first clip of a set in a language whose duration is in range, after skipping some."""
    index = 0
    while True:
        utterance = plan(set_name, CLIP_SEED, index)
        index += 1
        if utterance.language != language or (utterance.rare_name and is_invented(language, utterance.rare_name)):
            continue
        clip = render(utterance)
        if low_s <= len(clip.waveform) / SAMPLE_RATE <= high_s:
            if skip == 0:
                return utterance, clip
            skip -= 1


def _quietest_story() -> tuple[Utterance, Clip]:
    """Return a 66 to 74 s English clip without added noise: digital silence keeps the file small."""
    skip = 0
    while True:
        utterance, clip = _first("story", "English", skip, low_s=66.0, high_s=74.0)
        if float((clip.waveform == 0).mean()) > 0.05:
            return utterance, clip
        skip += 1


def _chosen() -> Iterator[tuple[str, Utterance, Clip]]:
    for prefix, language in (("en", "English"), ("de", "German"), ("zh", "Chinese")):
        for skip in range(2):
            yield f"{prefix}_{skip + 1}.flac", *_first("seen", language, skip)
    yield "en_unseen_voice.flac", *_first("unseen", "English")
    yield "en_name_with_context.flac", *_first("names", "English")
    yield "de_name_with_context.flac", *_first("names", "German")
    yield "mixed_two_languages.flac", *_first("mixed", "English", high_s=12.0)
    yield "de_story_12s.flac", *_first("long", "German", low_s=11.0, high_s=14.0)
    yield "en_story_70s.flac", *_quietest_story()
    quiet = [plan("nonspeech", CLIP_SEED, index) for index in range(600)]
    for name, kind_index in (("silence.flac", 0), ("noise.flac", 1), ("clicks.flac", 3)):
        candidates = ((u, render(u)) for u in quiet[kind_index::6])
        chosen = next((u, c) for u, c in candidates if 2.0 <= len(c.waveform) / SAMPLE_RATE <= 5.0)
        yield name, *chosen


def write_clips(folder: Path) -> None:
    """Write the FLAC clips and their manifest.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, utterance, clip in _chosen():
        soundfile.write(folder / name, clip.waveform, SAMPLE_RATE, subtype="PCM_16")
        words = [[word.text, round(word.start_s, 3), round(word.end_s, 3)] for word in clip.words]
        rows.append({
            "file": name, "language": _sample(utterance, clip).language, "text": utterance.text, "kind": utterance.kind,
            "context": utterance.context, "duration_s": round(len(clip.waveform) / SAMPLE_RATE, 3),
            "set": utterance.set_name, "seed": utterance.seed, "index": utterance.index, "words": words,
            "licence": LICENCE,
        })  # fmt: skip
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / "manifest.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
