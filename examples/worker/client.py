"""Drives `qwen3-asr-onnx worker` with Python's standard library alone: take `Worker` into your own program.

python client.py talk.wav            segments, as they are found
python client.py --live talk.wav     the file as a microphone would give it: words, as they become sure
"""

import argparse
import itertools
import json
import os
import queue
import sys
import threading
import time
import wave
from subprocess import PIPE, Popen


class WorkerError(Exception): ...


class Worker:
    """A worker process. Any thread may ask it something, and gets its own answer."""

    def __init__(self, command):
        # A session of its own: Ctrl-C is for this program, which cancels. When this program ends, so does the worker.
        self._process = Popen(command, stdin=PIPE, stdout=PIPE, start_new_session=True)
        self._waiting, self._numbers, self._writing = {}, itertools.count(1), threading.Lock()
        threading.Thread(target=self._listen, daemon=True).start()

    def ask(self, method, payload=None, on_event=None, **params):
        """Return the result of a request; `on_event(kind, params)` hears what comes before it."""
        number, messages = next(self._numbers), queue.SimpleQueue()
        self._waiting[number] = messages
        try:
            self._send(payload, id=number, method=method, params=params)
            while "result" not in (message := messages.get()):
                if "error" in message:
                    raise WorkerError(message["error"]["message"])
                on_event(message["method"], message["params"])
            return message["result"]
        except KeyboardInterrupt:
            self._send(method="cancel", params={"id": number})
            raise
        finally:
            del self._waiting[number]

    def _send(self, payload=None, **body):
        body |= {"jsonrpc": "2.0"} if payload is None else {"jsonrpc": "2.0", "payload_length": len(payload)}
        try:
            with self._writing:  # a payload follows its line
                self._process.stdin.write(json.dumps(body).encode() + b"\n" + (payload or b""))
                self._process.stdin.flush()
        except OSError as error:
            raise WorkerError("the worker has ended") from error

    def _listen(self):
        for message in map(json.loads, self._process.stdout):
            if messages := self._waiting.get(message["params"]["id"] if "method" in message else message["id"]):
                messages.put(message)
        gone = {"error": {"message": f"the worker ended with status {self._process.wait()}"}}
        for messages in list(self._waiting.values()):
            messages.put(gone)


def transcribe(worker, path, **options):
    def show(kind, params):
        if kind == "segment":
            print(f"[{params['segment']['start_s']:.1f} s] {params['segment']['text']}", flush=True)

    worker.ask("transcribe", on_event=show, audio=os.path.abspath(path), **options)


def listen(worker, path, **options):
    with wave.open(path) as file:
        rate, started = file.getframerate(), time.monotonic()
        how = {"format": {1: "u8", 2: "s16le", 4: "s32le"}[file.getsampwidth()], "channels_sent": file.getnchannels()}
        stream = worker.ask("stream.open", rate=rate, **how, **options)
        while block := file.readframes(rate // 2):
            time.sleep(max(0.0, started + file.tell() / rate - time.monotonic()))
            heard = worker.ask("stream.feed", block, **stream)
            print("".join(update["committed"] for update in heard["updates"]), end="", flush=True)
        print("".join(update["committed"] for update in worker.ask("stream.finish", **stream)["updates"]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("--live", action="store_true")
    parser.add_argument("--language")
    parser.add_argument("--worker", default="qwen3-asr-onnx worker", help="the command that starts it")
    args = parser.parse_args()
    options = {"language": args.language} if args.language else {}
    try:
        worker = Worker(args.worker.split())
        worker.ask("hello", protocol=1, client="client.py")
        (listen if args.live else transcribe)(worker, args.file, **options)
        worker.ask("shutdown")
    except (WorkerError, OSError, wave.Error, KeyboardInterrupt) as error:
        sys.exit(f"error: {str(error) or 'cancelled'}")
