"""Sentences of the miniature language: drawing them, splitting them into timed words, keeping test texts apart.

Flows in: a random generator and a language name. Flows out: `Sentence` values whose words know both how they are
written and what the voice is given to read.
"""

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from functools import cache

from mini.language import chinese, english, german
from mini.language.grammar import Grammar, Rng, pick

GRAMMARS: dict[str, Grammar] = {g.language: g for g in (english.GRAMMAR, german.GRAMMAR, chinese.GRAMMAR)}
LANGUAGES = tuple(GRAMMARS)
HELD_OUT_ONE_IN = 16  # share of texts, chosen by hash, that no training clip may contain
SINGLE_WORDS = 0.3  # share of the training clips of random words that are one word alone
ADDRESSED = 0.5  # share of the fixed short sentences ("Yes.") that speak to somebody in training ("Yes, Anna.")
FEW_DIGITS = 0.5  # share of the digit strings in training that are made of few different digits
TOKEN = re.compile(r"^([^|.,?!]+)(?:\|([^.,?!]+))?([.,?!]*)$")

# Spelling alternatives of invented names; the first of each pair is what the voice reads.
ONSETS = (
    ("k", "c"),
    ("f", "ph"),
    ("t", "th"),
    ("r", "rh"),
    ("l", "l"),
    ("m", "m"),
    ("n", "n"),
    ("b", "b"),
    ("d", "d"),
    ("s", "s"),
)
VOWELS = (("a", "ah"), ("i", "y"), ("o", "oh"), ("e", "e"), ("u", "u"))
ENDINGS = (("k", "ck"), ("n", "nn"), ("l", "ll"), ("r", "r"), ("s", "ss"), ("t", "tt"), ("", ""))


@dataclass(frozen=True, slots=True)
class Word:
    """One written word (one character in Chinese) with its punctuation, and what is read aloud for it."""

    text: str
    spoken: str


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of one language."""

    language: str
    words: tuple[Word, ...]

    @property
    def text(self) -> str:
        """The transcript, with capitals and punctuation."""
        return GRAMMARS[self.language].joiner.join(word.text for word in self.words)


def bare(text: str) -> str:
    """Return the text in lower case without punctuation: letters, digits and single spaces only."""
    kept = "".join(c if unicodedata.category(c)[0] in "LN" or c == "'" else " " for c in text.lower())
    return " ".join(kept.split())


def is_held_out(text: str) -> bool:
    """Tell whether a sentence belongs to the tests, by a hash of its bare text; training never contains it."""
    digest = hashlib.sha256(bare(text).encode()).digest()
    return int.from_bytes(digest[:4], "big") % HELD_OUT_ONE_IN == 0


def parse(language: str, expanded: str) -> Sentence:
    """Split an expanded template into words; see `mini.language.english` for the ``written|spoken`` notation."""
    if language == "Chinese":
        words = [Word(m, chinese.PINYIN[m[0]]) for m in re.findall(r".[。，？]?", expanded)]
        return Sentence(language, tuple(words))
    words = []
    for token in expanded.split():
        match = TOKEN.match(token)
        assert match, token
        written, spoken, tail = match.groups()
        words.append(Word(written + tail, (spoken or written).replace("-", " ")))
    first = words[0]
    words[0] = Word(first.text[0].upper() + first.text[1:], first.spoken)
    return Sentence(language, tuple(words))


@cache
def vocabulary(language: str) -> tuple[str, ...]:
    """Return the word list that random-word sentences are drawn from."""
    grammar = GRAMMARS[language]
    found: dict[str, None] = {}
    for slot in grammar.slots.values():
        if not callable(slot):
            found.update(dict.fromkeys(value for value in slot if "{" not in value))
    if language != "Chinese":
        for template in grammar.sentences:
            template = template if template.startswith("I ") else template[0].lower() + template[1:]
            found.update(dict.fromkeys(re.findall(r"(?<![{\w'])[^\W\d_]+(?![}\w'])", template)))
    return tuple(found)


def _invented(rng: Rng) -> tuple[str, str]:
    """Return an invented name as (spelling in the context, spelling read aloud)."""
    written, spoken = "", ""
    for position in range(int(rng.integers(2, 4))):
        parts = [pick(rng, ONSETS), pick(rng, VOWELS)]
        written += "".join(part[int(rng.integers(0, 2))] for part in parts)
        spoken += "".join(part[0] for part in parts)
        if position and rng.random() < 0.5:
            break
    ending = pick(rng, ENDINGS)
    return (written + ending[int(rng.integers(0, 2))]).capitalize(), (spoken + ending[0]).capitalize()


def _one_name(rng: Rng, language: str, group: list[str], biased: bool) -> str:
    written = pick(rng, group) if biased else group[0]
    return written if language == "Chinese" or written == group[0] else f"{written}|{group[0]}"


def draw_name(rng: Rng, language: str, biased: bool) -> str:
    """Return a rare name in token notation; `biased` names may deviate from the default spelling."""
    first, last = GRAMMARS[language].name_groups
    if language == "Chinese":
        return _one_name(rng, language, pick(rng, first), biased) + _one_name(rng, language, pick(rng, last), biased)
    if rng.random() < 0.25:
        written, spoken = _invented(rng)
        return f"{written}|{spoken}" if biased and written != spoken else spoken
    groups = pick(rng, ((first,), (first,), (last,), (first, last)))
    return " ".join(_one_name(rng, language, pick(rng, group), biased) for group in groups)


def written_name(name: str) -> str:
    """Return the spelling of a name in token notation."""
    return " ".join(token.split("|")[0] for token in name.split())


def respell(rng: Rng, language: str, name: str) -> str:
    """Return a name in token notation that sounds the same and is spelled anew, at random."""
    groups = {group[0]: group for part in GRAMMARS[language].name_groups for group in part}
    if language == "Chinese":
        by_character = {spelling: group for group in groups.values() for spelling in group}
        return "".join(pick(rng, by_character[character]) for character in name)
    tokens = []
    for token in name.split():
        sound = token.split("|")[-1]
        written = pick(rng, groups[sound]) if sound in groups else _respell_invented(rng, sound)
        tokens.append(sound if written == sound else f"{written}|{sound}")
    return " ".join(tokens)


def default_spelling(language: str, name: str) -> str:
    """Return the name as it is written when no context says otherwise."""
    if language != "Chinese":
        return " ".join(token.split("|")[-1] for token in name.split())
    groups = [group for part in GRAMMARS[language].name_groups for group in part]
    return "".join(next(group[0] for group in groups if character in group) for character in name)


def _respell_invented(rng: Rng, sound: str) -> str:
    others = {pair[0]: pair[1] for pair in (*ONSETS, *VOWELS)}
    doubled = dict(ENDINGS)
    letters, last = sound.lower()[:-1], sound.lower()[-1]
    written = "".join(others.get(letter, letter) if rng.random() < 0.5 else letter for letter in letters)
    alternatives = doubled if last in doubled else others
    return (written + (alternatives.get(last, last) if rng.random() < 0.5 else last)).capitalize()


def is_invented(language: str, name: str) -> bool:
    """Tell whether a name in token notation comes from the syllable generator and not from the known homophones."""
    known = {spelling for groups in GRAMMARS[language].name_groups for group in groups for spelling in group}
    parts = name if language == "Chinese" else [token.split("|")[0] for token in name.split()]
    return not any(part in known for part in parts)


def sounds_of(language: str, name: str) -> set[str]:
    """Return the default spellings hidden in a name: two names that share one would contradict each other."""
    if language == "Chinese":
        return {chinese.PINYIN[c] for c in name[1:]}
    return {token.split("|")[-1] for token in name.split()}


def comma(language: str) -> str:
    """Return the comma of a language with the space that follows it."""
    return "，" if language == "Chinese" else ", "


def draw_context(rng: Rng, language: str, spoken_name: str | None) -> str:
    """Return a system-turn context: a list of names, with the spoken one among them when given."""
    names, taken = [], set()
    if spoken_name is not None:
        names, taken = [spoken_name], sounds_of(language, spoken_name)
    for _ in range(int(rng.integers(1, 6))):
        name = draw_name(rng, language, biased=True)
        if not taken & sounds_of(language, name):
            names.append(name)
            taken |= sounds_of(language, name)
    order = rng.permutation(len(names))
    return comma(language).join(written_name(names[i]) for i in order)


def _training_template(rng: Rng, grammar: Grammar, kind: str, template: str) -> str:
    """Return the template, or a variant that only training hears.

    A fixed short sentence that is held out would take its words out of training with it ("Yes.", "Danke." and
    "大声一点。" are in no other template): spoken to somebody, they are heard all the same.
    """
    if kind == "short" and "{" not in template and rng.random() < ADDRESSED:
        return template.removesuffix(grammar.full_stop) + comma(grammar.language) + "{name}" + grammar.full_stop
    if "{digits}" in template and rng.random() < FEW_DIGITS:
        return template.replace("{digits}", "{few_digits}")
    return template


def draw_sentence(rng: Rng, language: str, kind: str, held_out: bool, name: str | None = None) -> Sentence:
    """Draw one sentence.

    Args:
        rng: random generator; the only source of chance.
        language: a key of `GRAMMARS`.
        kind: "plain", "short" (one to four words), "salad" (random words) or "named" (needs `name`).
        held_out: draw from the texts kept for tests (True) or from those training may use (False).
        name: rare name in token notation for kind "named".
    """
    grammar = GRAMMARS[language]
    while True:
        if kind == "salad":
            alone = not held_out and rng.random() < SINGLE_WORDS
            n_words = 1 if alone else int(rng.integers(3 if held_out else 2, 8))
            words = [pick(rng, vocabulary(language)) for _ in range(n_words)]
            expanded = grammar.joiner.join(words) + grammar.full_stop
        else:
            templates = {"plain": grammar.sentences, "short": grammar.short, "named": grammar.named}[kind]
            template = pick(rng, templates)
            if not held_out:
                template = _training_template(rng, grammar, kind, template)
            expanded = grammar.expand(rng, template, **({"rare": name} if name is not None else {}))
        sentence = parse(language, expanded)
        if is_held_out(sentence.text) == held_out:
            return sentence
