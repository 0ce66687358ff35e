"""Two batches that take turns on one model, by the time each has had: pieces that somebody waits for, and the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from qwen3_asr_onnx.arrays import Mel
from qwen3_asr_onnx.model.batch import Generated, Watch

from .pieces import Pieces
from .recording import ClipRequest

__all__ = ["FIRST_PART", "PROMPT_PART", "Lane", "Lanes"]

FIRST_SHARE, REST_SHARE = 3.0, 1.0
"""First pieces get three quarters of the time while there is other work, and all of it while there is none."""

SAVED_S = 0.1
"""What a lane without work saves up of its time, at most: a first piece gets 0.3 s before it shares with the rest."""

MOST_OF_MEMORY = 0.75
"""Most of the cache for one lane where the other may need some: a first piece finds room at once."""

FIRST_PART = 256
"""Positions of the prompt of a first piece that are read at a time: those beside it should rather fill the batch than
step with few rows (entry 084)."""

PROMPT_PART = 80
"""Positions of a prompt that are read at a time while others wait: about 0.2 s of the 0.6B model on two cores. Parts
cost nothing (entry 057)."""


class Lane:
    """A batch, the piece that is on its way into it, and the time it has had.

    Attributes:
        share: of the time, beside those of other lanes.
        spent_s: seconds it has had, over its share.
        arriving: the piece that is being heard; None without one.
        rows: the pieces that write.
        most_positions: of the cache, over all rows of both lanes; None for no limit.
    """

    def __init__(self, pieces: Pieces, batch_size: int | None, share: float) -> None:
        self._pieces, self._batch_size = pieces, batch_size
        self.share = share
        self.spent_s = 0.0
        self.had_work = False
        self.arriving: ClipRequest | None = None
        self._arrival: Iterator[None] = iter(())
        self.rows: list[ClipRequest] = []
        self.reset()

    def reset(self) -> None:
        """Begin anew, without rows and with fresh memory."""
        self.batch = self._pieces.batch(self._batch_size)
        self.most_positions = self.batch.max_positions
        self.arriving, self._arrival, self.rows = None, iter(()), []

    @property
    def is_empty(self) -> bool:
        """Whether nothing is in it."""
        return self.arriving is None and not self.rows

    def begin(self, piece: ClipRequest, mel: Mel | None, watch: Watch, most: int | None) -> None:
        """Let a piece arrive that fits; see `Pieces.add_in_turns`."""
        assert self.arriving is None
        self.arriving = piece
        self._arrival = self._pieces.add_in_turns(self.batch, piece, mel, watch, most)

    def advance(self) -> None:
        """Go on with the piece that arrives, by one bit."""
        piece = self.arriving
        assert piece is not None
        self.arriving = None  # unless there is more to come: an error ends it
        for _ in self._arrival:
            self.arriving = piece
            return
        self.rows.append(piece)

    def run(self, pause: Callable[[], bool]) -> list[tuple[ClipRequest, Generated]]:
        """Step until a row ends or a pause is asked for; return what has ended."""
        ended = self.batch.run(pause=pause)
        self._forget([piece for piece, _ in ended])
        return ended

    def drop(self, which: Callable[[ClipRequest], bool]) -> list[tuple[ClipRequest, Generated]]:
        """End certain pieces at once; return what those that had begun to write have written."""
        if self.arriving is not None and which(self.arriving):
            self.arriving, self._arrival = None, iter(())
            self.batch.leave()
        ended = self.batch.interrupt(which)
        self._forget([piece for piece, _ in ended])
        return ended

    def release(self) -> None:
        """Give the memory back, if nothing is in it."""
        if self.is_empty and self.batch.n_positions:
            self.batch.release()

    def _forget(self, ended: Sequence[ClipRequest]) -> None:
        # The batch names a row by its request with the time spent on it: another object, of the same clip.
        clips = {id(piece.clip) for piece in ended}
        self.rows = [piece for piece in self.rows if id(piece.clip) not in clips]


class Lanes:
    """The two lanes of an engine: `first` for pieces that somebody waits for, `rest` for all others."""

    def __init__(self, pieces: Pieces, batch_size: int | None) -> None:
        self.first = Lane(pieces, batch_size, FIRST_SHARE)
        self.rest = Lane(pieces, batch_size, REST_SHARE)
        self._both = (self.first, self.rest)

    def __iter__(self) -> Iterator[Lane]:
        return iter(self._both)

    def beside(self, lane: Lane) -> Lane:
        """Return the other one."""
        return self.rest if lane is self.first else self.first

    def next(self) -> Lane | None:
        """Return the lane whose turn it is: the one that had least of the time it should; None without work.

        A lane that had nothing to do has saved up little.
        """
        working = [lane for lane in self._both if not lane.is_empty]
        for lane in working:
            other = self.beside(lane)
            if not lane.had_work and other.had_work and not other.is_empty:
                lane.spent_s = max(lane.spent_s, other.spent_s - SAVED_S)
        for lane in self._both:
            lane.had_work = not lane.is_empty
        return min(working, key=lambda lane: lane.spent_s, default=None)

    def fits(self, lane: Lane, length: int) -> bool:
        """Return whether a lane has room for a piece; both share the memory, and one piece always fits."""
        total, other = lane.most_positions, self.beside(lane)
        if total is not None:
            if not lane.is_empty:
                other.release()
            shared = lane is self.rest or not other.is_empty
            most = int(total * MOST_OF_MEMORY) if shared else total
            lane.batch.max_positions = min(most, total - other.batch.n_positions)
        return lane.batch.fits(length)

    def drop(self, which: Callable[[ClipRequest], bool]) -> list[tuple[ClipRequest, Generated]]:
        """End certain pieces, wherever they are; return what those that had begun to write have written."""
        return [one for lane in self._both for one in lane.drop(which)]

    @property
    def hold_memory(self) -> bool:
        """Whether the caches take any."""
        return any(lane.batch.n_positions for lane in self._both)

    def release(self) -> None:
        """Give back the memory of lanes in which nothing is."""
        for lane in self._both:
            lane.release()
