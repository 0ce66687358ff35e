"""The verb `info`: a bundle directory in, a description of it and of this machine out.

With `--verify` every file is hashed and compared with the manifest. Of a bundle that cannot be read, what can be.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qwen3_asr_onnx.bundle import hub
from qwen3_asr_onnx.bundle.files import Bundle
from qwen3_asr_onnx.bundle.json_text import parse_json, read_regular_text, require_regular
from qwen3_asr_onnx.bundle.manifest import MANIFEST_FILE, TOKENIZER_FILE, Manifest, Variant
from qwen3_asr_onnx.bundle.store import got_variant
from qwen3_asr_onnx.errors import BundleError, OptionsError

from .command import EXIT_FAILED, EXIT_OK, Command
from .console import emit, progress_bar
from .machine import Machine, table, this_machine

__all__ = ["COMMAND", "Report", "add_arguments", "inspect", "run"]


@dataclass(frozen=True, slots=True)
class Report:
    """A bundle and what was found out about it.

    Attributes:
        bundle: the bundle.
        faults: file name -> what is wrong, by presence and size alone.
        not_here: files that are not here and need not be; see `Bundle.not_here`.
        machine: this machine.
        problems: sentences from hashing every file; None when that was not asked for.
    """

    bundle: Bundle
    faults: Mapping[str, str]
    not_here: frozenset[str]
    machine: Machine
    problems: tuple[str, ...] | None

    def to_dict(self) -> dict[str, Any]:
        """Return the report ready for `json.dumps`."""
        manifest = self.bundle.manifest
        body = asdict(manifest)
        body["path"] = str(self.bundle.path)
        body["size"] = _size(manifest, manifest.files)
        for name, variant in manifest.variants.items():
            body["variants"][name]["files"] = _needed_files(variant)
            body["variants"][name]["size"] = _size(manifest, _needed_files(variant))
        body["faults"] = dict(self.faults)
        body["not_here"] = sorted(self.not_here)
        body["problems"] = None if self.problems is None else list(self.problems)
        body["machine"] = self.machine.to_dict()
        return body

    def to_text(self) -> str:
        """Return the report for people to read."""
        blocks = [_summary(self.bundle), _files(self), _variants(self.bundle.manifest), self.machine.to_lines()]
        if self.problems is not None:
            n_here = len(self.bundle.manifest.files) - len(self.not_here)
            verdict = list(self.problems) or [f"all {n_here} files are as the manifest says"]
            blocks.append(["verified", *(f"  {line}" for line in verdict)])
        return "\n".join("".join(f"{line}\n" for line in block) for block in blocks)


@dataclass(frozen=True, slots=True)
class Wreck:
    """A folder that is no bundle that can be read.

    Attributes:
        path: the folder.
        problem: why it is none.
        said: what its manifest says at its top level, as far as that can be read.
        files: file name -> size in bytes; -1 for what is no file.
        machine: this machine.
    """

    path: Path
    problem: str
    said: Mapping[str, str]
    files: Mapping[str, int]
    machine: Machine

    def to_dict(self) -> dict[str, Any]:
        """Return the report ready for `json.dumps`."""
        body: dict[str, Any] = {"path": str(self.path), "problems": [self.problem], "manifest": dict(self.said)}
        return {**body, "files": dict(self.files), "machine": self.machine.to_dict()}

    def to_text(self) -> str:
        """Return the report for people to read."""
        width = max(map(len, self.files), default=0)
        sizes = {name: "no file" if size < 0 else _readable(size) for name, size in self.files.items()}
        blocks = [
            table(("bundle", str(self.path)), ("problem", self.problem), *self.said.items()),
            ["files", *(f"  {name:<{width}}  {size:>9}" for name, size in sizes.items())] if sizes else ["no files"],
            self.machine.to_lines(),
        ]
        return "\n".join("".join(f"{line}\n" for line in block) for block in blocks)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `info` to its parser."""
    parser.add_argument(
        "bundle", metavar="BUNDLE", nargs="?", help="model of the store, bundle's directory, or hub id (default: none)"
    )
    parser.add_argument("--verify", action="store_true", help="hash every file and compare; exit 1 if one is damaged")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")


def run(args: argparse.Namespace) -> int:
    """Print the report and return the exit status: failed where anything is wrong with the bundle.

    Raises:
        BundleError: there is no such folder, and no such repository on the hub.
        OptionsError: no bundle is named to verify.
    """
    if args.bundle is None:
        if args.verify:
            raise OptionsError("--verify needs the bundle to verify")
        machine = this_machine()
        emit(_json(machine.to_dict()) if args.json else "".join(f"{line}\n" for line in machine.to_lines()))
        return EXIT_OK
    # Of a bundle on the hub the manifest says it all; only hashing needs the files themselves.
    here = hub.local_folder(args.bundle) or got_variant(args.bundle)
    on_hub = here is None
    path = here or hub.resolve(args.bundle, files=None if args.verify else [MANIFEST_FILE])
    report: Report | Wreck
    try:
        report = inspect(Bundle.open(path), verify=args.verify, quiet=args.quiet, on_hub=on_hub and not args.verify)
        is_well = not (report.problems or report.faults)
    except BundleError as error:
        report, is_well = _wreck(path, str(error)), False
    emit(_json(report.to_dict()) if args.json else report.to_text())
    return EXIT_OK if is_well else EXIT_FAILED


def inspect(bundle: Bundle, *, verify: bool = False, quiet: bool = False, on_hub: bool = False) -> Report:
    """Return the report on a bundle.

    Args:
        bundle: the bundle.
        verify: hash its files under a progress bar.
        quiet: no progress bar.
        on_hub: only its manifest is here; no file is missed.
    """
    manifest = bundle.manifest
    not_here = frozenset(manifest.files) if on_hub else frozenset(bundle.not_here())
    problems = None
    if verify:
        total = _size(manifest, manifest.files)
        with progress_bar(total=total, unit="B", scale=True, quiet=quiet) as bar:
            unlisted = [f"{bundle.path / name}: {fault}" for name, fault in _unlisted(manifest).items()]
            problems = (*bundle.verify(bar.update), *unlisted)
    return Report(bundle, _faults(bundle, not_here), not_here, this_machine(), problems)


def _json(body: dict[str, Any]) -> str:
    return json.dumps(body, ensure_ascii=False, allow_nan=False, indent=2) + "\n"


def _unlisted(manifest: Manifest) -> dict[str, str]:
    needed = dict.fromkeys(name for variant in manifest.variants.values() for name in _needed_files(variant))
    return {name: "needed by a variant, not listed in the manifest" for name in needed if name not in manifest.files}


def _faults(bundle: Bundle, not_here: Collection[str]) -> dict[str, str]:
    faults = {}
    for name, record in bundle.manifest.files.items():
        if name in not_here:
            continue
        try:
            size = require_regular(bundle.path / name).st_size
        except BundleError:
            faults[name] = "no file"
        except FileNotFoundError:
            faults[name] = "missing"
        except OSError as error:
            faults[name] = str(error.strerror)
        else:
            if size != record.size:
                faults[name] = f"{size} bytes instead of {record.size}"
    return faults | _unlisted(bundle.manifest)


def _wreck(folder: Path, problem: str) -> Wreck:
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        entries = []
    sizes = {}
    for path in entries:
        try:
            sizes[path.name] = require_regular(path).st_size
        except (BundleError, OSError):
            sizes[path.name] = -1
    return Wreck(folder, problem, _said(folder / MANIFEST_FILE), sizes, this_machine())


def _said(manifest: Path) -> dict[str, str]:
    """Return the scalars at the top of a manifest, as it has them; nothing where it has none."""
    try:
        body = parse_json(read_regular_text(manifest), manifest)
    except (BundleError, OSError):
        return {}
    fields = body.items() if isinstance(body, dict) else ()
    scalars = {key: value for key, value in fields if isinstance(value, (str, int, float)) and key.isidentifier()}
    return {key: ascii(value)[:200] for key, value in list(scalars.items())[:20]}


def _needed_files(variant: Variant) -> list[str]:
    """Return every file that running the variant reads, once."""
    return [*variant.files, TOKENIZER_FILE]


def _size(manifest: Manifest, names: Iterable[str]) -> int:
    """Return the bytes of the named files together; a name that the manifest does not list counts nothing."""
    return sum(manifest.files[name].size for name in names if name in manifest.files)


def _summary(bundle: Bundle) -> list[str]:
    manifest, encoder, decoder = bundle.manifest, bundle.manifest.encoder, bundle.manifest.decoder
    window_s = encoder.window_frames * manifest.mel.hop_length / manifest.mel.sample_rate
    source = ", ".join(f"{key} {_plain(value)}" for key, value in manifest.source.items())
    return table(
        ("bundle", str(bundle.path)),
        ("model", f"{manifest.name} ({manifest.kind})"),
        ("source", source or "not recorded"),
        ("audio", f"{manifest.mel.sample_rate} Hz, {manifest.mel.n_mels} mel bands, windows of {window_s:g} s"),
        ("encoder", f"{encoder.layers} layers, width {encoder.d_model}, {encoder.heads} heads"),
        (
            "decoder",
            f"{decoder.layers} layers, width {decoder.hidden}, {decoder.heads} heads ({decoder.kv_heads} for keys and "
            f"values, {decoder.head_dim} wide), vocabulary {decoder.vocab_size}, {decoder.max_positions} positions",
        ),
        ("languages", f"{len(manifest.languages)}: {', '.join(manifest.languages)}"),
        ("size", f"{_readable(_size(manifest, manifest.files))} in {len(manifest.files)} files"),
    )


def _files(report: Report) -> list[str]:
    files = report.bundle.manifest.files
    width = max(map(len, files), default=0)
    lines = ["files (sha256)"]
    for name, record in sorted(files.items()):
        fault = f"  {report.faults[name]}" if name in report.faults else ""
        fault = "  not here" if name in report.not_here else fault
        lines.append(f"  {name:<{width}}  {_readable(record.size):>9}  {record.sha256}{fault}")
    lines.extend(f"  {name}: {fault}" for name, fault in report.faults.items() if name not in files)
    return lines


def _variants(manifest: Manifest) -> list[str]:
    lines = []
    for name, variant in manifest.variants.items():
        size = _readable(_size(manifest, _needed_files(variant)))
        lines.append(f"variant {name}: {size} with tokenizer and embeddings, for {', '.join(variant.devices)}")
        rows = table(
            ("encoder", variant.encoder),
            ("prefill", variant.decoder_init),
            ("step", variant.decoder_step),
            ("weights", ", ".join(variant.weights) or "inside the graphs"),
            ("recipe", _recipe(variant.recipe) or "not recorded"),
        )
        lines.extend(f"  {row}" for row in rows)
    return lines or ["no variants"]


def _recipe(recipe: Mapping[str, Any]) -> str:
    """Return a recipe in one line: of a part its scheme and block size. `--json` has all of it, digests included."""
    words = []
    for key, value in recipe.items():
        if not isinstance(value, Mapping):
            words.append(f"{key} {_plain(value)}")
        elif "scheme" in value:
            words.append(" ".join([key, *(str(value[name]) for name in ("scheme", "block") if name in value)]))
    return ", ".join(words)


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _readable(n_bytes: int) -> str:
    """Return a size in decimal units, as disks and release pages count."""
    size = float(n_bytes)
    for unit in ("B", "kB", "MB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.2f} GB"


COMMAND = Command("info", "show what a bundle holds, check its files, and what this machine offers", add_arguments, run)
