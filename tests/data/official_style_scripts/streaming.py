# ruff: noqa: T201 - it prints, as a script does
"""A live stream in steps of several lengths, written for the vLLM backend of the official package."""

import numpy as np
import soundfile
from qwen_asr import Qwen3ASRModel


def stream(model, samples, step_ms):
    state = model.init_streaming_state(unfixed_chunk_num=2, unfixed_token_num=5, chunk_size_sec=0.5)
    step = round(step_ms * 16)
    for position in range(0, len(samples), step):
        model.streaming_transcribe(samples[position : position + step], state)
        print(f"{step_ms} ms, chunk {state.chunk_id}: {state.language} {state.text!r}")
    model.finish_streaming_transcribe(state)
    return state.language, state.text


if __name__ == "__main__":
    asr = Qwen3ASRModel.LLM(model="MODEL", gpu_memory_utilization=0.8, max_new_tokens=32)
    audio, rate = soundfile.read("CLIP.wav", dtype="float32")
    assert rate == 16000
    finals = {stream(asr, np.asarray(audio), step_ms) for step_ms in (250, 500, 1000)}
    print("final:", *finals)
    assert len(finals) == 1
