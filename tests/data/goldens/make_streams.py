"""Write official_streams.json by running the streaming of the official package; nothing of qwen3-asr-onnx is imported.

Its state machine asks a vLLM model for text. Here the answers come from a script (every path of the state machine, all
chunk sizes and scripts of text), and from the package's own transformers model on the miniature checkpoint (real
text, end to end). Made like the other goldens, see make_official.py:

    /tmp/venv-official/bin/python tests/data/goldens/make_streams.py
"""

import importlib.metadata
import platform
import random
import tarfile
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import soundfile
import torch
from make_official import ARCHIVE, HERE, PACKAGES, load_processor, write
from qwen_asr.core.transformers_backend.modeling_qwen3_asr import Qwen3ASRForConditionalGeneration
from qwen_asr.inference.qwen3_asr import Qwen3ASRModel

SAMPLE_RATE = 16_000
MINI = HERE.parent / "mini-asr"
CLIPS = HERE.parent / "mini-clips"
SPOKEN = [
    "language English<asr_text>Set the radio to sixteen percent. The code is eight eight zero.",
    "language Chinese<asr_text>张小明有绿手机和大书。李小明要茶和米饭。",
    "language German<asr_text>Der Zug nach Zürich fährt um zehn Uhr neununddreißig.",
    "language Thai<asr_text>สวัสดีครับ วันนี้อากาศดี",
    "language English<asr_text>family 👩\u200d👩\u200d👧 flag 🏳️\u200d🌈 maths 𝔘𝔫𝔦 rare 龘龘龘",
    "language None<asr_text>",
    "language English<asr_text>no no no no no no no no no no no no no no no no no no no no no no no no no no no",
    "a fine-tune without tags",
    "language English<asr_text> a<asr_text>b <think>c",
    "",
]


class Scripted:
    """Stands for the vLLM model: writes the next pieces of a text, sometimes mishears, and keeps a record."""

    def __init__(self, spoken, seed):
        self._spoken = spoken
        self._dice = random.Random(seed)
        self.steps = []

    def generate(self, inputs, sampling_params, use_tqdm):
        (one,) = inputs
        (audio,) = one["multi_modal_data"]["audio"]
        prefix = one["prompt"].split("assistant\n", 1)[1]
        prefix = prefix.partition("<asr_text>")[2] if self._forced(one["prompt"]) else prefix
        heard = min(len(self._spoken), int(len(audio) / SAMPLE_RATE * 9))
        written = self._spoken[len(prefix) : heard] if self._spoken.startswith(prefix) else self._spoken[:heard][-12:]
        written += self._dice.choice(["", "", ".", " x", "龘", "\n", "👩"])
        self.steps.append({"n_samples": len(audio), "prompt": one["prompt"], "written": written})
        return [SimpleNamespace(outputs=[SimpleNamespace(text=written)])]

    @staticmethod
    def _forced(prompt):
        return prompt.split("assistant\n", 1)[1].startswith("language Danish<asr_text>")


class Recognising:
    """Stands for the vLLM model: the package's transformers model, which agrees with it up to 8 s of audio."""

    def __init__(self, model, processor):
        self._model = model
        self._processor = processor
        self.steps = []

    def generate(self, inputs, sampling_params, use_tqdm):
        (one,) = inputs
        (audio,) = one["multi_modal_data"]["audio"]
        assert len(audio) <= 8 * SAMPLE_RATE
        tensors = self._processor(text=[one["prompt"]], audio=[audio], return_tensors="pt", padding=True)
        stops = [self._processor.tokenizer.convert_tokens_to_ids(text) for text in ("<|im_end|>", "<|endoftext|>")]
        with torch.inference_mode():
            ids = self._model.generate(**tensors, max_new_tokens=200, eos_token_id=stops).sequences
        (text,) = self._processor.batch_decode(
            ids[:, tensors["input_ids"].shape[1] :], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        self.steps.append({"n_samples": len(audio), "written": text})
        return [SimpleNamespace(outputs=[SimpleNamespace(text=text)])]


def run(model, processor, blocks, **options):
    """Return the language and text after each block, and after the end."""
    asr = Qwen3ASRModel("vllm", model, processor)
    state = asr.init_streaming_state(**options)
    shown = []
    for block in blocks:
        asr.streaming_transcribe(block, state)
        shown.append([state.language, state.text])
    asr.finish_streaming_transcribe(state)
    return [*shown, [state.language, state.text]]


def scripted(processor):
    dice = random.Random(3)
    cases = []
    for index in range(60):
        spoken = SPOKEN[index % len(SPOKEN)]
        language = dice.choice([None, None, "Danish"])
        options = {
            "context": dice.choice(["", "Anna", "\nx"]),
            "language": language,
            "unfixed_chunk_num": dice.choice([0, 1, 2, 2, 4]),
            "unfixed_token_num": dice.choice([0, 1, 3, 5, 5, 12]),
            "chunk_size_sec": dice.choice([0.5, 1.0, 1.7, 2.0]),
        }
        sizes = [dice.choice([0, 160, 1600, 9_999, 16_000, 32_000, 70_001]) for _ in range(dice.randint(1, 7))]
        model = Scripted(spoken.partition("<asr_text>")[2] if language else spoken, index)
        blocks = [np.zeros(size, dtype=np.float32) for size in sizes]
        shown = run(model, processor, blocks, **options)
        for step in model.steps:
            step["prompt_ids"] = processor.tokenizer.encode(step["prompt"], add_special_tokens=False)
        cases.append({"options": options, "block_sizes": sizes, "steps": model.steps, "shown": shown})
    return cases


def recognised():
    processor = load_processor(MINI)
    model = Qwen3ASRForConditionalGeneration.from_pretrained(MINI, dtype=torch.float32).eval()
    cases = []
    for file, options, block_s in (
        ("de_2.flac", {"chunk_size_sec": 1.0}, 0.3),
        ("en_unseen_voice.flac", {"chunk_size_sec": 1.0}, 1.0),
        ("en_unseen_voice.flac", {}, 0.5),
        ("mixed_two_languages.flac", {"chunk_size_sec": 0.6, "unfixed_token_num": 3}, 2.0),
        ("zh_1.flac", {"chunk_size_sec": 0.5, "unfixed_chunk_num": 1}, 0.1),
        ("de_name_with_context.flac", {"chunk_size_sec": 0.7, "language": "German", "context": "Stephan Peters"}, 0.7),
        ("noise.flac", {"chunk_size_sec": 1.0}, 1.0),
    ):
        waveform, rate = soundfile.read(CLIPS / file, dtype="float32")
        assert rate == SAMPLE_RATE
        size = round(block_s * SAMPLE_RATE)
        recorder = Recognising(model, processor)
        blocks = [waveform[first : first + size] for first in range(0, len(waveform), size)]
        shown = run(recorder, processor, blocks, **options)
        cases.append({"file": file, "options": options, "block_size": size, "steps": recorder.steps, "shown": shown})
    return cases


def main():
    made_with = {name: importlib.metadata.version(name) for name in PACKAGES} | {"python": platform.python_version()}
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(ARCHIVE) as archive:
            archive.extractall(folder, filter="data")
        processor = load_processor(Path(folder))
    write("official_streams.json", made_with, {"scripted": scripted(processor), "recognised": recognised()})


if __name__ == "__main__":
    main()
