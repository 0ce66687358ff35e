"""Arguments of the official package in, what this runtime takes out; the rest is refused or warned about."""

from __future__ import annotations

import base64
import binascii
import contextlib
import difflib
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qwen3_asr_onnx.audio.loading import AudioSource
from qwen3_asr_onnx.bundle.files import Bundle
from qwen3_asr_onnx.errors import AudioError, OptionsError
from qwen3_asr_onnx.model.session import available_providers
from qwen3_asr_onnx.text.languages import normalize_name

__all__ = [
    "CompatWarning",
    "LoadOptions",
    "as_audio",
    "as_language",
    "as_list",
    "broadcast",
    "load_options",
    "open_bundle",
    "warn",
]

_WITHOUT_EFFECT = {
    **dict.fromkeys(("dtype", "torch_dtype"), "the variant decides the precision; choose one with variant=..."),
    "attn_implementation": "attention is fused into the graphs",
    **dict.fromkeys(
        (
            "low_cpu_mem_usage",
            "use_safetensors",
            "trust_remote_code",
            "offload_folder",
            "offload_state_dict",
            "max_memory",
        ),
        "weights are mapped from the bundle, and no code is loaded",
    ),
    **dict.fromkeys(
        (
            *("gpu_memory_utilization", "tensor_parallel_size", "max_model_len", "max_num_seqs", "enforce_eager"),
            *("max_num_batched_tokens", "limit_mm_per_prompt", "disable_log_stats", "seed", "swap_space"),
        ),
        "there is no vLLM engine here",
    ),
}
"""Arguments that steer PyTorch or vLLM, and why they do nothing here."""

_REFUSED = {
    **dict.fromkeys(
        ("quantization_config", "load_in_8bit", "load_in_4bit", "quantization"),
        "a bundle is quantized beforehand: qwen3-asr-onnx quantize; then choose the result with variant=...",
    ),
    "cache_dir": "set the environment variable HF_HUB_CACHE",
    "local_files_only": "set the environment variable HF_HUB_OFFLINE=1",
    "force_download": "run qwen3-asr-onnx pull, which checks every file",
    **dict.fromkeys(
        ("token", "use_auth_token"), "set the environment variable HF_TOKEN, or log in with: hf auth login"
    ),
}
"""Arguments whose meaning matters and is had in another way."""

_OWN = ("device", "device_map", "variant", "threads", "revision", "max_segment_s")

_PACKAGE = "qwen3_asr_onnx."

_BASE64_CHARS = 256
"""The official package takes longer strings without a slash for base64; no file system has longer names."""


class CompatWarning(UserWarning):
    """An argument of the official package has no effect here, or text is missing that it would drop in silence."""


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How to load a bundle: the keyword arguments that mean something here."""

    device: str = "cpu"
    device_was_named: bool = False
    variant: str | None = None
    threads: int | None = None
    revision: str | None = None
    max_segment_s: float | None = None


def load_options(arguments: Mapping[str, Any], caller: str) -> LoadOptions:
    """Return what the keyword arguments of a loader mean.

    Args:
        arguments: those of `AutoModel.from_pretrained` or `vllm.LLM`, and `variant`, `threads`, `revision`,
            `max_segment_s`.
        caller: for messages.

    Raises:
        TypeError: an argument is unknown.
        OptionsError: an argument cannot be honoured.

    Warns:
        CompatWarning: an argument has no effect.
    """
    for name, value in arguments.items():
        if name in _REFUSED and value not in (None, False):
            raise OptionsError(f"{caller}: {name} is not supported here; {_REFUSED[name]}")
        if name not in _OWN and name not in _WITHOUT_EFFECT and name not in _REFUSED:
            close = difflib.get_close_matches(name, [*_OWN, *_WITHOUT_EFFECT], n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise TypeError(f"{caller} got an unexpected keyword argument {name!r}{hint}")
        if name in _WITHOUT_EFFECT and value not in (None, "auto"):
            warn(f"{name}={value!r} has no effect: {_WITHOUT_EFFECT[name]}")
    asked = arguments.get("device", arguments.get("device_map"))
    return LoadOptions(
        device=_device(asked),
        device_was_named=asked not in (None, "auto", "balanced", "balanced_low_0", "sequential"),
        variant=arguments.get("variant"),
        threads=arguments.get("threads"),
        revision=arguments.get("revision"),
        max_segment_s=arguments.get("max_segment_s"),
    )


def open_bundle(name_or_path: str, options: LoadOptions) -> tuple[Bundle, LoadOptions]:
    """Return the bundle, got or fetched from the hub if need be, and the options with a device that this machine has.

    Raises:
        BundleError, OptionsError, LimitError, MissingExtra: as `model_of`.

    Warns:
        CompatWarning: a GPU was named and there is none to be used; the CPU is.
    """
    from qwen3_asr_onnx.bundle.getting import model_of
    from qwen3_asr_onnx.model.recommended import recommended_recipe

    bundle = Bundle.open(model_of(name_or_path, options.variant, options.revision, _say, recommended_recipe))
    if options.device == "cpu" or not bundle.manifest.variants:
        return bundle, options
    variant = options.variant or next(iter(bundle.manifest.variants))
    devices = bundle.manifest.variants[variant].devices if variant in bundle.manifest.variants else ()
    if "CUDAExecutionProvider" not in available_providers():
        why = "this machine's onnxruntime has no CUDA (pip install 'qwen3-asr-onnx[gpu]')"
    elif "cuda" not in devices:
        why = f"variant {variant!r} was made for {', '.join(devices)}; give variant=... one made for cuda"
    else:
        return bundle, options
    if options.device_was_named:
        warn(f"running on the CPU instead of a GPU: {why}")
    return bundle, replace(options, device="cpu")


def as_list(value: Any) -> list[Any]:
    """Return a list as it is, anything else as the only element of one."""
    return value if isinstance(value, list) else [value]


def broadcast(value: Any, n_audios: int, name: str) -> list[Any]:
    """Return one value per audio.

    Raises:
        OptionsError: neither one value nor as many as there are audios.
    """
    values = as_list(value)
    if len(values) == 1 and n_audios > 1:
        return values * n_audios
    if len(values) != n_audios:
        raise OptionsError(f"Batch size mismatch: audio={n_audios}, {name}={len(values)}")
    return values


def as_language(value: Any, supported: Sequence[str]) -> str | None:
    """Return a language name as the model spells it, None for none or a blank one. Codes are not names here.

    Raises:
        OptionsError: the model does not know it.
    """
    if value is None or not str(value).strip():
        return None
    name = normalize_name(str(value))
    if name not in supported:
        raise OptionsError(f"Unsupported language: {name}. Supported: {', '.join(supported)}")
    return name


def as_audio(value: Any) -> AudioSource:
    """Return what `load_audio` takes for one audio of the official package.

    Args:
        value: path, URL, base64 text with or without `data:audio...,` before it, or (array, sample rate).

    Raises:
        TypeError: of another type.
        AudioError: not base64 where only base64 can be meant.
    """
    if isinstance(value, str):
        is_data_url = value.startswith("data:audio")
        if not is_data_url and (len(value) <= _BASE64_CHARS or "/" in value or "\\" in value):
            return value
        try:
            return base64.b64decode(value.partition(",")[2] if is_data_url else value)
        except binascii.Error as error:
            raise AudioError(f"audio text of {len(value)} characters is not base64: {error}") from error
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], np.ndarray):
        return value[0], int(value[1])
    raise TypeError(
        f"Unsupported audio input type: {type(value)}; give a path, URL or base64 text, or (array, sample rate)"
    )


def _device(asked: Any) -> str:
    """Return "cpu" or "cuda".

    Raises:
        OptionsError: another device, or several.
    """
    if isinstance(asked, Mapping):
        places = {_device(place) for place in asked.values()}
        if len(places) != 1:
            raise OptionsError(f"device_map is {asked!r}; a model runs on one device here, give cpu or cuda")
        return places.pop()
    if isinstance(asked, int) and not isinstance(asked, bool):
        asked = f"cuda:{asked}"
    text = "cpu" if asked is None else str(asked).lower()  # str also of a torch.device
    if text in ("auto", "balanced", "balanced_low_0", "sequential"):
        return "cuda"  # if there is one, which is found out when the bundle is known
    if text in ("cpu", "cuda", "cuda:0"):
        return text.partition(":")[0]
    if text.startswith("cuda:"):
        raise OptionsError(
            f"device {text!r}: the first visible GPU is used; set CUDA_VISIBLE_DEVICES to choose another"
        )
    raise OptionsError(f"device {asked!r} is not supported; give cpu or cuda")


def _say(message: str) -> None:
    """Write a line to stderr: to name a checkpoint is to ask for the minutes that it takes to make a model of it."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            sys.stderr.write(f"qwen3-asr-onnx: {message}\n")
            sys.stderr.flush()


def warn(message: str) -> None:
    """Raise a `CompatWarning` at the line of the user's script that called into this package."""
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, CompatWarning, stacklevel=level)
