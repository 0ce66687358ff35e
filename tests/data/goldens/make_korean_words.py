"""Rewrite the runtime's Korean word list from the official package; nothing of qwen3-asr-onnx is imported here.

    python3 make_korean_words.py .../site-packages/qwen_asr/inference/assets/korean_dict_jieba.dict

The list is part of qwen-asr 0.0.6 (Apache-2.0). Of its lines "word frequency tag" only words of two characters or more
are ever looked up, so only those are stored, sorted.
"""

import hashlib
import lzma
import sys
from pathlib import Path

SOURCE_SHA256 = "cc157a9ab78f92bf11ed98a69b285768d6627cf5cd57a581e6c06693effce37d"
TARGET = Path(__file__).parents[3] / "runtime" / "qwen3_asr_onnx" / "alignment" / "data" / "korean_words.txt.xz"


def main(source):
    content = Path(source).read_bytes()
    assert hashlib.sha256(content).hexdigest() == SOURCE_SHA256, "not the word list of qwen-asr 0.0.6"
    words = {line.split()[0] for line in content.decode("utf-8").splitlines() if line.strip()}
    kept = sorted(word for word in words if len(word) >= 2)
    TARGET.write_bytes(lzma.compress("\n".join(kept).encode("utf-8"), preset=9 | lzma.PRESET_EXTREME))
    print(f"{TARGET}: {len(kept)} words, {TARGET.stat().st_size} bytes")  # noqa: T201 - a script


if __name__ == "__main__":
    main(sys.argv[1])
