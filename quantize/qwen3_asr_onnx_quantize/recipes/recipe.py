"""Recipe file (TOML) -> a frozen `Recipe`: what becomes of each part of the model, checked before any work starts.

    name = "mine"                          # names the variant; the file's own name when absent
    rotation = false                       # turn the decoder's residual stream into a basis without outliers first
    encoder_rotation = false               # likewise the encoder's
    smoothing = false                      # even out the channels inside the decoder's layers first
    rescoring = false                      # the best few tokens get exact logits from the embedding table | true, or
                                           # "tied": where the model's head is that table
    verified = false                       # the step graph drafts, the prefill graph decides what is written
    [encoder]                              # absent: stays float32, by reference to the source's files
    scheme = "w8a8"                        # fp32 | fp16 | int4 | int8 | w8a8
    [stem]                                 # the encoder's convolutions
    scheme = "fp16"                        # fp32 (when absent) | fp16: how they are stored | w8a8: integer products
    [step]                                 # the one-token graph
    scheme = "int4"
    block = 128
    [init]                                 # the prefill graph; absent: the same as step, and one weight file for both
    [head]                                 # `lm_head` in both graphs; absent: as step. A float32 judge keeps its own
    [embedding]
    scheme = "fp16"                        # `embed_tokens.bin` as it is | int8: half the bytes, one scale per token

Every key of every scheme is a field of the dataclass that parses it. A key nobody knows is an error, never ignored.
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeVar

from qwen3_asr_onnx.errors import MissingExtra, OptionsError
from qwen3_asr_onnx_quantize.schemes import SCHEMES, Embedding, Keep, Scheme, Stem
from qwen3_asr_onnx_quantize.schemes.base import require

from .published import published_recipes

__all__ = ["BASIS_SWITCHES", "Recipe", "load_recipe", "parse_recipe", "read_toml", "recipe_from_table"]

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
"""Variant names become parts of file names, on every file system."""

BASIS_SWITCHES = ("rotation", "smoothing")
SWITCHES = (*BASIS_SWITCHES, "rescoring", "encoder_rotation", "verified")
"""Keys of the recipe itself that are true or false."""

_Kind = TypeVar("_Kind", Embedding, Stem)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What becomes of each part.

    Attributes:
        name: names the variant.
        encoder: the products of the encoder graph.
        init: the layers of the prefill graph.
        step: the layers of the one-token graph.
        head: `lm_head` of both decoder graphs.
        embedding: the table of input embeddings.
        stem: the convolutions of the encoder graph.
        rotation: turn the residual stream of the decoder by a random orthogonal matrix before anything is quantised.
        encoder_rotation: likewise in the encoder, whose layer norms become norms of the mean square.
        smoothing: give the channels that no rotation reaches, inside the decoder's layers, equal weight on both sides.
        rescoring: let the runtime compute the logits of the best few tokens anew from the embedding table, which holds
            the head's weights in their original precision; those of the judge alone, where there is one. "tied" is
            true for models whose head is that table, and false for others: see `for_head`.
        verified: let the step graph draft and the prefill graph decide: the text is that of the prefill graph alone.
    """

    name: str
    encoder: Scheme
    init: Scheme
    step: Scheme
    head: Scheme
    embedding: Embedding = field(default_factory=Embedding)
    stem: Stem = field(default_factory=Stem)
    rotation: bool = False
    encoder_rotation: bool = False
    smoothing: bool = False
    rescoring: bool | Literal["tied"] = False
    verified: bool = False

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name) or self.name.endswith("."):
            raise OptionsError(
                f"recipe name {self.name!r} cannot name files; use lower-case letters, digits, '-', '_' and '.'"
            )
        if self.encoder.calibrated:
            raise OptionsError("[encoder]: calibration is for the decoder; leave it out here")
        if self.name == "fp32":
            raise OptionsError("recipe name 'fp32' is the exported variant's; give the recipe another name")
        whole = [part.whole_graph for part in self.decoder]
        if any(whole) and (not all(whole) or self.rotation):
            raise OptionsError(
                f'scheme "{self.decoder[whole.index(True)].scheme}" is for a whole decoder: give it to [step] alone, '
                "without rotation"
            )
        if self.encoder.whole_graph and self.encoder_rotation:
            raise OptionsError(f'scheme "{self.encoder.scheme}" of [encoder] goes without encoder_rotation')

        if self.verified:
            self._check_judge()

    def _check_judge(self) -> None:
        """Raise unless the prefill graph can go on from what the step graph has put into the cache, and differs."""
        if self.init == self.step:
            raise OptionsError("verified = true needs an [init] of its own: the same weights would judge themselves")
        if self.source_judges and self.rescoring:
            raise OptionsError("verified = true with a float32 [init] goes without rescoring: its head is exact")
        if self.source_judges and self.smoothing:
            raise OptionsError(
                "verified = true with a float32 [init] goes without smoothing, which scales the values that [step] "
                "keeps in the cache, so that the two graphs do not understand each other's"
            )

    def for_head(self, *, tied: bool) -> Recipe:
        """Return the recipe for a model whose head is the embedding table, or is not."""
        return replace(self, rescoring=tied) if self.rescoring == "tied" else self

    @property
    def source_judges(self) -> bool:
        """Whether the judge is the source's own prefill graph, with its own head."""
        return self.verified and self.init.scheme == "fp32"

    @property
    def decoder(self) -> tuple[Scheme, Scheme, Scheme]:
        """The parts of the decoder: prefill, step and head."""
        return self.init, self.step, self.head

    @property
    def calibrated(self) -> bool:
        """Whether making it needs calibration audio."""
        return any(part.calibrated for part in self.decoder)

    @property
    def needs(self) -> tuple[str, ...]:
        """What the variant needs of the processor, in the words of the manifest."""
        return tuple(sorted({need for part in (self.encoder, self.stem, *self.decoder) for need in part.needs}))

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as JSON values, every default spelled out."""
        return {
            key: {k: list(v) if isinstance(v, tuple) else v for k, v in value.items()}
            if isinstance(value, dict)
            else value
            for key, value in asdict(self).items()
        }


def load_recipe(name_or_path: str) -> Recipe:
    """Return a published recipe by name, or the recipe in a TOML file.

    Raises:
        OptionsError: neither exists, or what is there is not a recipe.
    """
    path = Path(name_or_path)
    if path.suffix == ".toml" or path.name != name_or_path:
        return recipe_from_table(read_toml(path), path.stem, where=str(path))
    recipes = published_recipes()
    if name_or_path not in recipes:
        raise OptionsError(
            f"no recipe {name_or_path!r}{_suggestion(name_or_path, recipes)}; "
            f"published: {', '.join(recipes)}; or give a .toml file"
        )
    return parse_recipe(recipes[name_or_path], name_or_path, where=f"recipe {name_or_path}")


def parse_recipe(text: str, default_name: str, *, where: str) -> Recipe:
    """Parse a recipe.

    Args:
        text: TOML.
        default_name: the name of a recipe that does not name itself.
        where: what to call it in errors.

    Raises:
        OptionsError: not TOML, or a key or value that no scheme has.
    """
    return recipe_from_table(_parsed(text, where), default_name, where=where)


def read_toml(path: Path) -> dict[str, Any]:
    """Return what a TOML file says.

    Raises:
        OptionsError: it cannot be read, or is not TOML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OptionsError(f"recipe {path}: cannot be read ({error})") from error
    return _parsed(text, str(path))


def recipe_from_table(body: Mapping[str, Any], default_name: str, *, where: str) -> Recipe:
    """Return the recipe that a parsed TOML file holds; arguments and errors as for `parse_recipe`."""
    try:
        _known(body, [field.name for field in fields(Recipe)], "the recipe")
        if "step" not in body:
            raise OptionsError('no [step] table; give at least [step] with a scheme, for example scheme = "int4"')
        name = body.get("name", default_name)
        require(isinstance(name, str), "name", name, "a string")
        for key in SWITCHES:
            either, words = (("tied",), ' or "tied"') if key == "rescoring" else ((), "")
            known = isinstance(body.get(key, False), bool) or body[key] in either
            require(known, key, body.get(key), f"true or false{words}")
        step = _part(body["step"], "[step]")
        head = _part(body["head"], "[head]") if "head" in body else _without_exclusions(step)
        return Recipe(
            name=name,
            encoder=_part(body["encoder"], "[encoder]") if "encoder" in body else Keep(),
            init=_part(body["init"], "[init]") if "init" in body else step,
            step=step,
            head=head,
            embedding=_choice(Embedding, body, "embedding", ("fp16", "int8")),
            stem=_choice(Stem, body, "stem", ("fp32", "fp16", "w8a8")),
            **{key: body.get(key, False) for key in SWITCHES},
        )
    except OptionsError as error:
        raise OptionsError(f"{where}: {error}") from error


def _parsed(text: str, where: str) -> dict[str, Any]:
    toml = _toml()
    try:
        body: dict[str, Any] = toml.loads(text)
    except toml.TOMLDecodeError as error:
        raise OptionsError(f"{where}: not valid TOML ({error})") from error
    return body


def _toml() -> ModuleType:
    """Return the TOML reader: `tomllib` comes with Python 3.11."""
    for name in ("tomllib", "tomli"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise MissingExtra("reading recipes on Python 3.10 needs tomli: pip install 'qwen3-asr-onnx[quantize]'")


def _part(table: object, where: str) -> Scheme:
    table = _table(table, where)
    scheme = table.get("scheme")
    if not isinstance(scheme, str) or scheme not in SCHEMES:
        raise OptionsError(
            f"{where}: scheme is {scheme!r}{_suggestion(str(scheme), SCHEMES)}; give one of {', '.join(SCHEMES)}"
        )
    kind = SCHEMES[scheme]
    _known(table, [field.name for field in fields(kind)], f"{where}, scheme {scheme},")
    values: dict[str, Any] = {}
    for key, value in table.items():
        values[key] = tuple(value) if isinstance(value, list) else value
    try:
        for key, value in values.items():
            _same_type(key, value, getattr(kind(), key))
        return kind(**values)
    except OptionsError as error:
        raise OptionsError(f"{where}: {error}") from error


def _choice(kind: type[_Kind], body: Mapping[str, Any], key: str, schemes: Sequence[str]) -> _Kind:
    """Return the part that a table describes; the default one where there is no such table."""
    if key not in body:
        return kind()
    table = _table(body[key], f"[{key}]")
    _known(table, [field.name for field in fields(kind)], f"[{key}]")
    for name, value in table.items():
        _same_type(f"[{key}]: {name}", value, getattr(kind(), name))
    scheme = table.get("scheme")
    require(scheme in schemes, f"[{key}]: scheme", scheme, " or ".join(f'"{name}"' for name in schemes))
    return kind(**table)


def _without_exclusions(part: Any) -> Scheme:
    """Return the scheme alone: patterns written for the layers say nothing about the head."""
    alone: Scheme = replace(part, exclude=()) if part.exclude else part
    return alone


def _table(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise OptionsError(f"{where} is {value!r}; it must be a table of keys")
    return value


def _same_type(key: str, value: object, default: object) -> None:
    """Raise unless a value has the type of the field's default. A bool is no int here."""
    require(type(value) is type(default), key, value, f"a value like {default!r}")
    if isinstance(value, tuple):
        require(all(isinstance(item, str) and item for item in value), key, list(value), "a list of patterns")


def _known(table: Mapping[str, Any], keys: Iterable[str], what: str) -> None:
    keys = list(keys)
    for key in table:
        if key not in keys:
            raise OptionsError(f"{what} has no key {key!r}{_suggestion(key, keys)}; keys: {', '.join(keys)}")


def _suggestion(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""
