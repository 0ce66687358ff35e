"""Planning and rendering of utterances: every clip is a pure function of (seed, set name, index).

Flows in: a seed, the name of a set and a clip number. Flows out: an `Utterance` (what is said, by whom, in which
context) and from it a `Clip` (the waveform and the time of every word).
"""

# ruff: noqa: SIM905 - word lists read better as text

import dataclasses
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from mini.language.grammar import Rng, pick
from mini.language.sentences import GRAMMARS, LANGUAGES, Sentence, draw_context, draw_name, draw_sentence
from mini.speech import augment
from mini.speech.voices import SAMPLE_RATE, SpeechError, Voice, Waveform, read_aloud

ACCENTS = {
    "English": [
        "en-us", "en-us", "en-us", "gmw/en", "gmw/en", "en-gb-scotland", "en-gb-x-rp", "en-029", "en-gb-x-gbclan",
        "en-gb-x-gbcwmd", "en-us-nyc",
    ],
    "German": ["de"],
    "Chinese": ["cmn-latn-pinyin"],
}  # fmt: skip
VARIANTS = (
    "m1 m2 m3 m4 m5 m7 m8 f1 f2 f3 f5 klatt klatt2 klatt4 adam Alex Alicia Andy anika antonio aunty belinda benjamin "
    "boris caleb Denis Diogo ed edward Gene Gene2 Henrique Hugo iven Jacky john Lee marcelo Mario max Michael michel "
    "miguel Mike Nguyen norbert pablo paul pedro quincy rob robert sandro shelby steph steph3 travis victor zac Storm "
    "grandma grandpa"
).split()
UNSEEN_VARIANTS = "m6 f4 klatt3 Annie david linda Marco steph2 Andrea iven2".split()
FLITE_VOICES = ("kal16", "awb", "rms", "slt")
NO_LANGUAGE = "None"
TRAIN_LANGUAGES = {"English": 0.40, "German": 0.31, "Chinese": 0.29}
TRAIN_KINDS = {
    "none": 0.055, "short": 0.13, "plain": 0.325, "salad": 0.11, "named": 0.155, "multi": 0.195, "long": 0.015,
    "mixed": 0.015,
}  # fmt: skip
TEST_KINDS = {
    "seen": {"short": 0.15, "plain": 0.78, "salad": 0.07},
    "unseen": {"short": 0.15, "plain": 0.78, "salad": 0.07},
    "long": {"multi": 1.0},
    "nonspeech": {"none": 1.0},
    "names": {"named": 1.0},
    "clean": {"plain": 1.0},
    "mixed": {"mixed": 1.0},
    "story": {"long": 1.0},
}
LONG_SET_S = (8.0, 25.0)


@dataclass(frozen=True, slots=True)
class Part:
    """One sentence read by one voice after a pause."""

    sentence: Sentence
    voice: Voice
    pause_s: float


@dataclass(frozen=True, slots=True)
class Utterance:
    """The plan of one clip. `context` is the text of the system turn that fixes the spelling of rare names."""

    set_name: str
    seed: int
    index: int
    kind: str
    language: str
    parts: tuple[Part, ...]
    context: str
    rare_name: str

    @property
    def text(self) -> str:
        """The transcript of the whole clip."""
        text = ""
        for part in self.parts:
            joiner = " " if text and not (text.endswith(("。", "？")) and part.sentence.language == "Chinese") else ""
            text += joiner + part.sentence.text
        return text

    def to_json(self) -> dict[str, Any]:
        """Return the manifest row: enough to regenerate the clip and to score it."""
        return {
            "set": self.set_name, "seed": self.seed, "index": self.index, "kind": self.kind, "language": self.language,
            "text": self.text, "sentences": [part.sentence.text for part in self.parts], "context": self.context,
            "rare_name": self.rare_name,
            "voices": [f"{p.voice.engine}:{p.voice.name}" for p in self.parts],
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class TimedWord:
    """One written word with its time in the clip; `spoken` is what the voice read for it."""

    text: str
    spoken: str
    start_s: float
    end_s: float
    exact: bool


@dataclass(frozen=True, slots=True)
class Clip:
    """A rendered utterance: (n_samples,) float32 at 16 kHz, and its words."""

    waveform: Waveform
    words: tuple[TimedWord, ...]
    lead_s: float


def _rng(seed: int, set_name: str, index: int, purpose: int) -> Rng:
    return np.random.default_rng([seed, zlib.crc32(set_name.encode()), index, purpose])


def _choose(rng: Rng, weights: dict[str, float]) -> str:
    names = list(weights)
    shares = np.array([weights[name] for name in names])
    return names[int(rng.choice(len(names), p=shares / shares.sum()))]


def draw_voice(rng: Rng, language: str, unseen: bool) -> Voice:
    """Return a random voice; `unseen` ones are used by no training clip."""
    if language == "English" and not unseen and rng.random() < 0.06:
        return Voice("flite", pick(rng, FLITE_VOICES), rate_wpm=int(rng.integers(160, 195)))
    variant = pick(rng, UNSEEN_VARIANTS if unseen else VARIANTS)
    slowest, fastest = (140, 250) if language == "Chinese" else (130, 220)
    name = f"{pick(rng, ACCENTS[language])}+{variant}"
    rate_wpm, pitch = int(rng.integers(slowest, fastest)), int(rng.integers(20, 81))
    pitch_range = int(rng.integers(20, 81))
    return Voice(
        "espeak-ng",
        name,
        rate_wpm=rate_wpm,
        pitch=pitch,
        pitch_range=min(pitch_range, 70) if pitch < 26 else pitch_range,  # espeak-ng 1.51 crashes when too low
        word_gap=int(rng.integers(0, 4)),
    )


def _n_sentences(rng: Rng, set_name: str, kind: str) -> int:
    if kind == "mixed":
        return int(rng.integers(2, 4))
    if kind == "long":
        return int(rng.integers(9, 23))
    if set_name == "long":
        return int(rng.integers(3, 9))
    return pick(rng, (2, 2, 3, 3, 4, 4, 5, 6, 8)) if kind == "multi" else 1


def plan(set_name: str, seed: int, index: int) -> Utterance:
    """Return the plan of clip `index` of a set: "train" or a key of `TEST_KINDS`."""
    rng = _rng(seed, set_name, index, 0)
    train = set_name == "train"
    kind = _choose(rng, TRAIN_KINDS if train else TEST_KINDS[set_name])
    if kind == "none":
        return Utterance(set_name, seed, index, kind, NO_LANGUAGE, (), "", "")
    language = _choose(rng, TRAIN_LANGUAGES) if train else LANGUAGES[index % len(LANGUAGES)]
    name = context = ""
    if kind == "named":
        biased = not train or rng.random() < 0.7
        name = draw_name(rng, language, biased)
        context = draw_context(rng, language, name) if biased else ""
    elif train and rng.random() < 0.08:
        context = draw_context(rng, pick(rng, LANGUAGES), None)  # names that are not spoken must change nothing
    voice = draw_voice(rng, language, set_name == "unseen")
    parts: list[Part] = []
    for position in range(_n_sentences(rng, set_name, kind)):
        spoken_language = language
        if kind == "mixed" and position:
            spoken_language = pick(rng, [other for other in LANGUAGES if other != parts[-1].sentence.language])
            voice = draw_voice(rng, spoken_language, False)
        part_kind = kind if kind in ("short", "plain", "salad", "named") else pick(rng, ("plain",) * 6 + ("short",))
        sentence = draw_sentence(rng, spoken_language, part_kind, not train, name if part_kind == "named" else None)
        pause_s = float(rng.uniform(0.1, 0.8)) if position else 0.0
        parts.append(Part(sentence, voice, round(pause_s, 3)))
    return Utterance(set_name, seed, index, kind, language, tuple(parts), context, name)


def plan_digest(seed: int, indices: Iterable[int]) -> str:
    """Return the SHA-256 over the plans of training clips: texts, voices with all settings, contexts."""
    digest = hashlib.sha256()
    for index in indices:
        plain = dataclasses.asdict(plan("train", seed, index))
        digest.update(json.dumps(plain, ensure_ascii=False, sort_keys=True).encode())
    return digest.hexdigest()


def _read_part(part: Part) -> tuple[Waveform, list[TimedWord]]:
    spoken = [piece for word in part.sentence.words for piece in word.spoken.split()]
    try:
        wave, spans = read_aloud(spoken, part.voice)
    except SpeechError:
        if part.voice.engine != "flite":
            raise
        fallback = Voice("espeak-ng", "en-us")  # flite splits a few words ("o'clock") and then gives no word times
        wave, spans = read_aloud(spoken, fallback)
    words, used = [], 0
    for word in part.sentence.words:
        own = spans[used : used + len(word.spoken.split())]
        used += len(own)
        exact = all(span.exact for span in own)
        words.append(TimedWord(word.text, word.spoken, own[0].start_s, own[-1].end_s, exact))
    return wave, words


def render(utterance: Utterance) -> Clip:
    """Return the sound of a planned utterance; the same plan always gives the same samples."""
    rng = _rng(utterance.seed, utterance.set_name, utterance.index, 1)
    if utterance.kind == "none":
        longest_s = 60.0 if utterance.set_name != "train" or rng.random() < 0.1 else 15.0
        duration_s = float(np.exp(rng.uniform(np.log(0.3), np.log(longest_s))))
        kinds = list(augment.NON_SPEECH)
        kind = pick(rng, kinds) if utterance.set_name == "train" else kinds[utterance.index % len(kinds)]
        return Clip(augment.non_speech(rng, kind, duration_s), (), 0.0)
    lead_s, tail_s = float(rng.uniform(0.0, 0.5)), float(rng.uniform(0.0, 0.4))
    pieces = [np.zeros(int(lead_s * SAMPLE_RATE), np.float32)]
    words: list[TimedWord] = []
    now_s = len(pieces[0]) / SAMPLE_RATE
    for part in utterance.parts:
        gap = np.zeros(int(part.pause_s * SAMPLE_RATE), np.float32)
        wave, part_words = _read_part(part)
        now_s += len(gap) / SAMPLE_RATE
        words += [dataclasses.replace(w, start_s=w.start_s + now_s, end_s=w.end_s + now_s) for w in part_words]
        now_s += len(wave) / SAMPLE_RATE
        pieces += [gap, wave / (np.max(np.abs(wave)) + 1e-9) * np.float32(rng.uniform(0.6, 1.0))]
    pieces.append(np.zeros(int(tail_s * SAMPLE_RATE), np.float32))
    speech = np.concatenate(pieces).astype(np.float32)
    clean = utterance.set_name == "clean" or rng.random() < 0.2
    return Clip(speech * np.float32(0.7) if clean else augment.degrade(rng, speech), tuple(words), lead_s)


def examples(set_name: str, seed: int, count: int) -> Iterator[tuple[Utterance, Clip]]:
    """Yield the first `count` clips of a named test set; clips of set "long" outside 8 to 25 s are skipped."""
    index = 0
    while count:
        utterance = plan(set_name, seed, index)
        clip = render(utterance)
        index += 1
        duration_s = len(clip.waveform) / SAMPLE_RATE
        if set_name == "long" and not LONG_SET_S[0] <= duration_s <= LONG_SET_S[1]:
            continue
        count -= 1
        yield utterance, clip


def forced_prefix(language: str) -> str:
    """Return what is appended to the prompt to force a language."""
    assert language in GRAMMARS, language
    return f"language {language}<asr_text>"
