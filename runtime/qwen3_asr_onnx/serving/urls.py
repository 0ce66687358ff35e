"""URLs of strangers -> bytes, from hosts that are allowed at addresses that are public, and from nowhere else."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from string import punctuation
from typing import BinaryIO
from urllib.parse import quote, urlsplit

from qwen3_asr_onnx.audio.downloads import spool, url_label

from .errors import ApiError

__all__ = ["Fetcher", "is_public"]

_MOST_ADDRESSES = 3
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Return whether an address is one of the open internet, whatever it is wrapped in."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if ip.teredo is not None:
            return False
        if inner is not None:
            ip = inner
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def _addresses(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Fetches audio.

    Attributes:
        hosts: names that are allowed; "*" is every one.
        max_bytes: most bytes of one file.
        resolve: host and port -> addresses.
        accepts: whether an address may be connected to.
        timeout_s: most seconds for the answer to begin, and again for all of it.
    """

    hosts: tuple[str, ...]
    max_bytes: int
    resolve: Callable[[str, int], list[str]] = _addresses
    accepts: Callable[[str], bool] = is_public
    timeout_s: float = 10.0

    def fetch(self, url: str) -> BinaryIO:
        """Return the content, which the caller closes.

        The name is looked up once, and what is connected to is the address that was checked. Redirects are refused.

        Raises:
            ApiError: the URL is not allowed, or nothing comes from there.
            LimitError: too many bytes, or too slow.
        """
        scheme, host, port, target = self._checked(url)
        try:
            addresses = self.resolve(host, port)
        except (OSError, UnicodeError):
            raise _refused(f"{url_label(url)}: there is no such host") from None
        # One private address among them is reason enough: it is how a name is turned against its reader.
        if not addresses or not all(map(self.accepts, addresses)):
            raise _refused(f"{url_label(url)}: its host is not on the public internet")
        connection = _connection(scheme, host, port, addresses, self.timeout_s)
        # A timeout of a socket begins anew with each byte: somebody who sends the head slowly is ended by a clock.
        is_late = threading.Event()
        clock = threading.Timer(self.timeout_s, _end, (connection, is_late))
        clock.daemon = True
        clock.start()
        try:
            connection.request("GET", target, headers={"User-Agent": "qwen3-asr-onnx", "Accept-Encoding": "identity"})
            reply = connection.getresponse()
            clock.cancel()
            if is_late.is_set():  # a head that was cut off reads like a whole one
                raise TimeoutError
            if reply.status != 200:
                moved = "; redirects are not followed" if 300 <= reply.status < 400 else ""
                raise _refused(f"{url_label(url)}: it answers {reply.status}{moved}")
            if (reply.length or 0) > self.max_bytes:
                raise ApiError(413, f"{url_label(url)}: over {self.max_bytes} bytes", code="body_too_large")
            return _whole(reply, spool(reply, url_label(url), self.max_bytes, self.timeout_s))
        except ssl.SSLCertVerificationError as error:
            raise _refused(f"{url_label(url)}: its certificate is not accepted: {error.verify_message}") from error
        except (OSError, HTTPException) as error:
            raise _refused(f"{url_label(url)}: cannot be fetched ({type(error).__name__})") from error
        finally:
            clock.cancel()
            connection.close()

    def _checked(self, url: str) -> tuple[str, str, int, str]:
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").rstrip("."), parts.port
        except ValueError:
            raise _refused("the URL cannot be read") from None
        if parts.scheme not in ("http", "https") or not host:
            raise _refused("only http, https and data URLs are accepted")
        if parts.username or parts.password or any(ord(character) <= 32 for character in url):
            raise _refused("the URL holds a user name, or white space")
        if not self.hosts:
            raise _refused("URLs are off; send the audio itself, or start the server with --allow-url-host HOST")
        if "*" not in self.hosts and host.lower() not in self.hosts:
            raise _refused(f"the host {host} is not allowed; the server is started with --allow-url-host {host}")
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        # What is not ASCII is written as browsers do.
        return parts.scheme, host, port or (443 if parts.scheme == "https" else 80), quote(target, safe=punctuation)


def _connection(scheme: str, host: str, port: int, addresses: Sequence[str], timeout_s: float) -> HTTPConnection:
    """Return a connection that goes to the first address that answers, and speaks to the host."""
    connection: HTTPConnection
    if scheme == "https":
        connection = HTTPSConnection(host, port, timeout=timeout_s, context=ssl.create_default_context())
    else:
        connection = HTTPConnection(host, port, timeout=timeout_s)

    def connect(_: tuple[str, int], timeout: float, source: tuple[str, int] | None) -> socket.socket:
        failure: OSError | None = None
        for address in addresses[:_MOST_ADDRESSES]:
            try:
                connected = socket.create_connection((address, port), timeout / _MOST_ADDRESSES, source)
            except OSError as error:
                failure = error
                continue
            connected.settimeout(timeout)
            return connected
        raise failure or OSError("no address")

    vars(connection).update(_create_connection=connect)  # what `connect` of both kinds calls
    return connection


def _whole(reply: HTTPResponse, received: BinaryIO) -> BinaryIO:
    """Return what was received, if nothing is missing."""
    if reply.length:
        received.close()
        raise ConnectionError
    return received


def _end(connection: HTTPConnection, is_late: threading.Event) -> None:
    is_late.set()
    if connection.sock is not None:
        with contextlib.suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)


def _refused(why: str) -> ApiError:
    return ApiError(400, f"audio_url: {why}", param="messages", code="invalid_url")
