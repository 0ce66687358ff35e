"""A folder and the name of a repository in, what an upload would make, send and leave alone out.

What the repository has already is not sent: large files are told by their sha256, small ones by their id in git.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from qwen3_asr_onnx.bundle.files import file_record
from qwen3_asr_onnx.bundle.hub import is_hub_id, local_folder
from qwen3_asr_onnx.bundle.manifest import MANIFEST_FILE
from qwen3_asr_onnx.bundle.writing import readable_bytes
from qwen3_asr_onnx.commands.console import progress_bar
from qwen3_asr_onnx.errors import BundleError, OptionsError

from .folder import PublishedFolder, open_folder
from .repository import MAIN, RemoteFile, Repository, look_up, open_hub

__all__ = ["UploadOptions", "UploadPlan", "plan_upload"]

HASH_BLOCK_BYTES = 1 << 22

MODEL_FILES = (
    ".bin",
    ".ckpt",
    ".data",
    ".gguf",
    ".gz",
    ".h5",
    ".onnx",
    ".pt",
    ".pth",
    ".safetensors",
    ".tar",
    ".tflite",
    ".zip",
    ".zst",
)
"""How the names of files end that a model is in."""


@dataclass(frozen=True, slots=True)
class UploadOptions:
    """How to publish.

    Attributes:
        repo_id: "owner/name" on the hub.
        revision: branch to commit to, which is made if it is not there; None is the main branch.
        private: make a repository that only its owner sees.
        overwrite: send even to a repository that holds another model.
        message: of the commit; "" is one that names the model.
        quiet: no progress bars.
    """

    repo_id: str
    revision: str | None = None
    private: bool = False
    overwrite: bool = False
    message: str = ""
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class UploadPlan:
    """What is to be done, found out without changing anything.

    Attributes:
        folder: what is published.
        repository: where.
        options: how.
        digests: name -> sha256 of files that were hashed.
        new: the files to send that the repository has not.
        changed: those that it has another version of.
        same: those that it has.
    """

    folder: PublishedFolder
    repository: Repository
    options: UploadOptions
    digests: Mapping[str, str]
    new: tuple[str, ...]
    changed: tuple[str, ...]
    same: tuple[str, ...]

    @property
    def sent(self) -> tuple[str, ...]:
        """Every file to send, in the order of the names."""
        return tuple(sorted((*self.new, *self.changed)))

    @property
    def kept(self) -> dict[str, RemoteFile]:
        """The files of the repository that the folder lacks, and that stay, but for those of git itself."""
        theirs = self.repository.files.items()
        return {name: file for name, file in theirs if name not in self.folder.files and not name.startswith(".")}

    @property
    def dropped_variants(self) -> list[str]:
        """The variants of the bundle in the repository that the manifest to send no longer lists."""
        before, after = self.repository.identity, self.folder.identity
        if before is None or after is None or MANIFEST_FILE not in self.changed:
            return []
        return [name for name in before.variants if name not in after.variants]

    @property
    def address(self) -> str:
        """Where it can be looked at."""
        from huggingface_hub import constants

        branch = self.repository.branch
        return f"{constants.ENDPOINT}/{self.repository.repo_id}" + ("" if branch == MAIN else f"/tree/{branch}")

    def remarks(self) -> list[str]:
        """Return a line for each thing that stays as it is, or that somebody may miss."""
        lines = []
        if self.kept:
            names = ", ".join(list(self.kept)[:5]) + (f" and {len(self.kept) - 5} more" if len(self.kept) > 5 else "")
            size = readable_bytes(sum(file.size or 0 for file in self.kept.values()))
            lines.append(f"{self.repository.repo_id} keeps what {self.folder.path} lacks ({size}): {names}")
        if self.dropped_variants:
            lines.append(
                f"{MANIFEST_FILE} lists no variant {', '.join(self.dropped_variants)} any more, which the repository "
                "had: pull will not find it"
            )
        return lines

    def to_text(self) -> str:
        """Return the plan for people to read."""
        where = f"{self.repository.repo_id}, branch {self.repository.branch}"
        lines = []
        if not self.repository.exists:
            lines.append(f"create  {self.repository.repo_id} ({'private' if self.options.private else 'public'})")
        if not self.repository.has_branch and self.repository.branch != MAIN:
            lines.append(f"create  branch {self.repository.branch}")
        sizes = self.folder.sizes
        states = dict.fromkeys(self.new, "new") | dict.fromkeys(self.changed, "changed")
        rows = [("send", name, readable_bytes(sizes[name]), states[name]) for name in self.sent]
        rows += [("same", name, readable_bytes(sizes[name]), "") for name in self.same]
        rows += [("keep", name, readable_bytes(file.size or 0), "not here") for name, file in self.kept.items()]
        width = max((len(name) for _, name, _, _ in rows), default=0)
        lines += [f"{what:<6}  {name:<{width}}  {size:>12}  {state}".rstrip() for what, name, size, state in rows]
        lines.append(f"to {where}: {self._amount()}")
        return "".join(f"{line}\n" for line in lines)

    def summary(self) -> str:
        """Return what was done, once it is."""
        return f"{self.repository.repo_id}, branch {self.repository.branch}: sent {self._amount()}"

    def _amount(self) -> str:
        if not self.sent:
            return "nothing, for all of it is there"
        size = readable_bytes(sum(self.folder.sizes[name] for name in self.sent))
        return f"{len(self.sent)} of {len(self.folder.files)} files, {size}"


def plan_upload(name_or_path: str | Path, options: UploadOptions) -> UploadPlan:
    """Return what an upload would do; every digest that the folder brings is checked, and nothing is sent.

    Args:
        name_or_path: a folder, or a model of the store.
        options: where to, and how.

    Raises:
        BundleError: there is no token; the folder is nothing to publish, or damaged; the hub cannot be reached or
            refuses access; the repository holds another model.
        OptionsError: no name of a repository, no branch, or the repository is public and should not be.
        MissingExtra: huggingface_hub is not installed.
    """
    if not is_hub_id(options.repo_id):
        raise OptionsError(f"--repo {options.repo_id}: not the name of a repository on the hub, which is owner/name")
    api = open_hub(options.repo_id)
    path = local_folder(name_or_path)
    folder = open_folder(Path(name_or_path) if path is None else path)
    repository = look_up(api, options.repo_id, options.revision)
    if options.private and repository.exists and not repository.is_private:
        raise OptionsError(
            f"{repository.repo_id}: --private, and the repository is public; make it private in its settings, or leave "
            "the option out"
        )
    if not options.overwrite:
        _refuse_another_model(folder, repository)
    _refuse_incomplete(folder, repository)
    there = [name for name in folder.files if name in repository.files]
    asked = folder.vouched_for() | {name for name in there if _may_be_same(folder, name, repository)}
    with progress_bar(
        total=sum(folder.sizes[name] for name in asked), unit="B", scale=True, quiet=options.quiet
    ) as bar:
        digests = folder.verified(bar.update)
        same = [name for name in there if _is_same(folder, name, repository.files[name], digests, bar.update)]
    return UploadPlan(
        folder,
        repository,
        options,
        digests,
        new=tuple(name for name in folder.files if name not in repository.files),
        changed=tuple(name for name in there if name not in same),
        same=tuple(same),
    )


def _refuse_another_model(folder: PublishedFolder, repository: Repository) -> None:
    """Raise where files of one model would come to lie among those of another."""
    theirs, ours = repository.identity, folder.identity
    advice = "choose another repository, or pass --overwrite to replace what has the same name"
    if theirs is not None:
        is_foreign = theirs.form == "other" if ours is None else not ours.is_same_model(theirs)
        if is_foreign:
            what = "what is in this folder" if ours is None else ours
            raise BundleError(f"{repository.repo_id} holds {theirs}, which is not {what}; {advice}")
        return
    models = [name for name in repository.files if name.endswith(MODEL_FILES)]
    known = folder.files.keys() | folder.sums.keys()
    archives = "" if ours is None else f"{ours.name}-"  # how `package` names them
    if models and not any(name in known or (archives and name.startswith(archives)) for name in models):
        names = ", ".join(models[:3]) + (f" and {len(models) - 3} more" if len(models) > 3 else "")
        raise BundleError(f"{repository.repo_id} holds {names}, of which {folder.path} has none; {advice}")


def _refuse_incomplete(folder: PublishedFolder, repository: Repository) -> None:
    """Raise where a manifest would list files that are neither sent nor there."""
    bundle = folder.bundle
    if bundle is None:
        return
    for name in sorted(bundle.not_here()):
        record, there = bundle.manifest.files[name], repository.files.get(name)
        if there is None or there.size != record.size or there.sha256 not in ("", record.sha256):
            raise BundleError(
                f"{folder.path / name}: not here, and not in {repository.repo_id} as {MANIFEST_FILE} lists it; what a "
                "bundle lists must be there: pull -o DIR makes one of some variants, pull --all has all of them"
            )


def _may_be_same(folder: PublishedFolder, name: str, repository: Repository) -> bool:
    size = repository.files[name].size
    return size is None or size == folder.sizes[name]


def _is_same(
    folder: PublishedFolder,
    name: str,
    theirs: RemoteFile,
    digests: dict[str, str],
    progress: Callable[[int], object],
) -> bool:
    """Return whether the repository has a file with these contents; a sha256 that is found out joins `digests`."""
    if theirs.size not in (None, folder.sizes[name]):
        return False
    path = folder.files[name]
    if not theirs.sha256:
        return bool(theirs.git_id) and _git_id(path, folder.sizes[name], progress) == theirs.git_id
    if name not in digests:
        digests[name] = file_record(path, progress).sha256
    return digests[name] == theirs.sha256


def _git_id(path: Path, size: int, progress: Callable[[int], object]) -> str:
    """Return by what name git keeps a file."""
    digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(HASH_BLOCK_BYTES):
            digest.update(block)
            progress(len(block))
    return digest.hexdigest()
