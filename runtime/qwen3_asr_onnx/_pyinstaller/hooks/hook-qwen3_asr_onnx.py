"""What a frozen app takes from this package: data files, and metadata for the version and the verbs."""  # noqa: INP001

from importlib.metadata import PackageNotFoundError

from PyInstaller.utils.hooks import collect_data_files, copy_metadata

datas = collect_data_files("qwen3_asr_onnx") + copy_metadata("qwen3-asr-onnx")
for name in ("onnxruntime", "onnxruntime-gpu"):
    try:
        datas += copy_metadata(name)
    except PackageNotFoundError:
        continue
