"""What a server accepts and from whom: parsed by the verb, trusted here."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DEFAULT_ALIASES", "Settings"]

DEFAULT_ALIASES = ("whisper-1", "gpt-4o-transcribe", "gpt-4o-mini-transcribe", "gpt-transcribe")
"""Names that clients have built in; each means the model that is served."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to serve.

    Attributes:
        aliases: names of the model, beside those it has.
        keys: accepted keys; without any, every request is served.
        max_upload_bytes: largest body.
        max_memory_bytes: bodies of chats that may be held at once; several times as much while they are decoded.
        max_audio_s: longest audio of one request, decoded.
        max_waiting_s: seconds of audio that may wait; beyond, requests are told to come back later.
        max_requests: requests whose bodies may be held at once.
        max_connections: open connections.
        url_hosts: hosts that audio may be fetched from; "*" is every public one.
        cors_origins: web pages that may ask.
        headers_timeout_s: longest time for the head of a request, or for what is left of one that was refused.
        read_timeout_s: longest silence while a body is received.
        send_timeout_s: longest time a client may not read.
        grace_s: how long requests may go on after the end was asked for.
        log_text: whether transcripts are logged.
    """

    aliases: tuple[str, ...] = DEFAULT_ALIASES
    keys: tuple[str, ...] = ()
    max_upload_bytes: int = 1 << 30
    max_memory_bytes: int = 256 << 20
    max_audio_s: float = 8 * 3600.0
    max_waiting_s: float = 3600.0
    max_requests: int = 256
    max_connections: int = 1000
    url_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    headers_timeout_s: float = 20.0
    read_timeout_s: float = 30.0
    send_timeout_s: float = 30.0
    grace_s: float = 30.0
    log_text: bool = False
