"""Graph file -> a running onnxruntime session. The only file that imports onnxruntime, and only when asked to.

The workshops get it from `import_onnxruntime` too, so that no process of ours sends telemetry.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy.typing as npt

from qwen3_asr_onnx.errors import BundleError, MissingExtra, OptionsError, ProviderError

__all__ = [
    "DEVICES",
    "Binding",
    "Device",
    "Session",
    "available_providers",
    "disable_telemetry",
    "import_onnxruntime",
    "return_free_memory",
    "runtime_version",
    "usable_cores",
]

Device = Literal["cpu", "cuda"]
DEVICES: tuple[Device, ...] = ("cpu", "cuda")

PROVIDERS: Mapping[str, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}

Array = npt.NDArray[Any]


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


def _load_errors(ort: Any) -> tuple[type[Exception], ...]:
    """Return the exceptions of a load that fails; onnxruntime gives them no base class of their own."""
    state = ort.capi.onnxruntime_pybind11_state
    names = ("EPFail", "Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "NotImplemented")
    return (*(getattr(state, name) for name in names), state.RuntimeException)


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
    """One graph, ready to run. Safe to use from several threads at once."""

    def __init__(
        self,
        path: Path,
        *,
        inputs: Sequence[str],
        outputs: Sequence[str],
        device: str = "cpu",
        threads: int | None = None,
        prepack: bool = True,
        plan_memory: bool = True,
        release_memory: bool = False,
    ) -> None:
        """Load a graph and check that it has the interface the bundle format promises.

        Args:
            path: the .onnx file; its external data lies beside it.
            inputs: input names it must have.
            outputs: output names it must have.
            device: "cpu" or "cuda".
            threads: threads per operator; None leaves the choice (physical cores) to onnxruntime.
            prepack: rearrange weights at load for speed on large inputs, at the price of a second copy in memory.
                Without it, float32 weights are used where the file is mapped.
            plan_memory: from the second call of a shape on, reserve one block for all its intermediate results: a few
                per cent faster for small calls, and a second copy of the largest ones.
            release_memory: give the memory of intermediate results back after every call, so that sessions that run
                one after the other do not keep the peak of each.

        Raises:
            BundleError: the graph cannot be loaded or has another interface.
            OptionsError: device or threads is not valid.
            ProviderError: the device is not available.
            MissingExtra: onnxruntime is not installed.
        """
        ort = import_onnxruntime()
        options = _session_options(ort, threads, prepack=prepack, plan_memory=plan_memory)
        try:
            self._session = ort.InferenceSession(str(path), options, providers=[_provider(device)])
        except _load_errors(ort) as error:
            raise BundleError(f"{path}: onnxruntime {ort.__version__} cannot load this graph ({error})") from error
        self._ort = ort
        self._run_options = ort.RunOptions()
        if release_memory and device == "cpu":
            self._run_options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self._check_interface(path, inputs, outputs)

    def _check_interface(self, path: Path, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        found = {value.name for value in (*self._session.get_inputs(), *self._session.get_outputs())}
        missing = [name for name in (*inputs, *outputs) if name not in found]
        if missing:
            raise BundleError(f"{path}: graph has no {missing[0]!r}; it does not belong to this bundle format")

    def run(self, output: str, inputs: Mapping[str, Array]) -> Array:
        """Return one output for the given inputs."""
        result: Array = self._session.run([output], dict(inputs), self._run_options)[0]
        return result

    def bind(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> Binding:
        """Return a call whose inputs and outputs are the given arrays, in place.

        Arrays must be C-contiguous. One array may be input and output at once.
        """
        return Binding(self._ort, self._session, self._run_options, inputs, outputs)


class Binding:
    """A session call on fixed memory: change the input arrays, `run`, read the output arrays."""

    def __init__(
        self, ort: Any, session: Any, run_options: Any, inputs: Mapping[str, Array], outputs: Mapping[str, Array]
    ) -> None:
        self._session = session
        self._run_options = run_options
        self._binding = session.io_binding()
        self._values: dict[int, Any] = {}
        self._arrays = (tuple(inputs.values()), tuple(outputs.values()))
        for name, array in inputs.items():
            self._binding.bind_ortvalue_input(name, self._value(ort, array))
        for name, array in outputs.items():
            self._binding.bind_ortvalue_output(name, self._value(ort, array))

    def _value(self, ort: Any, array: Array) -> Any:
        """Return the array as an onnxruntime value over the same memory."""
        assert array.flags.c_contiguous
        key = array.__array_interface__["data"][0] if array.size else id(array)
        if key not in self._values:
            self._values[key] = ort.OrtValue.ortvalue_from_numpy(array)
        return self._values[key]

    def run(self) -> None:
        """Run the graph on the bound arrays."""
        self._session.run_with_iobinding(self._binding, self._run_options)


def _session_options(ort: Any, threads: int | None, *, prepack: bool, plan_memory: bool) -> Any:
    """Return the options of one session; see `Session`."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        if not 1 <= threads <= 1024:
            raise OptionsError(f"threads is {threads}; give 1 to 1024, or None to let onnxruntime choose")
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
