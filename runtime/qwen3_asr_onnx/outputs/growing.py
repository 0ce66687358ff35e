"""Plain text that grows: segments in, one after the other, what each adds to the text out.

All of it together is, to the byte, what `writers.to_txt` makes of the transcript of these segments, but for the end of
its last line.
"""

from __future__ import annotations

from qwen3_asr_onnx.results import Segment
from qwen3_asr_onnx.text.answer import TextJoiner

__all__ = ["GrowingText", "timed_head", "timed_line"]


class GrowingText:
    """The plain text of one transcript, as it is made."""

    def __init__(self, *, times: bool = False) -> None:
        """Begin a text.

        Args:
            times: a line for each segment, behind its times.
        """
        self._times = times
        self._joiner = TextJoiner()
        self._held = ""  # white space that the text might end in
        self._begun = False

    def add(self, segment: Segment) -> str:
        """Return what a segment adds to the text; "" where that is nothing."""
        if self._times:
            return timed_line(segment)
        text = self._held + self._joiner.add(segment.text, segment.language)
        text = text if self._begun else text.lstrip()
        shown = text.rstrip()
        self._held = text[len(shown) :]
        self._begun = self._begun or bool(shown)
        return shown


def timed_line(segment: Segment) -> str:
    """Return the text of a segment on one line, behind its times; "" where nothing was said."""
    text = " ".join(segment.text.strip().splitlines())
    return f"{timed_head(segment.start_s, segment.end_s)}{text}\n" if text else ""


def timed_head(start_s: float, end_s: float) -> str:
    """Return what stands before a line that tells its times."""
    return f"[{_clock(start_s)} --> {_clock(end_s)}] "


def _clock(seconds: float) -> str:
    """Return minutes and seconds to a tenth, "00:25.0", with the hours before them where there are any."""
    tenths = round(10 * seconds)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    hour = f"{hours:02d}:" if hours else ""
    return f"{hour}{minutes:02d}:{rest // 10:02d}.{rest % 10}"
