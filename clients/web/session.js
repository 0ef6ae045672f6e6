/** One session: an open stream that survives lost connections. */

import { baseOf } from "./connection.js";
import { largestFrame, pack, splitRaw } from "./events.js";
import { ConnectionLost, SaccadeError, StreamClosed, streamError } from "./errors.js";
import { LatencyLedger, SendLog } from "./outgoing.js";
import { Attempts, open } from "./reconnecting.js";

/** @typedef {import("./connection.js").Access} Access */
/** @typedef {import("./connection.js").Connection} Connection */
/** @typedef {{connection: Connection, opened: Opened, url: string | URL}} Found */
/** @typedef {import("./events.js").Events} Events */
/** @typedef {import("./messages.js").Final} Final */
/** @typedef {import("./messages.js").Opened} Opened */
/** @typedef {import("./messages.js").Result} Result */

/**
 * How to open a session; what is left out is as docs/protocol.md says of `open`.
 *
 * @typedef {object} SessionOptions
 * @property {string} model  one of `listModels`
 * @property {{width: number, height: number}} [sensor]  of the events to come
 * @property {"reject" | "scale" | "crop"} [fit]  what to do where that is not the model's
 * @property {"packed" | "evt2" | "evt21" | "evt21-legacy" | "evt3"} [encoding]  another than packed: `sendRaw`
 * @property {{every: "tick" | "change" | "flush"} | {every: "events" | "ms", n: number}} [report]
 * @property {number} [halfLifeMs]  the scores are of the recent past
 * @property {number} [clockBits]  timestamps wrap after 2^clockBits µs
 * @property {"block" | "drop-oldest"} [whenFull]
 * @property {"all" | "latest"} [results]
 * @property {number | null} [maxLagMs]  by default 100 with `drop-oldest`, else null: no bound
 * @property {"reject" | "skip"} [invalid]
 * @property {number} [giveUpS]  how long to try to come back after a loss, s; by default 120, 0: not at all
 * @property {number} [keptBytes]  bytes of events kept until they are durable; by default 2^25
 */

const COME_BACK = new Set([1001, 1005, 1006, 1011, 1012, 1013, 4000, 4408, 4429]);
const MOST_ENGINE_FAILURES = 3;
const RESULTS_KEPT = 1024;
const LATENCIES_KEPT = 1024;
const BUFFERED_BYTES = 1 << 20;
const POLL_MS = 5;
const SILENCE_MS = 5000;
const SIGN_MS = 3000;
const WATCH_MS = 500;

/** Counts of one session; docs/sdk-javascript.md explains each. */
export class Stats {
  frames = 0;
  events = 0;
  bytes = 0;
  ackedEvents = 0;
  droppedEvents = 0;
  droppedLocally = 0;
  skippedEvents = 0;
  refusedFrames = 0;
  refusedEvents = 0;
  /** The server's sentence about the first frame that it refused. @type {string | null} */ firstRefusal = null;
  results = 0;
  skippedResults = 0;
  supersededResults = 0;
  lostResults = 0;
  reconnects = 0;
  /** @type {number | null} */ lagMs = null;
  /** @type {number | null} */ windowEvents = null;
  /** From sending the frame that completed a result's tick, ms; the newest last. @type {number[]} */
  latenciesMs = [];
}

/** One session: an open stream that survives lost connections; made by `connect`. */
export class Session {
  stats = new Stats();
  /** The websocket now; it changes with every return. @type {Connection} */
  connection;
  /** The final scores, once `close` has been answered. @type {Final | null} */
  closed = null;
  /** Why the session failed. @type {unknown} */
  failure = null;
  #log;
  #acked = { seq: 0, events: 0, bytes: 0 };
  #connected = true;
  #resuming = false;
  #suspended = false;
  #engineFailures = 0;
  #requests = 0;
  #scored = 0;
  #refused = 0;
  /** @type {any} */ #goaway = null;
  /** @type {Map<number, {resolve: (answer: any) => void, reject: (error: unknown) => void}>} */ #unanswered = new Map();
  /** @type {Set<number>} */ #resetsAgain = new Set();
  /** @type {Result[]} */ #results = [];
  /** @type {Map<string, Set<(detail: any) => void>>} */ #listeners = new Map();
  /** @type {Error[]} */ #refusals = [];
  /** @type {(() => void)[]} */ #waiting = [];
  #ledger = new LatencyLedger();
  #unansweredResets = 0;
  /** Results that the server had reported before it was come back to. @type {number | null} */ #reported = null;
  #iterated = false;
  #polling = false;
  #heard = 0;
  #watched = 0;
  #asking = false;
  /** @type {ReturnType<typeof setInterval> | undefined} */ #watching;

  /** @param {import("./placement.js").Finder} finder @param {SessionOptions & Access} options @param {any} opening @param {Found} found */
  constructor(finder, options, opening, { connection, opened, url }) {
    this.finder = finder;
    this.url = baseOf(url);
    this.opened = opened;
    this.options = options;
    this.opening = opening;
    this.#log = new SendLog(opened.resume !== null, opened.seq);
    this.windowEvents = opened.window_events;
    this.connection = connection;
    this.#attach(connection);
  }

  /** Whether no further message can come. */
  get ended() {
    return this.closed !== null || this.failure !== null;
  }

  /** Events that were sent and not acknowledged. */
  get unackedEvents() {
    return Math.max(0, this.#log.totals.events - this.#acked.events);
  }

  /**
   * Send events; resolves when all of them are within the server's credit.
   *
   * @param {Events} events  columns of one length, in time order; t in µs
   * @throws {SaccadeError} They cannot be sent, an earlier frame was refused, or the session has ended.
   */
  async send(events) {
    for (const payload of pack(events, largestFrame({ ...this.opened, window_events: this.windowEvents }))) await this.#dispatch(payload);
    this.#raise();
  }

  /** Send a camera's own words: EVT2, EVT2.1 or EVT3, as `encoding` says. @param {Uint8Array} words  a whole number of them */
  async sendRaw(words) {
    for (const payload of splitRaw(words)) await this.#dispatch(payload);
    this.#raise();
  }

  /** Return the scores of exactly the events so far. @returns {Promise<Final>} */
  flush() {
    return this.#ask("flush");
  }

  /** Forget everything so far: the stream begins anew. @returns {Promise<void>} */
  async reset() {
    await this.#ask("reset");
  }

  /** End the session and return its final scores. @returns {Promise<Final>} */
  async close() {
    if (!this.ended) {
      this.#raise();
      this.#append({ type: "close" });
    }
    while (!this.ended) await this.#change();
    if (this.failure) throw this.failure;
    return /** @type {Final} */ (/** @type {unknown} */ (this.closed));
  }

  /** End the session at once, without its final scores. */
  abort() {
    this.#fail(new StreamClosed());
    this.connection?.close(1000);
  }

  /** Iterate over the results until the session ends. @returns {AsyncGenerator<Result, void, void>} */
  async *results() {
    this.#iterated = true;
    for (;;) {
      const result = this.#results.shift();
      if (result) yield result;
      else if (this.failure && !(this.failure instanceof StreamClosed)) throw this.failure;
      else if (this.ended) return;
      else await this.#change();
    }
  }

  /**
   * Call a function on every event of a type: `result`, `ack`, `reconnecting`, `reconnected`, `goaway`, `error` (a refused frame), `closed`, `failed`.
   *
   * @param {string} type @param {(detail: any) => void} listener
   * @returns {() => void} removes the listener
   */
  on(type, listener) {
    const listeners = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, listeners.add(listener));
    return () => void listeners.delete(listener);
  }

  /** @param {string} type @param {any} detail */
  #emit(type, detail) {
    for (const listener of this.#listeners.get(type) ?? []) listener(detail);
  }

  /** Resolve at the next message, loss or end. @returns {Promise<void>} */
  #change() {
    return new Promise((resolve) => void this.#waiting.push(resolve));
  }

  #changed() {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  /** Throw what has refused a frame since the last call, unless an `error` listener has it. */
  #raise() {
    const [refusal] = this.#refusals.splice(0);
    if (this.failure) throw this.failure;
    if (this.closed) throw new StreamClosed();
    if (refusal) throw refusal;
  }

  /** @param {import("./events.js").Payload} payload */
  async #dispatch({ tBaseUs, data, events }) {
    this.#raise();
    while (!this.#maySend(events, data.length)) {
      await this.#change();
      this.#raise();
    }
    this.stats.frames += 1;
    this.stats.events += events;
    this.stats.bytes += data.length;
    this.#ledger.add(this.#log.seq + 1, events);
    this.#append({ type: "events", t_base_us: tBaseUs, data }, events);
    if (this.options.whenFull === "drop-oldest") for (const seq of this.#log.dropPayloads(this.#mostKept)) this.#ledger.discard(seq);
  }

  /** Whether the session survives the loss of its connection now. */
  get #resumable() {
    return this.opened.resume !== null && this.#log.complete;
  }

  get #mostKept() {
    return this.options.keptBytes ?? 1 << 25;
  }

  /** @param {number} events @param {number} size */
  #maySend(events, size) {
    if (this.options.whenFull === "drop-oldest") return true;
    if (this.#log.keptBytes && this.#log.keptBytes + size > this.#mostKept) return false;
    const bytes = this.#log.totals.bytes - this.#acked.bytes;
    const fits = this.unackedEvents + events <= this.windowEvents && bytes + size <= this.opened.window_bytes;
    return fits || (this.unackedEvents === 0 && bytes <= 0);
  }

  /** @param {any} message @param {number} [events] */
  #append(message, events) {
    this.#log.append(message, events);
    this.#pump();
  }

  /** @param {"flush" | "reset"} type @returns {Promise<any>} */
  async #ask(type) {
    this.#raise();
    const id = ++this.#requests;
    if (type === "reset") {
      this.#ledger.restart();
      this.#unansweredResets += 1;
    }
    const answered = new Promise((resolve, reject) => void this.#unanswered.set(id, { resolve, reject }));
    this.#append({ type, id });
    return answered;
  }

  /** Send what is unsent, as far as the websocket takes it. */
  #pump() {
    if (this.#suspended && this.#log.needsConnection && !this.#connected) void this.#comeBack(null);
    while (this.#connected) {
      if (this.connection.buffered > BUFFERED_BYTES) return this.#pollBuffer();
      const message = this.#log.takeNext();
      if (!message) return;
      this.connection.send(message);
    }
  }

  #pollBuffer() {
    if (this.#polling) return; // no event tells that a websocket has sent
    this.#polling = true;
    setTimeout(() => {
      this.#polling = false;
      this.#pump();
    }, POLL_MS);
  }

  /** @param {Connection} connection */
  #attach(connection) {
    this.connection = connection;
    this.#connected = true;
    this.#heard = performance.now();
    this.#watching = setInterval(() => this.#watch(connection), WATCH_MS);
    connection.listen(
      (message) => {
        this.#heard = performance.now();
        this.#receive(message);
        this.#changed();
      },
      (lost) => this.#lose(lost),
    );
    this.#pump();
  }

  /** Drop a connection whose server owes an answer and gives no sign of life: one that was stopped closes nothing. @param {Connection} connection */
  #watch(connection) {
    const owed = this.unackedEvents > 0 || this.#unanswered.size > 0 || this.#log.needsConnection;
    const now = performance.now();
    if (!owed || now - this.#watched > 2 * WATCH_MS) this.#heard = now; // or this program itself did not run
    this.#watched = now;
    if (now - this.#heard < SILENCE_MS || this.#asking) return;
    this.#asking = true;
    void connection.hangs(this.url, SIGN_MS).then((hangs) => {
      this.#asking = false;
      if (hangs && connection === this.connection && this.#connected && performance.now() - this.#heard > SILENCE_MS) connection.drop();
    });
  }

  /** @param {ConnectionLost} lost */
  #lose(lost) {
    this.#connected = false;
    clearInterval(this.#watching);
    if (this.ended) return this.#changed();
    const resumable = this.#resumable && (this.options.giveUpS ?? 120) > 0;
    if (!resumable || !COME_BACK.has(lost.closeCode)) this.#fail(lost);
    else if (!this.#suspended || this.#log.needsConnection || this.#unanswered.size) void this.#comeBack(lost);
    this.#changed();
  }

  /** Resume the session after a loss. @param {ConnectionLost | null} lost */
  async #comeBack(lost) {
    if (this.#resuming) return;
    this.#resuming = true;
    this.#suspended = false;
    const attempts = new Attempts(this.options.giveUpS ?? 120, this.options.signal);
    /** @type {unknown} */
    let failure = lost;
    try {
      for (;;) {
        if (failure) this.#emit("reconnecting", { error: failure });
        if (failure) await attempts.wait(failure, true, this.#goaway?.reconnect_after_ms);
        this.#goaway = null;
        if (this.ended) return;
        try {
          return this.#resume(await open(this.finder, { ...this.opening, resume: this.opened.resume }));
        } catch (error) {
          failure = error;
        }
      }
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#resuming = false;
      this.#changed();
    }
  }

  /** @param {Found} found */
  #resume({ connection, opened, url }) {
    if (this.ended) return connection.close(1000);
    this.url = baseOf(url);
    this.stats.reconnects += 1;
    this.opened = { ...this.opened, replica: opened.replica };
    this.#reported = opened.results ?? null;
    this.#log.rewind(opened.seq);
    this.#acked = { seq: opened.seq, events: 0, bytes: 0 };
    this.#resetsAgain = new Set(this.#log.unsentResets().filter((id) => !this.#unanswered.has(id)));
    this.#attach(connection);
    this.#emit("reconnected", opened);
  }

  /** @param {unknown} failure */
  #fail(failure) {
    if (this.ended) return;
    this.failure = failure;
    this.#end("failed", failure);
  }

  /** @param {"closed" | "failed"} type @param {unknown} detail */
  #end(type, detail) {
    for (const { reject } of this.#unanswered.values()) reject(this.failure ?? new StreamClosed());
    this.#emit(type, detail);
    this.#changed();
  }

  /** @param {any} message */
  #receive(message) {
    switch (message.type) {
      case "result":
        return this.#receiveResult(message);
      case "ack":
        return this.#receiveAck(message);
      case "flushed":
      case "reset":
        return this.#receiveAnswer(message);
      case "closed":
        this.closed = message;
        return this.#end("closed", message);
      case "goaway":
        this.#goaway = message;
        this.#emit("goaway", message);
        return;
      case "error":
        return this.#receiveError(message);
    }
  }

  /** @param {Result} result */
  #receiveResult(result) {
    const isNew = !this.#resetsAgain.size && result.events > this.#scored; // others are a repetition
    if (isNew) this.#count(result);
    this.#countLost();
    if (!isNew) return;
    if (this.#iterated || !this.#listeners.get("result")?.size) this.#results.push(result);
    if (this.#results.length > RESULTS_KEPT) {
      this.#results.shift();
      this.stats.skippedResults += 1;
    }
    this.#emit("result", result);
  }

  /** @param {Result} result */
  #count(result) {
    this.#scored = result.events;
    this.#engineFailures = 0;
    this.stats.results += 1;
    this.stats.supersededResults += result.superseded ?? 0;
    if (this.#unansweredResets || this.options.fit === "crop") return; // the server counts other events than were sent
    const latencyMs = this.#ledger.latencyMs(result.events + (result.dropped ?? 0));
    if (latencyMs !== null) this.stats.latenciesMs.push(latencyMs);
    if (this.stats.latenciesMs.length > LATENCIES_KEPT) this.stats.latenciesMs.shift();
  }

  /** Count the results that no connection has brought: the first after a return is the newest that was reported. */
  #countLost() {
    if (this.#reported === null) return;
    const { results, supersededResults, lostResults } = this.stats;
    this.stats.lostResults += Math.max(0, this.#reported - results - supersededResults - lostResults);
    this.#reported = null;
  }

  /** @param {any} ack */
  #receiveAck(ack) {
    const { seq, events, bytes } = this.#acked;
    this.#acked = { seq: Math.max(seq, ack.seq), events: Math.max(events, ack.events), bytes: Math.max(bytes, ack.bytes) };
    this.stats.ackedEvents = Math.max(this.stats.ackedEvents, ack.events);
    if (ack.resume && this.opened.resume === null) {
      this.opened = { ...this.opened, resume: ack.resume };
      this.#log.keep();
    }
    this.#log.discardDurable(ack.durable_seq);
    this.stats.lagMs = ack.lag_ms ?? null;
    this.stats.windowEvents = ack.window_events ?? null;
    if (ack.window_events) this.windowEvents = ack.window_events;
    this.stats.droppedLocally = this.#log.droppedEvents;
    this.stats.droppedEvents = (ack.dropped ?? 0) + this.#log.droppedEvents;
    this.stats.skippedEvents = ack.skipped ?? 0;
    this.#emit("ack", ack);
  }

  /** @param {any} answer */
  #receiveAnswer(answer) {
    if (answer.type === "flushed") this.#log.discardFlush(answer.id);
    else this.#resetsAgain.delete(answer.id);
    const asked = this.#unanswered.get(answer.id);
    if (!asked) return; // a repetition
    this.#unanswered.delete(answer.id);
    if (answer.type === "reset") {
      this.#scored = 0;
      this.#unansweredResets -= 1;
    }
    asked.resolve(answer);
  }

  /** @param {any} error */
  #receiveError(error) {
    if (this.#resumable) {
      if (error.code === "session_idle") return void (this.#suspended = true);
      if (error.code === "internal_error" && error.fatal) return;
      if (error.code === "engine_failed" && ++this.#engineFailures <= MOST_ENGINE_FAILURES) return;
    }
    const refusal = streamError(error);
    if (error.fatal) return this.#fail(refusal);
    if (error.seq !== undefined && error.seq <= this.#refused) return; // a repetition
    this.#refused = error.seq ?? this.#refused;
    this.stats.refusedFrames += 1;
    this.stats.refusedEvents += this.#ledger.discard(error.seq);
    this.stats.firstRefusal ??= refusal.message;
    if (this.#listeners.get("error")?.size) this.#emit("error", refusal);
    else this.#refusals.push(refusal);
  }
}
