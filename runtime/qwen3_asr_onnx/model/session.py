"""Graph file -> a running onnxruntime session. The only file that imports onnxruntime, and only when asked to.

The workshops get it from `import_onnxruntime` too, so that no process of ours sends telemetry.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy.typing as npt

from qwen3_asr_onnx.errors import BundleError, LimitError, MissingExtra, OptionsError, ProviderError, Qwen3AsrError

from .forking import keep_when_forked, refuse_forked
from .interface import Interface, Port
from .stopping import current_stop

__all__ = [
    "DEVICES",
    "Binding",
    "Device",
    "Session",
    "available_providers",
    "disable_telemetry",
    "errors_of",
    "import_onnxruntime",
    "opened",
    "return_free_memory",
    "runtime_version",
    "session_options",
    "usable_cores",
]

Device = Literal["cpu", "cuda"]
DEVICES: tuple[Device, ...] = ("cpu", "cuda")

TYPES: Mapping[str, str] = {
    "float32": "tensor(float)",
    "float16": "tensor(float16)",
    "int32": "tensor(int32)",
    "int64": "tensor(int64)",
}
"""Number types as numpy and as onnxruntime name them."""

PROVIDERS: Mapping[str, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}

Array = npt.NDArray[Any]
T = TypeVar("T")


def disable_telemetry() -> None:
    """Keep onnxruntime, in this process and in those it starts, from writing a device id and queueing usage events.

    From 1.31 on it does both as it is imported, and its own `disable_telemetry_events` comes too late: only the
    environment is read in time. A value that the user has set stays.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def import_onnxruntime() -> Any:
    """Return the onnxruntime module, which sends no telemetry.

    Raises:
        MissingExtra: it is not installed.
    """
    disable_telemetry()
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra(
            "running a model needs onnxruntime: pip install 'qwen3-asr-onnx[cpu]' (or [gpu] for CUDA)"
        ) from error
    return onnxruntime


def errors_of(ort: Any) -> tuple[type[Exception], ...]:
    """Return the exceptions of a load or a run that fails; onnxruntime gives them no base class of their own."""
    state = vars(ort.capi.onnxruntime_pybind11_state)
    own = [one for one in state.values() if isinstance(one, type) and issubclass(one, Exception)]
    return (*own, RuntimeError, ValueError, IndexError, MemoryError)  # the last ones are those of C++


def runtime_version() -> str:
    """Return the version of the installed onnxruntime.

    Raises:
        MissingExtra: onnxruntime is not installed.
    """
    return str(import_onnxruntime().__version__)


def return_free_memory() -> None:
    """Give memory that is allocated from the system but not in use back to it, where the C library can (glibc).

    Reading a large vocabulary and weights leaves about 80 MB of it behind, for good unless it is asked for.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def available_providers() -> tuple[str, ...]:
    """Return the execution providers of the installed onnxruntime, best first.

    Raises:
        MissingExtra: onnxruntime is not installed.
    """
    return tuple(import_onnxruntime().get_available_providers())


class Session:
    """One graph, ready to run. Safe to use from several threads at once.

    Attributes:
        path: its file.
        prepared: the file that was loaded in its place; None without.
        copied: whether it holds its weights in memory of its own, and not where their file is mapped.
    """

    def __init__(
        self,
        path: Path,
        *,
        interface: Interface,
        device: str = "cpu",
        threads: int | None = None,
        prepack: bool = True,
        plan_memory: bool = True,
        release_memory: bool = False,
        prepared: Path | None = None,
    ) -> None:
        """Load a graph and check that it has the interface the bundle format promises.

        Args:
            path: the .onnx file; its external data lies beside it.
            interface: what it must take and give.
            device: "cpu" or "cuda".
            threads: threads per operator; None leaves the choice (physical cores) to onnxruntime.
            prepack: rearrange weights at load for speed on large inputs, at the price of a second copy in memory.
                Without it, float32 weights are used where the file is mapped.
            plan_memory: from the second call of a shape on, reserve one block for all its intermediate results: a few
                per cent faster for small calls, and a second copy of the largest ones.
            release_memory: give the memory of intermediate results back after every call, so that sessions that run
                one after the other do not keep the peak of each.
            prepared: the same graph as `save_prepared` wrote it, loaded in its place: its weights are mapped.

        Raises:
            BundleError: the graph cannot be loaded or has another interface.
            OptionsError: device or threads is not valid.
            ProviderError: the device is not available.
            MissingExtra: onnxruntime is not installed.
        """
        ort = import_onnxruntime()
        options = session_options(ort, threads, prepack=prepack, plan_memory=plan_memory)
        self.path, self.prepared = path, prepared
        self.copied = prepack and prepared is None
        self._errors = errors_of(ort)
        if prepared is not None:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # it was done before
        self._session = opened(ort, prepared or path, options, _provider(device))
        self._pid = os.getpid()
        self._has_threads = options.intra_op_num_threads != 1
        if self._has_threads:
            keep_when_forked(self._session)
        self._ort = ort
        self._releases_memory = release_memory and device == "cpu"
        self._run_options = self._make_run_options()
        self._check_interface(interface)

    def _check_interface(self, interface: Interface) -> None:
        inputs = {value.name: value for value in self._session.get_inputs()}
        outputs = {value.name: value for value in self._session.get_outputs()}
        for found, ports in ((inputs, interface.inputs), (outputs, interface.outputs)):
            missing = [name for name in ports if name not in found]
            if missing:
                raise BundleError(f"{self.path}: graph has no {missing[0]!r}; it does not belong to this bundle format")
            for name, port in ports.items():
                self._check_port(found[name], port)
        unknown = [name for name in inputs if name not in interface.inputs]
        if unknown:
            raise BundleError(
                f"{self.path}: graph has an input {unknown[0]!r} that the manifest does not account for; "
                "export or download the bundle again"
            )

    def _check_port(self, found: Any, port: Port) -> None:
        if found.type != TYPES[port.dtype]:
            raise BundleError(
                f"{self.path}: {found.name} is a {found.type}, the manifest implies {port.dtype}; "
                "export or download the bundle again"
            )
        if len(found.shape) != len(port.shape):
            raise BundleError(
                f"{self.path}: {found.name} has {len(found.shape)} dimensions where {len(port.shape)} are right; "
                "export or download the bundle again"
            )
        for size, dimension in zip(found.shape, port.shape, strict=True):
            if dimension is not None and isinstance(size, int) and size != dimension[1]:
                raise BundleError(
                    f"{self.path}: {dimension[0]} is {dimension[1]} in the manifest, and {size} in the graph's "
                    f"{found.name}; export or download the bundle again"
                )

    def run(self, output: str, inputs: Mapping[str, Array]) -> Array:
        """Return one output for the given inputs.

        Raises:
            Stopped: whoever it was for does not want it any more; so does a call of `bind`.
        """
        return self.run_for([output], inputs)[0]

    def run_for(self, outputs: Sequence[str], inputs: Mapping[str, Array]) -> list[Array]:
        """Return several outputs for the given inputs, as `run` does."""
        result: list[Array] = self._call(lambda options: self._session.run([*outputs], dict(inputs), options))
        return result

    def failure(self, error: Exception) -> Qwen3AsrError:
        """Return what a run that ended in `error` means to the user."""
        if isinstance(error, MemoryError) or "alloc" in str(error):
            return LimitError(
                f"{self.path}: not enough memory to run this graph ({error}); use shorter pieces of audio"
            )
        return BundleError(
            f"{self.path}: onnxruntime {self._ort.__version__} cannot run this graph ({error}); check the bundle with "
            "qwen3-asr-onnx info --verify"
        )

    def bind(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> Binding:
        """Return a call whose inputs and outputs are the given arrays, in place.

        Arrays must be C-contiguous. One array may be input and output at once.
        """
        try:
            binding = self._session.io_binding()
            kept = _bind(self._ort, binding, inputs, outputs)
        except self._errors as error:
            raise self.failure(error) from error
        run = partial(self._session.run_with_iobinding, binding)
        return Binding(lambda: self._call(run), kept)

    def _call(self, run: Callable[[Any], T]) -> T:
        """Run the graph, with options of its own if somebody may stop it."""
        if self._has_threads:
            refuse_forked(self._pid)
        stop = current_stop()
        try:
            if stop is None:
                return run(self._run_options)
            with stop.watching(options := self._make_run_options()):
                return run(options)
        except self._errors as error:
            raise self.failure(error) from error

    def _make_run_options(self) -> Any:
        options = self._ort.RunOptions()
        if self._releases_memory:
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        return options


class Binding:
    """A session call on fixed memory: change the input arrays, `run`, read the output arrays."""

    def __init__(self, run: Callable[[], None], kept: Sequence[object]) -> None:
        """Remember what to run, and keep the memory alive that it works on."""
        self._kept = kept
        self.run = run


def opened(ort: Any, path: Path, options: Any, provider: str) -> Any:
    """Return a session of onnxruntime itself.

    Raises:
        BundleError: the graph cannot be loaded.
    """
    try:
        return ort.InferenceSession(str(path), options, providers=[provider])
    except errors_of(ort) as error:
        raise BundleError(f"{path}: onnxruntime {ort.__version__} cannot load this graph ({error})") from error


def _bind(ort: Any, binding: Any, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> list[object]:
    """Bind arrays in place, each memory once; return what must live as long as the binding."""
    values: dict[int, Any] = {}

    def value(array: Array) -> Any:
        assert array.flags.c_contiguous
        key = array.__array_interface__["data"][0] if array.size else id(array)
        if key not in values:
            values[key] = ort.OrtValue.ortvalue_from_numpy(array)
        return values[key]

    for name, array in inputs.items():
        binding.bind_ortvalue_input(name, value(array))
    for name, array in outputs.items():
        binding.bind_ortvalue_output(name, value(array))
    return [*values.values(), *inputs.values(), *outputs.values()]


def session_options(ort: Any, threads: int | None, *, prepack: bool, plan_memory: bool) -> Any:
    """Return the options of one session; see `Session`."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        if not 1 <= threads <= 1024:
            raise OptionsError(f"threads is {threads}; give 1 to 1024, or leave it out to let onnxruntime choose")
        options.intra_op_num_threads = threads
    elif (cores := usable_cores()) < (os.cpu_count() or 1):
        # onnxruntime counts the machine's cores; in a container or under taskset fewer may be ours.
        options.intra_op_num_threads = cores
    options.enable_mem_pattern = plan_memory
    if not prepack:
        options.add_session_config_entry("session.disable_prepacking", "1")
    return options


def _provider(device: str) -> str:
    if device not in PROVIDERS:
        raise OptionsError(f"device is {device!r}; give one of: {', '.join(PROVIDERS)}")
    provider = PROVIDERS[device]
    if provider not in available_providers():
        raise ProviderError(
            f"device {device!r}: this onnxruntime has no {provider}; "
            "pip uninstall onnxruntime, then pip install 'qwen3-asr-onnx[gpu]'"
        )
    return provider


def usable_cores() -> int:
    """Return how many cores this process may use: containers and taskset often leave it fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
