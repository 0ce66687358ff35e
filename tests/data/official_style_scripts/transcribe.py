# ruff: noqa: T201 - it prints, as a script does
"""A batch of a path and an array, with a language for each, written for the official package."""

import soundfile
from qwen_asr import Qwen3ASRModel

CLIP = "CLIP.wav"

model = Qwen3ASRModel.from_pretrained(
    "MODEL",
    dtype="bfloat16",
    device_map="cuda:0",
    attn_implementation="flash_attention_2",
    max_inference_batch_size=32,
    max_new_tokens=256,
)
single = model.transcribe(audio=CLIP, language=None)
print(single[0].language, single[0].text)

samples, rate = soundfile.read(CLIP, dtype="float32")
batch = model.transcribe(
    audio=[CLIP, (samples, rate)],
    context=["", "names that may occur"],
    language=[None, "English"],
    return_time_stamps=False,
)
for result in batch:
    print(f"{result.language}: {result.text} {result.time_stamps}")
