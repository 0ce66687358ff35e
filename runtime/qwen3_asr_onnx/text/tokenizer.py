"""Text to token ids and back. Plain text can never become a special token: those are only reachable by name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwen3_asr_onnx.errors import BundleError, OptionsError

__all__ = ["AddedToken", "Tokenizer"]

MAX_IDS = 1 << 31

# Inside a JSON string every quote is escaped, and a vocabulary entry is followed by a number, so only the key matches.
_ADDED_TOKENS_KEY = re.compile(r'"added_tokens"\s*:\s*(?=\[)')


@dataclass(frozen=True, slots=True)
class AddedToken:
    """One token beside the BPE vocabulary, such as `<|im_start|>`.

    Attributes:
        id: its token id.
        text: how it is written.
        special: True when decoding drops it by default; `<asr_text>` is added but not special.
    """

    id: int
    text: str
    special: bool


class Tokenizer:
    """Byte-level BPE of a bundle, its added tokens kept apart from ordinary text. Safe to share between threads."""

    def __init__(self, bpe: Any, added: Iterable[AddedToken]) -> None:
        self._bpe = bpe
        self._added = {token.id: token for token in added}
        self._id_of = {token.text: token.id for token in self._added.values()}

    @classmethod
    def from_file(cls, path: str | Path) -> Tokenizer:
        """Return the tokenizer stored in a `tokenizer.json`.

        The added tokens are cut out of the file before the BPE is built, so that no input text can produce their ids.

        Args:
            path: a file in the format of the `tokenizers` package, with a byte-level decoder.

        Raises:
            BundleError: the file is missing, damaged, or not a byte-level BPE.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BundleError(f"{path}: cannot read the tokenizer ({error}); export the bundle again") from error
        bpe_json, added = _split_added_tokens(text, path)
        return cls(_build_bpe(bpe_json, path), added)

    @property
    def added_tokens(self) -> Mapping[int, AddedToken]:
        """The added tokens by id."""
        return self._added

    @property
    def n_ids(self) -> int:
        """One more than the largest id, as far as that can be told without reading the whole vocabulary."""
        n_ordinary: int = self._bpe.get_vocab_size(with_added_tokens=False)
        return max(n_ordinary, max(self._added, default=-1) + 1)

    def encode(self, text: str) -> list[int]:
        """Return the ids of plain text; `<|im_end|>` and its like are spelled out as ordinary characters.

        Raises:
            OptionsError: the text holds half of a surrogate pair, which has no UTF-8 form.
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise OptionsError(f"text is not valid Unicode: lone surrogate at character {error.start}") from error
        ids: list[int] = self._bpe.encode(text, add_special_tokens=False).ids
        return ids

    def special_id(self, text: str) -> int:
        """Return the id of an added token.

        Args:
            text: its exact spelling, for example "<|im_start|>".

        Raises:
            BundleError: the tokenizer has no such token.
        """
        try:
            return self._id_of[text]
        except KeyError:
            raise BundleError(
                f"the tokenizer has no token {text!r}; its tokenizer.json does not belong to a Qwen3-ASR checkpoint"
            ) from None

    def token_bytes(self, token_id: int) -> bytes:
        """Return the UTF-8 bytes one token stands for, possibly a part of a character; b"" for an id without text."""
        added = self._added.get(token_id)
        symbols = added.text if added is not None else self._bpe.id_to_token(token_id)
        if symbols is None:  # the embedding has more rows than the vocabulary has entries
            return b""
        try:
            return bytes(_BYTE_OF_SYMBOL[symbol] for symbol in symbols)
        except KeyError:  # an added token written outside the byte alphabet stands for itself
            return bytes(symbols.encode("utf-8"))

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        """Return the text of token ids; bytes that are no valid UTF-8 become U+FFFD.

        Args:
            ids: token ids; ids without text are passed over.
            skip_special: leave out added tokens flagged special. Others, `<asr_text>` among them, always appear.
        """
        return b"".join(self._visible_bytes(token_id, skip_special) for token_id in ids).decode("utf-8", "replace")

    def _visible_bytes(self, token_id: int, skip_special: bool) -> bytes:
        added = self._added.get(token_id)
        if skip_special and added is not None and added.special:
            return b""
        return self.token_bytes(token_id)


def _split_added_tokens(text: str, path: Path) -> tuple[str, list[AddedToken]]:
    """Return the tokenizer JSON without its added tokens, and those tokens.

    Cutting the text spares a full JSON parse and dump of 300,000 entries, which would double the load time.
    """
    key = _ADDED_TOKENS_KEY.search(text)
    if key is None:
        raise BundleError(f"{path}: not a tokenizer.json (no added_tokens list); export the bundle again")
    try:
        entries, end = json.JSONDecoder().raw_decode(text, key.end())
        added = [AddedToken(_token_id(e["id"]), str(e["content"]), bool(e["special"])) for e in entries]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(f"{path}: damaged added_tokens list ({repr(error)[:99]}); export the bundle again") from error
    return f"{text[: key.end()]}[]{text[end:]}", added


def _token_id(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < MAX_IDS:
        raise ValueError("an id that is none")
    return value


def _build_bpe(bpe_json: str, path: Path) -> Any:
    """Return the `tokenizers.Tokenizer` of a tokenizer JSON, checked to be byte-level."""
    import tokenizers

    try:
        bpe = tokenizers.Tokenizer.from_str(bpe_json)
    except Exception as error:  # tokenizers (0.23) raises nothing more precise
        raise BundleError(f"{path}: damaged tokenizer ({str(error)[:200]}); export the bundle again") from error
    if type(bpe.decoder).__name__ != "ByteLevel":
        raise BundleError(f"{path}: decoder is {bpe.decoder!r}; only byte-level tokenizers are supported")
    bpe.no_padding()
    bpe.no_truncation()
    return bpe


def _byte_alphabet() -> dict[str, int]:
    """Return printable symbol -> byte of byte-level BPE.

    Printable Latin-1 characters stand for their own byte; the other bytes, in order, are shown as U+0100, U+0101, and
    so on (Radford et al. 2019, GPT-2).
    """
    own = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    shifted = [byte for byte in range(256) if byte not in own]
    return {chr(byte): byte for byte in own} | {chr(0x100 + rank): byte for rank, byte in enumerate(shifted)}


_BYTE_OF_SYMBOL = _byte_alphabet()
