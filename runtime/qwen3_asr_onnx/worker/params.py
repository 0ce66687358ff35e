"""Parameters of a verb, as they came in JSON -> checked values, or a fault that names what is wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from qwen3_asr_onnx.arrays import SAMPLE_RATE
from qwen3_asr_onnx.audio.blocks import check_rate, to_mono
from qwen3_asr_onnx.audio.loading import AudioSource
from qwen3_asr_onnx.audio.raw_pcm import PCM_FORMATS, decode_pcm
from qwen3_asr_onnx.errors import AudioError

from .faults import INVALID_PARAMS, INVALID_REQUEST, Fault
from .wire import Message

__all__ = ["VERBS", "Param", "Raw", "audio_of", "checked", "raw_of", "shown"]


class Param(NamedTuple):
    """What a parameter may be: JSON types, and whether it must be there."""

    types: tuple[type, ...]
    required: bool = False


Params: TypeAlias = Mapping[str, Param]

STRING, NUMBER, WHOLE, FLAG = (str,), (int, float), (int,), (bool,)
_NAMES = {str: "string", float: "number", int: "whole number", bool: "true or false"}
"""What JSON calls the types; a whole number is a number."""

_SHOWN_CHARS = 100

_RAW: Params = {"format": Param(STRING), "rate": Param(WHOLE), "channels_sent": Param(WHOLE)}
"""How samples without a header are sent."""

_AUDIO: Params = {"audio": Param(STRING), **_RAW}
"""Where audio comes from: a path, or a payload, which is a file's bytes unless `format` is given."""


_LOAD: Params = {
    "model": Param(STRING),
    "variant": Param(STRING),
    "device": Param(STRING),
    "threads": Param(WHOLE),
    "aligner": Param((str, bool)),
    "aligner_variant": Param(STRING),
    "batch_size": Param(WHOLE),
}
_TRANSCRIBE: Params = {
    "language": Param(STRING),
    "context": Param(STRING),
    "timestamps": Param(STRING),
    "max_new_tokens": Param(WHOLE),
    "max_segment_s": Param(NUMBER),
    "split": Param(STRING),
    "time_limit_s": Param(NUMBER),
    "start_s": Param(NUMBER),
    "end_s": Param(NUMBER),
    "track": Param(WHOLE),
    "channels": Param((str, int)),
}
_STREAM: Params = {
    "language": Param(STRING),
    "context": Param(STRING),
    "max_new_tokens": Param(WHOLE),
    "split": Param(STRING),
    "policy": Param(STRING),
    "chunk_s": Param(NUMBER),
}

VERBS: Mapping[str, Params] = {
    "hello": {"protocol": Param(WHOLE), "token": Param(STRING), "client": Param(STRING)},
    "load": _LOAD,
    "unload": {},
    "models": {},
    "transcribe": {**_AUDIO, **_TRANSCRIBE, "priority": Param(WHOLE), "partials": Param(FLAG)},
    "align": {**_AUDIO, "text": Param(STRING, required=True), "language": Param(STRING)},
    "stream.open": {**_RAW, **_STREAM},
    "stream.feed": {"stream": Param(STRING, required=True)},
    "stream.finish": {"stream": Param(STRING, required=True)},
    "cancel": {"id": Param((str, int), required=True)},
    "shutdown": {},
}
"""What each verb takes."""

_WITH_PAYLOAD = ("transcribe", "align", "stream.feed")


class Raw(NamedTuple):
    """How samples without a header are laid out."""

    format: str
    rate: int
    n_channels: int

    def decoded(self, payload: bytes) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Return the mono samples of a payload, (n,) float32, at its own rate."""
        try:
            return to_mono(decode_pcm(payload, self.format, self.n_channels))
        except AudioError as error:
            raise Fault(INVALID_PARAMS, f"payload: {error}") from error


def checked(message: Message) -> dict[str, Any]:
    """Return the parameters of a message that are not null, all of them known to its verb and of the right type.

    Raises:
        Fault: one is not, or it has a payload and must not.
    """
    known = VERBS[message.method]
    if message.payload is not None and message.method not in _WITH_PAYLOAD:
        raise Fault(INVALID_REQUEST, f"{message.method} takes no payload")
    params = {name: value for name, value in message.params.items() if value is not None}
    for name, value in params.items():
        if name not in known:
            raise Fault(
                INVALID_PARAMS, f"{message.method} has no parameter {shown(name)}; it has: {', '.join(known) or 'none'}"
            )
        types = known[name].types
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            wanted = " or ".join(_NAMES[kind] for kind in types if kind is not int or float not in types)
            raise Fault(INVALID_PARAMS, f"{name} is {shown(value)}; give a {wanted}")
    missing = [name for name, param in known.items() if param.required and name not in params]
    if missing:
        raise Fault(INVALID_PARAMS, f"{message.method} needs {missing[0]}")
    return params


def raw_of(params: dict[str, Any], default_format: str | None = None) -> Raw | None:
    """Take what describes raw samples out of the parameters; None where nothing does.

    Raises:
        Fault: it cannot be.
    """
    sample_format = params.pop("format", default_format)
    rate, n_channels = params.pop("rate", SAMPLE_RATE), params.pop("channels_sent", 1)
    if sample_format is None:
        return None
    if sample_format not in PCM_FORMATS:
        raise Fault(INVALID_PARAMS, f"format is {shown(sample_format)}; give one of: {', '.join(PCM_FORMATS)}")
    if not 1 <= n_channels <= 64:
        raise Fault(INVALID_PARAMS, f"channels_sent is {n_channels}; give 1 to 64")
    try:
        check_rate(rate, "rate")
    except AudioError as error:
        raise Fault(INVALID_PARAMS, str(error)) from error
    return Raw(sample_format, rate, n_channels)


def audio_of(message: Message, params: dict[str, Any]) -> AudioSource:
    """Take the audio out of the parameters of a message.

    Raises:
        Fault: there is none, or two.
    """
    path, raw = params.pop("audio", None), raw_of(params)
    if (path is None) == (message.payload is None):
        raise Fault(INVALID_PARAMS, "give the audio once: its path as params.audio, or its bytes as a payload")
    if path is not None:
        if raw is not None:
            raise Fault(INVALID_PARAMS, "format describes a payload, and the audio is a path")
        return Path(path)  # and no URL, nor standard input
    assert message.payload is not None
    return message.payload if raw is None else (raw.decoded(message.payload), raw.rate)


def shown(value: object) -> str:
    """Return a value of a message as it was sent, the beginning of a long one."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "..."
