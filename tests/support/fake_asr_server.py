"""A transcription server that says what it is told to: the wire contract without a model."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler

__all__ = ["FakeAsr"]


class FakeAsr(BaseHTTPRequestHandler):
    """Answers all three routes with `server.text`; the first `server.busy` requests with 429.

    `server.seen` collects (path, headers, body) of every request.
    """

    lock = threading.Lock()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        state = vars(self.server)
        with self.lock:
            state["seen"].append((self.path, self.headers, body))
            state["busy"] -= 1
            busy = state["busy"] >= 0
        if busy:
            self.send(429, {"error": {"message": "full"}}, {"Retry-After": state.get("retry_after", "0.01")})
        elif state.get("status", 200) != 200:
            self.send(state["status"], {"error": {"message": "it broke", "type": "server_error"}})
        elif self.path.endswith("/chat/completions"):
            content = f"language English<asr_text>{state['text']}"
            self.send(200, {"choices": [{"message": {"content": content}}]})
        elif b'name="stream"\r\n\r\ntrue' in body:
            self.stream(state["text"])
        else:
            self.send(200, {"text": state["text"]})

    def send(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def stream(self, text: str) -> None:
        self.protocol_version = "HTTP/1.1"
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        events: list[dict[str, str]] = [{"type": "transcript.text.delta", "delta": word} for word in text.split(" ")]
        events.append({"type": "transcript.text.done", "text": text})
        for event in events:
            data = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
            # In two chunks: an event may be cut anywhere.
            for piece in (data[:25], data[25:]):
                self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        if not vars(self.server).get("cut_short"):
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Keep the tests' output clean."""
