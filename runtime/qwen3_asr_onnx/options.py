"""What a caller may choose: options of a transcription, an alignment and a live stream."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeAlias, TypeVar

from .errors import OptionsError

__all__ = [
    "AlignOptions",
    "Channels",
    "PolicyName",
    "Split",
    "StreamOptions",
    "Timestamps",
    "TranscribeOptions",
    "changed",
    "divide",
    "of_the_call",
    "paired",
]

T = TypeVar("T")

Options = TypeVar("Options", "TranscribeOptions", "AlignOptions", "StreamOptions")

Split: TypeAlias = Literal["energy", "vad"]
"""How long audio is cut: at the quietest point near the limit, or at the pauses that voice activity detection finds."""

Channels: TypeAlias = Literal["mix", "left", "right", "split"] | int
"""What is heard of a recording with several channels: their mean, one of them (left is 1, right is 2), or each by
itself, in segments that say which."""

Timestamps: TypeAlias = Literal["none", "word"]
"""What is timed inside a segment."""


@dataclass(frozen=True, slots=True)
class TranscribeOptions:
    """How to transcribe. Every field has a default that suits a file of unknown content.

    Attributes:
        language: name ("English") or code ("en") to force; None or "" lets the model detect it. Where the model hears
            nobody there are no words, forced or not.
        context: background text for the system turn, for example names. Special tokens in it are plain text.
        timestamps: "word" times every word with the transcriber's forced aligner; "none" leaves it out.
        max_new_tokens: limit of generated tokens per segment; None allows 64 + 32 per second of audio, more than
            any speech needs.
        max_segment_s: longest piece given to the model at once, in seconds. With "energy" a piece may be 5 s longer,
            and 1200 gives the pieces of the official package; memory grows with it.
        batch_size: how many pieces are decoded together, of one input or of many; None lets the memory decide.
        split: "energy" needs nothing and covers every sample; "vad" cuts at pauses and skips what holds no speech
            (needs the vad extra). The default is the same whatever is installed, so that results are too.
        time_limit_s: wall-clock seconds one call may take; then what is there is returned, marked "time_limit".
        start_s: where in the recording to begin, in seconds. Times in results count from the start of the recording.
        end_s: where to end; None, and whatever is behind it, is the end of the recording.
        track: audio track of a film or another container, counted from 1 (needs ffmpeg); None is the first.
        channels: see `Channels`.

    Raises:
        OptionsError: a value is out of range.
    """

    language: str | None = None
    context: str = ""
    timestamps: Timestamps = "none"
    max_new_tokens: int | None = None
    max_segment_s: float = 30.0
    batch_size: int | None = None
    split: Split = "energy"
    time_limit_s: float | None = None
    start_s: float = 0.0
    end_s: float | None = None
    track: int | None = None
    channels: Channels = "mix"

    def __post_init__(self) -> None:
        self._check_excerpt()
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            raise OptionsError(
                f"max_new_tokens is {self.max_new_tokens}; give at least 1, or leave it out for no fixed limit"
            )
        if self.timestamps not in ("none", "word"):
            raise OptionsError(f"timestamps is {self.timestamps!r}; give 'none' or 'word'")
        if self.split not in ("energy", "vad"):
            raise OptionsError(f"split is {self.split!r}; give 'energy' or 'vad'")
        if not 1.0 <= self.max_segment_s <= 1200.0:
            raise OptionsError(f"max_segment_s is {self.max_segment_s}; the model takes pieces of 1 to 1200 seconds")
        if self.batch_size is not None and self.batch_size < 1:
            raise OptionsError(
                f"batch_size is {self.batch_size}; give at least 1, or leave it out to let the memory decide"
            )
        if self.time_limit_s is not None and not self.time_limit_s > 0:
            raise OptionsError(
                f"time_limit_s is {self.time_limit_s}; give more than 0 seconds, or leave it out for no limit"
            )

    def _check_excerpt(self) -> None:
        if not 0.0 <= self.start_s < math.inf:
            raise OptionsError(f"start_s is {self.start_s}; give 0 or more seconds")
        if self.end_s is not None and not self.start_s < self.end_s < math.inf:
            raise OptionsError(f"end_s is {self.end_s}; give more seconds than start_s, which is {self.start_s}")
        if self.track is not None and self.track < 1:
            raise OptionsError(f"track is {self.track}; tracks are counted from 1")
        if self.channels not in ("mix", "left", "right", "split") and not _is_count(self.channels):
            raise OptionsError(
                f"channels is {self.channels!r}; give mix, left, right, split, or the number of a channel, from 1"
            )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


LONGEST_WINDOW_S = 180.0
"""What the official package gives the model at most."""


@dataclass(frozen=True, slots=True)
class AlignOptions:
    """How to align.

    Attributes:
        refine: pull words back that lie beyond the end of the audio and give words of no length the time around them.
            False leaves the times of the official package, flagged.
        max_window_s: longest stretch of audio given to the model at once, in seconds; longer audio is divided at
            pauses between words.

    Raises:
        OptionsError: a value is out of range.
    """

    refine: bool = True
    max_window_s: float = LONGEST_WINDOW_S

    def __post_init__(self) -> None:
        if not 5.0 <= self.max_window_s <= LONGEST_WINDOW_S:
            raise OptionsError(f"max_window_s is {self.max_window_s}; the aligner takes windows of 5 to 180 seconds")


PolicyName: TypeAlias = str
"""How the model is asked again as audio grows, see `stream.stream.POLICIES`. "incremental": finished 8 s windows and
the decoder's memory of them are kept, the last hypothesis is checked in one pass, work per chunk is bounded.
"official": the policy of the official package (qwen-asr 0.0.6), which feeds everything again each time and slows down
as the stream goes on."""


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How to run a stream. The defaults suit live captions.

    Attributes:
        policy: see `PolicyName`.
        chunk_s: seconds of new audio between two hypotheses. Smaller shows words sooner and computes more.
        horizon_s: incremental only: longest stretch of audio the model attends to at once. A stretch ends at a pause
            long before; without any pause it is cut at its quietest moment.
        hold_back: incremental only: how many tokens at the end of a hypothesis are never committed while audio follows.
        skip_silence: incremental only: whether stretches without sound are kept from the model.
        unfixed_chunks: official only: how many first chunks start without the text so far.
        unfixed_tokens: official only: how many tokens of the text so far are written anew each time.

    Raises:
        OptionsError: a value is out of range.
    """

    policy: PolicyName = "incremental"
    chunk_s: float = 2.0
    horizon_s: float = 24.0
    hold_back: int = 5
    skip_silence: bool = True
    unfixed_chunks: int = 2
    unfixed_tokens: int = 5

    def __post_init__(self) -> None:
        if not 0.1 <= self.chunk_s <= 60.0:
            raise OptionsError(f"chunk_s is {self.chunk_s}; give 0.1 to 60 seconds")
        if not 16.0 <= self.horizon_s <= 120.0:
            raise OptionsError(f"horizon_s is {self.horizon_s}; give 16 to 120 seconds")
        for name in ("hold_back", "unfixed_chunks", "unfixed_tokens"):
            if getattr(self, name) < 0:
                raise OptionsError(f"{name} is {getattr(self, name)}; give 0 or more")


def changed(options: Options, kind: type[Options], keywords: Mapping[str, Any]) -> Options:
    """Return the options with those fields changed that were given as keywords.

    Raises:
        OptionsError: `options` is of another type, a keyword names no field, or a value is out of range.
    """
    if not isinstance(options, kind):
        how = "(**options), or its fields as keywords" if isinstance(options, Mapping) else "(...)"
        raise OptionsError(f"the options are a {type(options).__name__}; give {kind.__name__}{how}")
    if not keywords:
        return options
    divide(keywords, kind)
    return replace(options, **keywords)


def divide(keywords: Mapping[str, Any], *kinds: type[Any]) -> list[dict[str, Any]]:
    """Return the keywords that are fields of each kind of options.

    Raises:
        OptionsError: a keyword is a field of none; the message names those that are spelled alike.
    """
    names = [{field.name for field in fields(kind)} for kind in kinds]
    for keyword in keywords:
        if not any(keyword in known for known in names):
            every = sorted(set().union(*names))
            close = difflib.get_close_matches(keyword, every, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(every)}"
            raise OptionsError(f"no option is called {keyword!r}; {hint}")
    return [{name: value for name, value in keywords.items() if name in known} for known in names]


def of_the_call(options: TranscribeOptions | Sequence[TranscribeOptions]) -> tuple[float | None, int | None]:
    """Return the time limit and the size of the batch, which are of a whole call.

    Raises:
        OptionsError: they are not the same for all inputs.
    """
    each = options if isinstance(options, Sequence) else [options]
    found = {(own.time_limit_s, own.batch_size) for own in each} or {(None, None)}
    if len(found) > 1:
        raise OptionsError("time_limit_s and batch_size are those of the whole call; give every input the same")
    return found.pop()


def paired(
    inputs: Iterable[T], options: TranscribeOptions | Sequence[TranscribeOptions]
) -> Iterator[tuple[T, TranscribeOptions]]:
    """Yield each input with its options.

    Raises:
        OptionsError: there are more inputs than options, or fewer.
    """
    if not isinstance(options, Sequence):
        yield from ((one, options) for one in inputs)
        return
    n_inputs = 0
    for n_inputs, one in enumerate(inputs, start=1):
        if n_inputs > len(options):
            break
        yield one, options[n_inputs - 1]
    if n_inputs != len(options):
        more = "more" if n_inputs > len(options) else "fewer"
        raise OptionsError(f"there are {len(options)} options and {more} inputs; give one for each, or one for all")
