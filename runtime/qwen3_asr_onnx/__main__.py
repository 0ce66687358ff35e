"""`python -m qwen3_asr_onnx` is the command `qwen3-asr-onnx`."""

from .commands.cli import main

raise SystemExit(main())
