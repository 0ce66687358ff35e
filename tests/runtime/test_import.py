from __future__ import annotations

import importlib.metadata
import json
import pkgutil
import re
import subprocess
import sys
from types import ModuleType

import qwen3_asr_onnx

# What the runtime may use inside functions only, or never.
HEAVY = [
    *("torch", "transformers", "onnx", "onnx_ir", "onnxscript", "onnxruntime", "safetensors", "scipy"),
    *("soundfile", "soxr", "huggingface_hub", "tqdm", "multiprocessing", "urllib.request"),
]

MODULES = [
    module.name
    for module in pkgutil.walk_packages(qwen3_asr_onnx.__path__, "qwen3_asr_onnx.")
    if not module.name.endswith(".__main__") and not module.name.startswith("qwen3_asr_onnx.serving.")  # need an extra
]

SHOW_LOADED = """
import importlib, json, sys, threading
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
assert threading.active_count() == 1
print(json.dumps(sorted(sys.modules)))
"""


def loaded_after_importing(*names: str) -> set[str]:
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", SHOW_LOADED, json.dumps(names)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stderr == ""
    return set(json.loads(process.stdout))


def test_importing_every_module_loads_nothing_heavy() -> None:
    assert "qwen3_asr_onnx.commands.cli" in MODULES
    loaded = loaded_after_importing(*MODULES)
    assert set(MODULES) <= loaded
    assert loaded.isdisjoint(HEAVY)


def test_importing_the_package_leaves_the_tokenizer_library_alone_too() -> None:
    loaded = loaded_after_importing("qwen3_asr_onnx")
    assert loaded.isdisjoint([*HEAVY, "tokenizers", "qwen3_asr_onnx.commands.cli"])


def test_all_is_exact() -> None:
    offered = {name: getattr(qwen3_asr_onnx, name) for name in qwen3_asr_onnx.__all__}
    public = {
        name
        for name, value in vars(qwen3_asr_onnx).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert public <= set(offered)
    assert len(offered) == len(qwen3_asr_onnx.__all__)
    assert all(value.__module__.startswith("qwen3_asr_onnx.") for value in offered.values())


def test_the_version_is_that_of_the_metadata_and_costs_nothing_until_asked_for() -> None:
    assert qwen3_asr_onnx.__version__ == importlib.metadata.version("qwen3-asr-onnx")
    assert "importlib.metadata" not in loaded_after_importing("qwen3_asr_onnx")
    assert not hasattr(qwen3_asr_onnx, "version")


def test_the_base_install_is_small() -> None:
    requires = importlib.metadata.requires("qwen3-asr-onnx") or []
    base = {re.split(r"[^\w-]", requirement)[0] for requirement in requires if "extra ==" not in requirement}
    assert base == {"numpy", "platformdirs", "tokenizers", "tqdm"}
