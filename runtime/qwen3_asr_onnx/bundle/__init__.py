"""The on-disk contract, format 2: what a bundle says of itself, its files, and how it is written and fetched."""

from .files import Bundle, file_record
from .manifest import (
    FORMAT_NAME,
    FORMAT_VERSION,
    MANIFEST_FILE,
    DecoderDims,
    EncoderDims,
    FileRecord,
    Manifest,
    MelParams,
    Variant,
)
from .writing import atomic_directory

__all__ = [
    "FORMAT_NAME",
    "FORMAT_VERSION",
    "MANIFEST_FILE",
    "Bundle",
    "DecoderDims",
    "EncoderDims",
    "FileRecord",
    "Manifest",
    "MelParams",
    "Variant",
    "atomic_directory",
    "file_record",
]
