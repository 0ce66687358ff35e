"""What was packed -> the model card: what it is, what it was made of, what was measured, how five programs take it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from qwen3_asr_onnx.bundle.manifest import Manifest
from qwen3_asr_onnx.text.languages import LANGUAGE_CODES

__all__ = ["CARD_FILE", "Packed", "model_card"]

CARD_FILE = "README.md"

RELEASED = ("Qwen3-ASR-0.6B", "Qwen3-ASR-1.7B", "Qwen3-ForcedAligner-0.6B")
"""Checkpoints of the owner Qwen on the Hugging Face hub; a bundle is called as its checkpoint is."""

LICENSE = "apache-2.0"
"""Of all three."""


@dataclass(frozen=True, slots=True)
class Packed:
    """An archive that was written.

    Attributes:
        name: of the folder in it.
        variant: of the bundle.
        layout: whose files they are.
        sizes: bytes of each part, by its file name.
        n_bytes: of its contents.
    """

    name: str
    variant: str
    layout: str
    sizes: Mapping[str, int]
    n_bytes: int


def model_card(manifest: Manifest, packed: Sequence[Packed], *, base_model: str = "", measured: str = "") -> str:
    """Return the card as Markdown, with the metadata in front that the Hugging Face hub reads.

    Args:
        manifest: of the bundle.
        packed: the archives, in the order of the table.
        base_model: hub id of the checkpoint; "" for the released one of the bundle's name, if there is one.
        measured: Markdown of measured results, such as `qwen3-asr-onnx report` prints; "" for none.
    """
    base = base_model or next((f"Qwen/{name}" for name in RELEASED if name.lower() == manifest.name.lower()), "")
    what = "speech recogniser" if manifest.kind == "asr" else "forced aligner"
    parts = [
        _metadata(manifest, packed, base),
        f"# {manifest.name} in ONNX\n\n"
        f"The {what} {f'[{base}](https://huggingface.co/{base})' if base else manifest.name} for onnxruntime, without "
        f"torch, exported by qwen3-asr-onnx {version('qwen3-asr-onnx')}.",
        "## Files\n\n"
        + _table(packed)
        + "\n\nDigests are in `SHA256SUMS`: `sha256sum -c SHA256SUMS`."
        + _about_parts(packed),
        "## Recipes\n\n" + _recipes(manifest, packed),
        "## Measured\n\n"
        + (measured.strip() or "Nothing was measured on these files. `qwen3-asr-onnx eval` and `bench` do it."),
        "## Use\n\n" + _uses(manifest, packed),
        "## Licence\n\n" + (f"That of {base}: {LICENSE}." if base else "That of the checkpoint it was made of."),
    ]
    return "\n\n".join(parts) + "\n"


def _metadata(manifest: Manifest, packed: Sequence[Packed], base: str) -> str:
    fields: dict[str, object] = {
        "license": LICENSE if base else "other",
        "library_name": "onnx",
        "pipeline_tag": "automatic-speech-recognition",
        "tags": ["onnx", "onnxruntime", "qwen3-asr", *sorted({one.layout for one in packed} - {"bundle"})],
        "language": [LANGUAGE_CODES[name] for name in manifest.languages if name in LANGUAGE_CODES],
    }
    if base:
        fields |= {"base_model": base, "base_model_relation": "quantized"}
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in fields.items()]  # YAML takes JSON
    return "\n".join(["---", *lines, "---"])


def _table(packed: Sequence[Packed]) -> str:
    rows = ["| file | variant | layout | download | unpacked |", "|---|---|---|---:|---:|"]
    for one in packed:
        for name, size in one.sizes.items():
            rows.append(f"| {name} | {one.variant} | {one.layout} | {_size(size)} | {_size(one.n_bytes)} |")
    return "\n".join(rows)


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.1f} MB"


def _about_parts(packed: Sequence[Packed]) -> str:
    cut = next((one for one in packed if len(one.sizes) > 1), None)
    if cut is None:
        return ""
    whole = next(iter(cut.sizes)).removesuffix(".00")
    return f" Parts are joined by `cat {whole}.?? > {whole}`."


def _recipes(manifest: Manifest, packed: Sequence[Packed]) -> str:
    lines = []
    for name in dict.fromkeys(one.variant for one in packed):
        variant = manifest.variants[name]
        parts = [
            f"{key} {_scheme(value)}"
            for key, value in variant.recipe.items()
            if isinstance(value, Mapping) and "scheme" in value
        ]
        switches = [key for key, value in variant.recipe.items() if value is True]
        told = ", ".join([*parts, *switches])
        lines.append(f"- `{name}` ({', '.join(variant.devices)}): {told or variant.recipe.get('scheme', 'float32')}")
    return "\n".join(lines)


def _scheme(part: Mapping[str, object]) -> str:
    """Return how a part is stored."""
    scheme = str(part["scheme"])
    return f"{scheme} in blocks of {part['block']}" if "block" in part else scheme


def _uses(manifest: Manifest, packed: Sequence[Packed]) -> str:
    """Return how each program takes what is here."""
    first = {one.layout: one.name for one in reversed(packed)}
    uses: list[str] = []
    if own := first.get("bundle"):
        verb = f"transcribe talk.mp3 -m {own}" if manifest.kind == "asr" else f"align talk.mp3 talk.txt -m {own}"
        uses.append(f"**Command line**, after unpacking (`tar -xf`):\n\n```sh\nqwen3-asr-onnx {verb}\n```")
        if manifest.kind == "asr":
            uses += [
                "**Python**:\n\n```python\nfrom qwen3_asr_onnx import Transcriber\n\n"
                f'print(Transcriber("{own}").transcribe("talk.mp3").text)\n```',
                f"**Any client of OpenAI's API**:\n\n```sh\nqwen3-asr-onnx serve -m {own}\n"
                "curl http://127.0.0.1:8000/v1/audio/transcriptions -F file=@talk.mp3\n```",
            ]
    if sherpa := first.get("sherpa"):
        uses.append(
            "**sherpa-onnx** 2.0 or later, and daobidao:\n\n```python\nsherpa_onnx.OfflineRecognizer.from_qwen3_asr(\n"
            f'    conv_frontend="{sherpa}/conv_frontend.onnx", encoder="{sherpa}/encoder.int8.onnx",\n'
            f'    decoder="{sherpa}/decoder.int8.onnx", tokenizer="{sherpa}/tokenizer")\n```'
        )
    if wyoming := first.get("wyoming") or first.get("split"):
        uses.append(
            "**Home Assistant** (wyoming-faster-whisper 3.8 or later):\n\n```sh\nwyoming-faster-whisper "
            f"--stt-library qwen3-asr --model {wyoming} --uri tcp://0.0.0.0:10300 --data-dir .\n```"
        )
    if len(uses) < 4:
        uses.append(
            "For sherpa-onnx, daobidao, Home Assistant (wyoming) and programs that read `decoder_init.onnx`: "
            "`qwen3-asr-onnx export FOLDER OUTPUT --layout sherpa` (or `wyoming`, `split`)."
        )
    return "\n\n".join(uses)
