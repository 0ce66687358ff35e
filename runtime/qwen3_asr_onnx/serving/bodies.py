"""Transcripts -> the bodies of replies: json, verbose_json, what was used, log probabilities."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qwen3_asr_onnx.arrays import SAMPLE_RATE
from qwen3_asr_onnx.model.asking import Prompter
from qwen3_asr_onnx.results import Segment, Transcript, Word, doubts
from qwen3_asr_onnx.text.languages import LANGUAGE_CODES

if TYPE_CHECKING:
    from qwen3_asr_onnx.options import TranscribeOptions
    from qwen3_asr_onnx.transcriber import Transcriber

    from .fields import Wish

__all__ = ["plain_body", "segment_body", "token_usage", "verbose_body", "word_bodies"]


def plain_body(transcript: Transcript, wish: Wish, transcriber: Transcriber) -> dict[str, Any]:
    """Return the body of response_format=json, which the last event of a stream holds too."""
    body: dict[str, Any] = {
        "text": transcript.text,
        "languages": _language_codes(transcript.language),
        "usage": token_usage(transcript, wish.options, transcriber),
    }
    if wish.logprobs:
        body["logprobs"] = _logprobs(transcript, transcriber)
    return {**body, **_warnings(transcript, wish)}


def verbose_body(transcript: Transcript, wish: Wish) -> dict[str, Any]:
    """Return the body of response_format=verbose_json."""
    body: dict[str, Any] = {
        "task": "transcribe",
        "language": transcript.language.split(",")[0].lower(),
        "languages": _language_codes(transcript.language),
        "duration": transcript.duration_s,
        "text": transcript.text,
        "segments": [segment_body(number, segment) for number, segment in enumerate(transcript.segments)],
        "usage": {"type": "duration", "seconds": math.ceil(transcript.duration_s)},
        "stop_reason": transcript.stop_reason,
    }
    if transcript.words is not None:
        body["words"] = word_bodies(transcript.words)
    return {**body, **_warnings(transcript, wish)}


def segment_body(number: int, segment: Segment) -> dict[str, Any]:
    """Return one segment as Whisper's API shows it, with language and stop_reason beside."""
    encoded = segment.text.encode()
    return {
        "id": number,
        "seek": round(segment.start_s * 100),
        "start": segment.start_s,
        "end": segment.end_s,
        "text": segment.text,
        "tokens": list(segment.token_ids),
        "temperature": 0.0,
        "avg_logprob": segment.avg_logprob,
        "compression_ratio": len(encoded) / len(zlib.compress(encoded)) if encoded else 0.0,
        "no_speech_prob": 1.0 if segment.stop_reason == "no_speech" else 0.0,
        "language": segment.language,
        "stop_reason": segment.stop_reason,
    }


def word_bodies(words: Iterable[Word]) -> list[dict[str, Any]]:
    """Return words with their times in seconds."""
    return [{"word": word.text, "start": word.start_s, "end": word.end_s} for word in words]


def _language_codes(language: str) -> list[dict[str, str]]:
    """Return the languages of a transcript as the protocol lists them."""
    names = dict.fromkeys(name for name in language.split(",") if name)
    return [{"code": LANGUAGE_CODES.get(name, name.lower())} for name in names]


def _logprobs(transcript: Transcript, transcriber: Transcriber) -> list[dict[str, Any]]:
    """Return the log probability of every token of the text; what the model writes before it is left out."""
    return [entry for segment in transcript.segments for entry in _segment_logprobs(segment, transcriber)]


def _segment_logprobs(segment: Segment, transcriber: Transcriber) -> list[dict[str, Any]]:
    tokenizer, answer = transcriber.tokenizer, transcriber.manifest.answer
    ids: Sequence[int] = segment.token_ids
    assert answer is not None, "every model that writes text has it"
    tag = tokenizer.special_id(answer.tag)
    first = ids.index(tag) + 1 if tag in ids else 0
    pairs = zip(ids[first:], segment.token_logprobs[first:], strict=True)
    return [
        {"token": tokenizer.decode([token]), "bytes": list(tokenizer.token_bytes(token)), "logprob": value}
        for token, value in pairs
    ]


def token_usage(transcript: Transcript, options: TranscribeOptions, transcriber: Transcriber) -> dict[str, Any]:
    """Return the tokens that were read and written, over all pieces."""
    prompter = Prompter.for_options(transcriber, options)
    sizes = [round((segment.end_s - segment.start_s) * SAMPLE_RATE) for segment in transcript.segments]
    audio = sum(prompter.n_audio_tokens(size) for size in sizes)
    text = (len(prompter.prompt(1).ids) - 1) * len(sizes)
    written = len(transcript.token_ids)
    return {
        "type": "tokens",
        "input_tokens": audio + text,
        "output_tokens": written,
        "total_tokens": audio + text + written,
        "input_token_details": {"audio_tokens": audio, "text_tokens": text},
    }


def _warnings(transcript: Transcript, wish: Wish) -> Mapping[str, Any]:
    """Return what the client should know of: nothing is left out in silence."""
    found = [*wish.warnings, *doubts(transcript.segments)]
    return {"warnings": found} if found else {}
