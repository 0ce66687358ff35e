"""Transcripts as text, JSON, subtitles and tables, and how they are saved."""

from .writers import SUBTITLE_FORMATS, WRITERS, Writer, to_json, to_srt, to_tsv, to_txt, to_vtt, writers

__all__ = [
    "SUBTITLE_FORMATS",
    "WRITERS",
    "Writer",
    "to_json",
    "to_srt",
    "to_tsv",
    "to_txt",
    "to_vtt",
    "writers",
]
