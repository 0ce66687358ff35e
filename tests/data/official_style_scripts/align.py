# ruff: noqa: T201 - it prints, as a script does
"""Alignment of given texts, one and several, written for the official package."""

from qwen_asr import Qwen3ForcedAligner

CLIP = "CLIP.wav"

aligner = Qwen3ForcedAligner.from_pretrained("ALIGNER", dtype="bfloat16", device_map="cuda:0")
print(aligner.get_supported_languages())
results = aligner.align(audio=CLIP, text="Good morning, everyone.", language="English")
print(results[0][0].text, results[0][0].start_time, results[0][0].end_time)
results = aligner.align(audio=[CLIP, CLIP], text=["Good morning.", "Guten Morgen."], language=["English", "German"])
for result in results:
    print(len(result), [item.text for item in result])
