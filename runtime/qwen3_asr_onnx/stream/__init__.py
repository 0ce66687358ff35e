"""Text while somebody speaks: blocks of samples in, committed and tentative text out."""

from .stream import Stream
from .updates import StreamUpdate

__all__ = ["Stream", "StreamUpdate"]
