"""An adapter without a model: answers by the length of the audio, from a JSON file; fails and crashes on demand.

An answer is a string, or {"text", "language", "sleep_s", "raise", "signal", "exit", "print"}.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any


class FakeSystem:
    def __init__(self, config: dict[str, Any]) -> None:
        self._answers = json.loads(Path(config["model"]).read_text(encoding="utf-8"))
        if self._answers.get("refuse"):
            raise ValueError(self._answers["refuse"])
        self.info = {"size_bytes": 1_000_000 * config["threads"], "versions": {"fake": "1"}}

    def transcribe(self, waveform: Any, language: str | None) -> dict[str, Any]:
        answer = self._answers.get(str(round(len(waveform) / 16)), "")
        if isinstance(answer, str):
            answer = {"text": answer}
        time.sleep(answer.get("sleep_s", 0))
        if "print" in answer:
            sys.stdout.write(answer["print"])
            os.write(1, answer["print"].encode())
        if "raise" in answer:
            raise RuntimeError(answer["raise"])
        if "exit" in answer:
            sys.stderr.write(f"{answer['exit']}\n")
            sys.stderr.flush()
            os._exit(3)
        if "signal" in answer:
            os.kill(os.getpid(), answer["signal"])
        told = language or answer.get("language")
        return {"text": answer["text"], "language": told, "stop_reason": "eos"}


def load(config: dict[str, Any]) -> FakeSystem:
    return FakeSystem(config)
