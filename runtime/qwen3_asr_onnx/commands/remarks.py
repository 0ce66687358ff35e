"""What is said about a transcript besides its text: what deserves a second look, and where the time went."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qwen3_asr_onnx.results import Segment, StopReason, Transcript

__all__ = ["about_untagged", "remarks", "timing"]

WARNINGS: dict[StopReason, str] = {
    "length": "the token limit was reached and text may be missing; raise --max-new-tokens",
    "repetition": "the model repeated itself; the repetition was collapsed, check the text",
    "context_leak": "near-silent audio gave words of the context only; they were dropped",
}
RETRIED = "the model repeated itself and heard the piece again in two halves; check the text"


_SHOWN_IDS = 8


def remarks(transcript: Transcript) -> Iterator[str]:
    """Yield a line about everything in a transcript that deserves a second look."""
    reasons = {segment.stop_reason for segment in transcript.segments} | {transcript.stop_reason}
    yield from (text for reason, text in WARNINGS.items() if reason in reasons)
    if any(segment.retried for segment in transcript.segments) and "repetition" not in reasons:
        yield RETRIED
    untagged = about_untagged(transcript.segments)
    if untagged is not None:
        yield untagged


def timing(transcript: Transcript) -> str:
    """Return one line on where the time went."""
    spent = transcript.timings
    stages = [("audio", spent.audio_s), ("mel", spent.mel_s), ("encoder", spent.encoder_s)]
    stages += [("prefill", spent.prefill_s), ("decode", spent.decode_s)]
    rtf = sum(seconds for _, seconds in stages) / transcript.duration_s if transcript.duration_s else 0.0
    line = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in stages)
    return (
        f"{transcript.duration_s:.1f} s of audio, {len(transcript.segments)} segments, {spent.n_tokens} tokens; "
        f"load {spent.load_s:.2f} s, {line} ({spent.tokens_per_s:.1f} tokens/s); RTF {rtf:.3f}"
    )


def about_untagged(segments: Sequence[Segment]) -> str | None:
    """Return a line about the answers that were no transcripts, with what the first began with; None without any."""
    found = [segment for segment in segments if segment.stop_reason == "no_tag"]
    if not found:
        return None
    first = found[0]
    ids = [*map(str, first.token_ids[:_SHOWN_IDS]), *(["..."] if len(first.token_ids) > _SHOWN_IDS else [])]
    others = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return (
        f"{first.start_s:.1f} to {first.end_s:.1f} s{others}: the model's answer is no transcript and was dropped; "
        f"it begins with the token ids {', '.join(ids)}. Is the bundle whole? `info --verify` tells"
    )
