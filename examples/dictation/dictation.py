"""Push-to-talk dictation through `qwen3-asr-onnx worker`: hold the button or F9, speak, let go. See README.md."""

import argparse
import json
import math
import os
import queue
import shutil
import signal
import threading
import tkinter as tk
import wave
from collections import namedtuple
from subprocess import PIPE, Popen, call
from tkinter import ttk

Colors = namedtuple("Colors", "back field text faint key bad")
LIGHT = Colors("#f1f1ef", "#ffffff", "#1c1c1c", "#85857f", "#2563c9", "#b3261e")
DARK = Colors("#242427", "#19191b", "#ececec", "#8c8c92", "#3d7ae0", "#e0554b")
ANY = "Any language"
BUTTON = {"starting": "Starting ...", "listening": "Listening ...", "finishing": "One moment ...", "down": "Try again"}


class Worker:
    """The recogniser. What it answers is put into `said` as (worker, verb, result, error)."""

    def __init__(self, command, said):
        self.said, self.verbs = said, []
        self.process = Popen(command, stdin=PIPE, stdout=PIPE, start_new_session=True)
        threading.Thread(target=self.listen, daemon=True).start()

    def ask(self, verb, payload=None, **params):
        self.verbs.append(verb)
        body = {"jsonrpc": "2.0", "id": len(self.verbs) - 1, "method": verb, "params": params}
        body |= {} if payload is None else {"payload_length": len(payload)}
        try:
            self.process.stdin.write(json.dumps(body).encode() + b"\n" + (payload or b""))
            self.process.stdin.flush()
        except OSError:
            pass  # it has ended, which `listen` tells

    def listen(self):
        with self.process.stdout as lines:
            for message in map(json.loads, lines):
                error = message["error"]["message"] if "error" in message else None
                self.said.put((self, self.verbs[message["id"]], message.get("result"), error))
        self.said.put((self, "ended", None, f"The recogniser ended with status {self.process.wait()}."))


def open_microphone(take, args):
    """Give blocks of 16-bit samples to `take`, from another thread; return their rate, and what ends it."""
    import sounddevice  # qwen3-asr-onnx[mic]; where it is missing, the window says so

    rate = int(sounddevice.query_devices(args.microphone, "input")["default_samplerate"])
    how = {"samplerate": rate, "device": args.microphone, "blocksize": rate // 20, "channels": 1, "dtype": "int16"}
    stream = sounddevice.RawInputStream(**how, callback=lambda block, *_: take(bytes(block)))
    stream.start()
    return rate, stream.close


def open_recording(take, args):
    file, closed = wave.open(args.input), threading.Event()  # noqa: SIM115 - 16 bits, mono; closed by the thread
    rate = file.getframerate()

    def play():
        with file:
            while (block := file.readframes(rate // 20)) and not closed.wait(0.05 / args.speed):
                take(block)

    threading.Thread(target=play, daemon=True).start()
    return rate, closed.set


class App:
    """The window. Its state is one of those that the button names, or ready."""

    def __init__(self, root, args):
        self.root, self.args, self.color = root, args, DARK if args.dark else LIGHT
        self.said, self.blocks = queue.SimpleQueue(), queue.SimpleQueue()
        self.letting_go, self.stream, self.worker = root.after(0, lambda: None), None, None
        self.end_input = lambda: None
        tools = ("wtype --", "ydotool type --") if "WAYLAND_DISPLAY" in os.environ else ("xdotool type --",)
        self.typing = next((tool.split() for tool in tools if shutil.which(tool.split()[0])), None)
        self.build(self.color)
        self.start()
        self.poll()

    def build(self, color):
        self.root.configure(bg=color.back, padx=14, pady=10)
        for option, value in (("Button.activeForeground", "white"), ("highlightThickness", 0), ("relief", "flat")):
            self.root.option_add(f"*{option}", value)
        style = ttk.Style(self.root)
        style.theme_use("clam")
        style.configure(".", background=color.back, foreground=color.text, fieldbackground=color.field)
        style.configure(
            ".", bordercolor=color.faint, lightcolor=color.back, darkcolor=color.back, arrowcolor=color.text
        )
        style.map(".", background=[("active", color.field)], foreground=[("disabled", color.faint)])
        style.map("TCombobox", fieldbackground=[("readonly", color.field)])
        top, bottom = ttk.Frame(self.root), ttk.Frame(self.root)
        self.button = tk.Button(top, width=16, pady=9, bd=0, font=("", 13, "bold"), fg="white")
        self.level = tk.Canvas(top, height=10, bg=color.field, highlightthickness=1, highlightbackground=color.faint)
        self.bar = self.level.create_rectangle(0, 0, 0, 12, width=0, fill=color.key)
        self.language = ttk.Combobox(top, values=[ANY], state="readonly", width=14)
        self.language.set(ANY)
        self.text = tk.Text(self.root, height=9, width=60, wrap="word", font=("", 13), padx=10, pady=8)
        self.text.configure(bg=color.field, fg=color.text, insertbackground=color.text)
        self.text.tag_configure("tentative", foreground=color.faint)
        self.copies, self.types = tk.BooleanVar(value=True), tk.BooleanVar()
        copies = ttk.Checkbutton(bottom, text="Copy when done", variable=self.copies)
        types = ttk.Checkbutton(bottom, text="Type it where the cursor is", variable=self.types)
        if self.typing is None:
            types.configure(state="disabled", text="Typing elsewhere needs xdotool (X11), wtype or ydotool (Wayland)")
        clear = ttk.Button(bottom, text="Clear", command=lambda: self.text.delete("1.0", "end"))
        self.status = ttk.Label(self.root, wraplength=760)
        for part, side in ((self.button, "left"), (self.language, "right"), (copies, "left"), (clear, "right")):
            part.pack(side=side)
        types.pack(side="left", padx=12)
        self.level.pack(fill="x", expand=True, padx=12)
        for part in (top, self.text, bottom, self.status):
            part.pack(fill="both", expand=part is self.text, pady=4)
        for widget, down, up in ((self.button, "Button-1", "ButtonRelease-1"), (self.root, "F9", "KeyRelease-F9")):
            widget.bind(f"<{down}>", self.press)
            widget.bind(f"<{up}>", self.let_go)
        self.root.protocol("WM_DELETE_WINDOW", self.close)

    def show(self, state, why="", bad=False):
        color = getattr(self.color, {"listening": "bad", "ready": "key", "down": "key"}.get(state, "faint"))
        self.state = state
        self.level.coords(self.bar, 0, 0, 0, 12)
        self.status.configure(text=why, foreground=self.color.bad if bad else self.color.faint)
        self.button.configure(text=BUTTON.get(state, "Hold to talk (F9)"), bg=color, activebackground=color)

    def start(self, why=""):
        if self.worker:
            self.worker.ask("shutdown")
        self.show("starting", f"{why}The model is being loaded.", bad=bool(why))
        try:
            self.worker = Worker([*self.args.worker.split(), "--no-model"], self.said)
            self.worker.ask("load", **({"model": self.args.model} if self.args.model else {}))
        except OSError as error:
            self.show("down", f"The recogniser cannot be started: {error}. Is qwen3-asr-onnx installed?", bad=True)

    def press(self, _=None):
        self.root.after_cancel(self.letting_go)  # a key that is held repeats, and is let go each time
        if self.state == "down":
            self.start()
        if self.state != "ready":
            return
        try:
            open_input = open_recording if self.args.input else open_microphone
            rate, self.end_input = open_input(self.blocks.put, self.args)
        except Exception as error:  # noqa: BLE001 - drivers have errors of their own
            self.show("ready", f"No microphone ({error}). It needs qwen3-asr-onnx[mic] and PortAudio.", bad=True)
            return
        self.stream, self.unsent, self.heard, self.loudness = None, b"", "", 0.0
        language = {} if self.language.get() == ANY else {"language": self.language.get()}
        self.worker.ask("stream.open", format="s16le", rate=rate, chunk_s=1.0, **language)
        self.show("listening", "Let go when you are done.")

    def let_go(self, _=None):
        self.root.after_cancel(self.letting_go)
        if self.state == "listening":
            self.letting_go = self.root.after(80, self.stop)

    def toggle(self):
        self.let_go() if self.state == "listening" else self.press()

    def stop(self, state="finishing", why="", bad=False):
        self.end_input()
        self.show(state, why, bad)

    def poll(self):  # what other threads say: only this one may touch the window
        while not self.said.empty():
            worker, verb, result, error = self.said.get()
            if worker is self.worker:
                self.hear(verb, result or {}, error)
        if self.state in ("listening", "finishing"):
            self.feed()
        self.root.after(40, self.poll)

    def feed(self):
        while not self.blocks.empty():
            self.unsent += (block := self.blocks.get())
            loudness = 1 + math.log10(max(memoryview(block).cast("h"), default=0) / 32768 + 0.001) / 3  # of 60 dB
            self.loudness = max(self.loudness - 0.03, loudness)
        self.level.coords(self.bar, 0, 0, self.loudness * self.level.winfo_width(), 12)
        if self.stream and self.unsent:
            self.worker.ask("stream.feed", self.unsent, stream=self.stream)
            self.unsent = b""
        if self.stream and self.state == "finishing":
            self.worker.ask("stream.finish", stream=self.stream)
            self.stream = None

    def hear(self, verb, result, error):
        if verb == "ended":
            self.worker, again = None, self.state != "starting"  # where it ended at once, it would do so again
            self.stop("down", error, bad=True)
            if again:
                self.start(f"{error} It was started again. ")
        elif error is not None:
            self.stop("down" if verb == "load" else "ready", error, bad=True)
        elif verb == "load":
            self.language.configure(values=[ANY, *result["languages"]])
            self.show("ready", f"{result['name']}, {result['variant']}")
        elif verb == "stream.open":
            self.stream = result["stream"]
        for update in result.get("updates", []):
            self.write(update["committed"], update["tentative"])
        if verb == "stream.finish" and error is None:
            self.finish(self.heard.strip())

    def write(self, committed, tentative):
        if old := self.text.tag_ranges("tentative"):
            self.text.delete(old[0], old[-1])
        space = " " if committed and not self.heard and not self.text.get("end-2c").isspace() else ""
        self.text.insert("end-1c", space + committed, "", tentative, "tentative")
        self.text.see("end")
        self.heard += committed

    def finish(self, text):
        if text and self.copies.get():
            self.root.clipboard_clear()
            self.root.clipboard_append(text)
        self.show("ready", "Done." if text else "Nothing was heard.")
        types = text and self.types.get() and not self.root.focus_displayof()  # in our own window it stands already
        if types and call([*self.typing, text]):
            self.show("ready", f"{self.typing[0]} could not type it.", bad=True)

    def close(self):
        self.end_input()
        if self.worker:
            self.worker.ask("shutdown")
        self.root.destroy()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="name or folder of a model")
    parser.add_argument("--microphone", help="part of a name that `qwen3-asr-onnx stream --list-microphones` shows")
    parser.add_argument("--input", help="a WAV file instead of the microphone")
    parser.add_argument("--speed", type=float, default=1.0, help="how fast it is spoken")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--worker", default="qwen3-asr-onnx worker", help="the command that starts it")
    app = App(tk.Tk(className="Dictation"), parser.parse_args())
    for name, act in (("SIGINT", app.close), ("SIGTERM", app.close), ("SIGUSR1", app.toggle)):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_, act=act: app.root.after(0, act))
    app.root.mainloop()
