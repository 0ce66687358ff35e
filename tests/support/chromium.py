"""A page in headless Chromium, driven over the DevTools pipe with the standard library: scripts, pictures."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.programs import find

__all__ = ["Page", "open_page"]

TIME_LIMIT_S = 120
"""Then Chromium is killed and the test fails, rather than wait for an answer for ever."""

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    "--remote-debugging-pipe",
)


class Page:
    """One page; requests for anything outside the file are collected in `requested`."""

    def __init__(self, send: Any, receive: Any) -> None:
        self._send, self._receive = send, receive
        self._id = 0
        self._session: str | None = None
        self.requested: list[str] = []
        self.errors: list[str] = []

    def call(self, method: str, **params: Any) -> Any:
        self._id += 1
        message = {"id": self._id, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._send(json.dumps(message))
        while True:
            answer = self._receive()
            if answer.get("method") == "Network.requestWillBeSent":
                self.requested.append(answer["params"]["request"]["url"])
            if answer.get("method") == "Runtime.exceptionThrown":
                self.errors.append(answer["params"]["exceptionDetails"]["text"])
            if answer.get("id") == self._id:
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def open(self, path: Path) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Network.enable")
        self.call("Runtime.enable")
        self.call("Page.navigate", url=path.resolve().as_uri())
        loaded = 'document.readyState === "complete" || new Promise(done => addEventListener("load", done))'
        self.evaluate(f"Promise.resolve({loaded}).then(() => true)")

    def evaluate(self, script: str) -> Any:
        """Return the value of a script; a promise is waited for."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def screenshot(self, path: Path, *, width: int = 1240, dark: bool = False) -> None:
        """Take a picture of the whole page."""
        scheme = "dark" if dark else "light"
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        height = self.evaluate("document.documentElement.scrollHeight")
        clip = {"x": 0, "y": 0, "width": width, "height": min(height, 8000), "scale": 1}
        picture = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(picture))


@contextmanager
def open_page(path: Path, profile: Path) -> Iterator[Page]:
    """Open a file in a fresh Chromium; a test that does is marked `program("chromium")`."""
    program = find("chromium")
    assert program is not None, "the test is not marked: @pytest.mark.program('chromium')"
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()

    def connect() -> None:  # the pipe protocol wants file descriptors 3 and 4
        os.dup2(to_read, 1003)
        os.dup2(from_write, 1004)
        os.dup2(1003, 3)
        os.dup2(1004, 4)

    process = subprocess.Popen(
        [program, *FLAGS, f"--user-data-dir={profile}"],
        preexec_fn=connect,
        pass_fds=(3, 4),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        close_fds=True,
    )
    os.close(to_read)
    os.close(from_write)
    with os.fdopen(to_write, "wb") as requests, os.fdopen(from_read, "rb") as answers:

        def send(text: str) -> None:
            requests.write(text.encode() + b"\0")
            requests.flush()

        waiting = bytearray()

        def receive() -> Any:
            while b"\0" not in waiting:
                block = answers.raw.read(1 << 16)
                assert block, "Chromium ended"
                waiting.extend(block)
            message, _, rest = waiting.partition(b"\0")
            waiting[:] = rest
            return json.loads(message)

        page = Page(send, receive)
        watchdog = threading.Timer(TIME_LIMIT_S, process.kill)
        watchdog.start()
        try:
            page.open(path)
            yield page
        finally:
            watchdog.cancel()
            process.kill()
            process.wait()
