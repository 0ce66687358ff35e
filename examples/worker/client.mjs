// Drives `qwen3-asr-onnx worker` with Node alone: take `Worker` into your own program.
//
//     node client.mjs talk.wav            segments, as they are found
//     node client.mjs --live talk.wav     the file as a microphone would give it: words, as they become sure
//
// Options: --language NAME, and --worker "qwen3-asr-onnx worker -m MODEL", the command that starts it.
import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';

/** A worker process. Any number of requests may be under way. */
class Worker {
  #waiting = new Map();
  #number = 0;

  constructor([program, ...parameters]) {
    // Detached, so that Ctrl-C is for this program, which cancels. When this program ends, so does the worker.
    const how = { stdio: ['pipe', 'pipe', 'inherit'], detached: true, windowsHide: true };
    this.process = spawn(program, parameters, how);
    this.process.on('error', (error) => this.#end(`the worker cannot be started: ${error.message}`));
    this.process.on('close', (status) => this.#end(`the worker ended with status ${status}`));
    this.process.stdin.on('error', () => {}); // it is gone: 'close' says so
    createInterface({ input: this.process.stdout }).on('line', (line) => this.#hear(JSON.parse(line)));
  }

  /** Resolves to the result of a request; `onEvent(kind, params)` hears what comes before it. */
  ask(method, params = {}, { payload, onEvent = () => {} } = {}) {
    const id = ++this.#number;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject, onEvent });
      if (this.gone) return this.#end(this.gone);
      this.tell(method, params, { id, payload });
    });
  }

  tell(method, params, { id, payload } = {}) {
    const line = JSON.stringify({ jsonrpc: '2.0', id, method, params, payload_length: payload?.length });
    this.process.stdin.write(line + '\n');
    if (payload) this.process.stdin.write(payload);
  }

  /** Cancels what is under way: each of it is answered with an error. */
  cancel() {
    for (const id of this.#waiting.keys()) this.tell('cancel', { id });
  }

  #hear({ id, method, params, result, error }) {
    const waiting = this.#waiting.get(method ? params.id : id);
    if (method) return waiting?.onEvent(method, params);
    this.#waiting.delete(id);
    error ? waiting?.reject(new Error(error.message)) : waiting?.resolve(result);
  }

  #end(why) {
    this.gone ??= why;
    for (const { reject } of this.#waiting.values()) reject(new Error(this.gone));
    this.#waiting.clear();
  }
}

async function transcribe(worker, path, language) {
  const onEvent = (kind, { segment }) => {
    if (kind === 'segment') console.log(`[${segment.start_s.toFixed(1)} s] ${segment.text}`);
  };
  await worker.ask('transcribe', { audio: resolve(path), language }, { onEvent });
}

async function listen(worker, path, language) {
  const file = await readFile(path);
  const [fmt, data] = ['fmt ', 'data'].map((name) => file.indexOf(name, 12, 'latin1') + 8); // and nothing behind it
  const [channels_sent, bits] = [file.readUInt16LE(fmt + 2), file.readUInt16LE(fmt + 14)];
  const rate = file.readUInt32LE(fmt + 4);
  const format = { 8: 'u8', 16: 's16le', 32: 's32le' }[bits];
  const say = ({ updates }) => updates.forEach(({ committed }) => process.stdout.write(committed));
  const { stream } = await worker.ask('stream.open', { format, rate, channels_sent, language });
  const [started, step] = [Date.now(), (rate >> 1) * channels_sent * (bits >> 3)];
  for (let at = data, n = 1; at < file.length; at += step, n++) {
    await sleep(started + 500 * n - Date.now());
    say(await worker.ask('stream.feed', { stream }, { payload: file.subarray(at, at + step) }));
  }
  say(await worker.ask('stream.finish', { stream }));
  console.log();
}

const [text, command] = [{ type: 'string' }, { type: 'string', default: 'qwen3-asr-onnx worker' }];
const options = { live: { type: 'boolean' }, language: text, worker: command };
const { values, positionals: [path = ''] } = parseArgs({ options, allowPositionals: true });
const worker = new Worker(values.worker.split(' '));
process.on('SIGINT', () => worker.cancel());
try {
  await worker.ask('hello', { protocol: 1, client: 'client.mjs' });
  await (values.live ? listen : transcribe)(worker, path, values.language);
  await worker.ask('shutdown');
} catch (error) {
  console.error(`error: ${error.message}`);
  process.exit(1); // which ends the worker too
}
