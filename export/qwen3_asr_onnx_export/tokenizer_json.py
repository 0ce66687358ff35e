"""The tokenizer of a checkpoint as one `tokenizer.json`: vocabulary, merges and added tokens in, the bundle's file out.

The original repositories ship no tokenizer.json, so it is put together here with the `tokenizers` package alone.
transformers is only needed to compare the result with its own; what the file alone can tell is checked without it.
"""

from __future__ import annotations

import shutil
import unicodedata
from pathlib import Path
from typing import Any

from qwen3_asr_onnx.bundle.json_text import parse_json, read_regular_text
from qwen3_asr_onnx.bundle.sections import MAX_VOCABULARY
from qwen3_asr_onnx.errors import BundleError

__all__ = ["SPLIT_PATTERN", "build_tokenizer_json", "check_tokenizer_json", "verify_tokenizer_json"]

MAX_TOKENIZER_BYTES = 256 << 20

# How Qwen2 cuts text into words before BPE: English contractions; a word with at most one leading mark; single digits;
# a run of marks with the line breaks after it; line breaks; white space. transformers 4.57's `fix_mistral_regex` puts
# another model's pattern here for local directories; the checkpoints were trained with this one.
SPLIT_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
    r"|[^\r\n\p{L}\p{N}]?\p{L}+"
    r"|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+"
    r"|\s+(?!\S)"
    r"|\s+"
)

_VERIFIED_TEXTS = (
    "",
    " ",
    "\n",
    "\n\nfoo",
    "system\n",
    "user\n",
    "assistant\n",
    "Hello, world. It's 12345 o'clock; WE'LL see 3.14159!",
    "PostgreSQL snake_case camelCase CONST_42 https://example.org/a_b?c=d#e",
    "   leading, trailing   \t and\r\nCRLF\n\n\n",
    "cafe\u0301 café naïve ﬁ Ⅷ ½ “quotes” … — ‐",
    "甚至出现交易几乎停滞的情况。呢几个字都表达唔到",
    "客観的実在の判断的知識が成立するのである。ｶﾀｶﾅ",
    "그는 이리저리 피하면서 길 한 옆으로 걸어갔다. \u1100\u1161\u11a8",
    "كما أثنى الزملاء المصارعون على لونا. ١٢٣ سلام\u200cها",
    "Важно различать глаголы. Македонија ѓ ќ",
    "लूना को साथी पहलवानों ने भी १२३",
    "สวัสดีครับ วันนี้อากาศดี",
    "Xin chào các bạn, Tiếng Việt",
    "Ein Maß für Größe & Weiß; příliš žluťoučký kůň; İstanbul'da ığdır",
    "Ελληνικά και ελληνικά; magyarul őű; română ș ț",
    "emoji: 😀 🎉 👩\u200d👩\u200d👧 🏳️\u200d🌈 𝔘𝔫𝔦𝔠𝔬𝔡𝔢",
    "\u0000\u0001\u200b\ufeff\ufffd\u2028\u0085",
    "< |im_end| > <blank <asr_text",
)


def build_tokenizer_json(checkpoint_dir: str | Path, out_path: str | Path) -> None:
    """Write the `tokenizer.json` of a checkpoint; the same checkpoint always gives the same bytes.

    A checkpoint that has the file keeps it as it is. Otherwise it is built from `vocab.json`, `merges.txt` and the
    `added_tokens_decoder` of `tokenizer_config.json`.

    Args:
        checkpoint_dir: a local checkpoint in either layout.
        out_path: the file to write.

    Raises:
        BundleError: a tokenizer file is missing, damaged, or disagrees with the others.
    """
    checkpoint_dir = Path(checkpoint_dir)
    ready_made = checkpoint_dir / "tokenizer.json"
    if ready_made.is_file():
        shutil.copyfile(ready_made, out_path)
        return
    vocab: dict[str, int] = _read_json(checkpoint_dir / "vocab.json")
    odd = next((key for key, value in vocab.items() if isinstance(value, bool) or not isinstance(value, int)), None)
    if odd is not None or not all(0 <= value < MAX_VOCABULARY for value in vocab.values()):
        raise BundleError(f"{checkpoint_dir / 'vocab.json'}: holds ids that are none; download the checkpoint again")
    merges = _read_merges(checkpoint_dir / "merges.txt")
    tokenizer = _byte_level_bpe(vocab, merges, checkpoint_dir)
    _add_tokens(tokenizer, checkpoint_dir / "tokenizer_config.json")
    Path(out_path).write_text(tokenizer.to_str(pretty=False), encoding="utf-8")


def check_tokenizer_json(checkpoint_dir: str | Path, path: str | Path) -> None:
    """Check what a `tokenizer.json` can tell without another tokenizer to compare it with.

    Every text must come back from its ids, and every token that the checkpoint adds must have the id written there.

    Args:
        checkpoint_dir: the checkpoint the file was made from.
        path: the file to check, known to be a tokenizer.

    Raises:
        BundleError: a text is changed, or an id is another one.
    """
    import tokenizers

    built = tokenizers.Tokenizer.from_file(str(path))
    config = Path(checkpoint_dir) / "tokenizer_config.json"
    entries = _read_json(config).get("added_tokens_decoder", {}) if config.is_file() else {}
    for token_id, content in _added_tokens(entries, config):
        if built.token_to_id(content) != token_id:
            raise BundleError(
                f"{path}: token {content!r} has id {built.token_to_id(content)}, {config} says {token_id}; "
                "are these files of one model?"
            )
    for text in _VERIFIED_TEXTS:
        found = built.decode(built.encode(text, add_special_tokens=False).ids, skip_special_tokens=False)
        if found != unicodedata.normalize("NFC", text):
            raise BundleError(f"{path}: text {text!r} comes back as {found!r}; this is another kind of tokenizer")


def _added_tokens(entries: Any, config: Path) -> list[tuple[int, str]]:
    try:
        return [(int(token_id), str(entry["content"])) for token_id, entry in entries.items()]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BundleError(
            f"{config}: damaged added_tokens_decoder ({type(error).__name__}: {error}); download the checkpoint again"
        ) from error


def verify_tokenizer_json(checkpoint_dir: str | Path, path: str | Path) -> None:
    """Compare a `tokenizer.json` with the tokenizer transformers builds from the checkpoint's own files.

    Compared are the added tokens with their flags, and the ids of texts in many scripts and of text around every added
    token. It takes about two seconds and needs transformers.

    Args:
        checkpoint_dir: the checkpoint the file was made from.
        path: the file to check.

    Raises:
        BundleError: anything differs; the first difference is shown.
    """
    import tokenizers
    import transformers

    try:
        reference = transformers.AutoTokenizer.from_pretrained(str(checkpoint_dir), local_files_only=True)
    except (OSError, ValueError) as error:
        raise BundleError(f"{checkpoint_dir}: transformers cannot load its tokenizer ({error})") from error
    built = tokenizers.Tokenizer.from_file(str(path))
    expected_added = {i: (t.content, t.special) for i, t in reference.added_tokens_decoder.items()}
    built_added = {i: (t.content, t.special) for i, t in built.get_added_tokens_decoder().items()}
    if built_added != expected_added:
        odd = min(set(built_added.items()) ^ set(expected_added.items()))
        raise BundleError(
            f"{path}: added tokens differ from transformers' tokenizer of {checkpoint_dir}, first at {odd}"
        )
    after_added = tuple(f"{text}x {text}\n" for text, _ in expected_added.values())
    for text in (*_VERIFIED_TEXTS, *after_added):
        expected = reference.encode(text, add_special_tokens=False)
        got = built.encode(text, add_special_tokens=False).ids
        if got != expected:
            raise BundleError(
                f"{path}: text {text!r} gives ids {got}, transformers' tokenizer of {checkpoint_dir} gives {expected}"
            )


def _byte_level_bpe(vocab: dict[str, int], merges: list[tuple[str, str]], checkpoint_dir: Path) -> Any:
    """Return Qwen2's `tokenizers.Tokenizer` without added tokens."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    known = set(vocab)
    for left, right in merges:
        if not {left, right, left + right} <= known:
            raise BundleError(f"{checkpoint_dir}: merge {left!r} {right!r} of merges.txt does not fit vocab.json")
    tokenizer = Tokenizer(models.BPE(vocab, merges, continuing_subword_prefix="", end_of_word_suffix=""))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def _add_tokens(tokenizer: Any, config_path: Path) -> None:
    """Add the tokens of a `tokenizer_config.json` and check that each got the id written there."""
    from tokenizers import AddedToken

    entries = _read_json(config_path).get("added_tokens_decoder", {})
    if not entries:
        raise BundleError(f"{config_path}: no added_tokens_decoder, so the special tokens have no ids")
    flags = ("lstrip", "normalized", "rstrip", "single_word", "special")
    try:
        by_id = sorted(((int(token_id), entry) for token_id, entry in entries.items()), key=lambda pair: pair[0])
        tokens = [AddedToken(entry["content"], **{flag: entry[flag] for flag in flags}) for _, entry in by_id]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BundleError(
            f"{config_path}: damaged added_tokens_decoder ({type(error).__name__}: {error}); "
            "download the checkpoint again"
        ) from error
    tokenizer.add_tokens(tokens)
    for token_id, entry in by_id:
        got = tokenizer.token_to_id(entry["content"])
        if got != token_id:
            raise BundleError(
                f"{config_path}: token {entry['content']!r} should have id {token_id}, vocab.json gives {got}"
            )


def _read_json(path: Path) -> dict[str, Any]:
    """Return the object in one of the checkpoint's JSON files."""
    try:
        body = parse_json(read_regular_text(path, MAX_TOKENIZER_BYTES), path)
    except FileNotFoundError as error:
        raise BundleError(f"{path}: missing; download the checkpoint again") from error
    if not isinstance(body, dict):
        raise BundleError(f"{path}: holds no JSON object; download the checkpoint again")
    return body


def _read_merges(path: Path) -> list[tuple[str, str]]:
    """Return the pairs of a `merges.txt`, in order of rank."""
    try:
        lines = read_regular_text(path, MAX_TOKENIZER_BYTES).split("\n")
    except FileNotFoundError as error:
        raise BundleError(f"{path}: missing; download the checkpoint again") from error
    merges = []
    for number, line in enumerate(lines, start=1):
        if not line or (number == 1 and line.startswith("#version")):
            continue
        pair = line.split(" ")
        if len(pair) != 2:
            raise BundleError(f"{path}: line {number} is {line!r}, not two symbols; download the checkpoint again")
        merges.append((pair[0], pair[1]))
    return merges
