"""Transcripts as text, JSON, subtitles and tables, and how they are saved."""

from .writers import FORMATS, Format, Writer, to_json, to_srt, to_tsv, to_txt, to_vtt, writers

__all__ = ["FORMATS", "Format", "Writer", "to_json", "to_srt", "to_tsv", "to_txt", "to_vtt", "writers"]
