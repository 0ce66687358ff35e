"""An HTTP or HTTPS server on a local port, which ends with the test."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

__all__ = ["AUTHORITY", "CERTIFICATE", "EXPIRED", "KEY", "served"]

_TLS = Path(__file__).parents[1] / "data" / "tls"
AUTHORITY, CERTIFICATE, EXPIRED, KEY = (_TLS / name for name in ("ca.pem", "server.pem", "expired.pem", "server.key"))
"""Of localhost, 127.0.0.1, ok.example and the host of the official project's example, good until 2126: SSL_CERT_FILE
names the authority to a client that should trust it. One that expired in 2021 has the same names and key."""


@contextmanager
def served(handler: type[BaseHTTPRequestHandler], *, certificate: Path | None = None, **state: object) -> Iterator[str]:
    """Run a server and give its address.

    Args:
        handler: answers the requests.
        certificate: serve HTTPS with it; its attribute `names` lists the names that clients asked for (SNI).
        state: what it finds as attributes of its server.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    vars(server).update(state)
    if certificate is not None:
        names: list[str | None] = state.get("names", [])  # type: ignore[assignment]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, KEY)
        context.sni_callback = lambda _, name, __: names.append(name)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"{'http' if certificate is None else 'https'}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
