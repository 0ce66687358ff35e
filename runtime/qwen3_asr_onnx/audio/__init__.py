"""Audio in: paths, bytes, URLs, arrays, pipes and microphones -> mono float32 blocks at 16 kHz."""

from .loading import AUDIO_SUFFIXES, CancelledMixWarning, TruncatedAudioWarning, load_audio, open_audio, probe_duration
from .sources import AudioFile, AudioLimits, AudioSource

__all__ = [
    "AUDIO_SUFFIXES",
    "AudioFile",
    "AudioLimits",
    "AudioSource",
    "CancelledMixWarning",
    "TruncatedAudioWarning",
    "load_audio",
    "open_audio",
    "probe_duration",
]
