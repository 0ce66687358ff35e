# ruff: noqa: T201 - it prints, as a script does
"""Transcription with the times of the words, written for the official package."""

from qwen_asr import Qwen3ASRModel

CLIP = "CLIP.wav"

model = Qwen3ASRModel.from_pretrained(
    "MODEL",
    dtype="bfloat16",
    device_map="cuda:0",
    max_inference_batch_size=32,
    max_new_tokens=256,
    forced_aligner="ALIGNER",
    forced_aligner_kwargs={"dtype": "bfloat16", "device_map": "cuda:0"},
)
for result in model.transcribe([CLIP, CLIP], language=["English", "English"], return_time_stamps=True):
    print(result.language, result.text)
    for item in result.time_stamps or []:
        print(item.text, item.start_time, item.end_time)
