/** What a session has sent and may have to send again, and its credit at the server. */

/**
 * A message of the log, with the totals of the frames up to it.
 *
 * @typedef {object} Entry
 * @property {any} message
 * @property {number} seq  the newest frame so far
 * @property {number} events  of all frames so far
 * @property {number} bytes  of all frames so far
 * @property {number} own  events of this frame
 */

/**
 * The outgoing messages of one session, in order: sent ones, then unsent ones.
 *
 * Where the session can be resumed, a message stays after it was sent: until a later frame
 * is durable, or a flush is answered.
 */
export class SendLog {
  /** @type {Entry[]} */ #sent = [];
  /** @type {Entry[]} */ #unsent = [];
  /** @type {Entry} */ #newest;
  /** @type {Entry} */ #discarded;
  #resumable;
  /** The newest frame that was sent and not kept, until it is durable; 0: none. */ #unkept = 0;
  keptBytes = 0;
  droppedEvents = 0;

  /** @param {boolean} resumable @param {number} seq  of the newest frame that the server has */
  constructor(resumable, seq) {
    this.#resumable = resumable;
    this.#newest = this.#discarded = { message: { type: "reset" }, seq, events: 0, bytes: 0, own: 0 };
  }

  get seq() {
    return this.#newest.seq;
  }

  /** Whether a message is unsent, or the session is to be closed. */
  get needsConnection() {
    return this.#unsent.length > 0 || this.#newest.message.type === "close";
  }

  /** Add a message; a frame gets its number. @param {any} message @param {number} [events]  in the frame */
  append(message, events = 0) {
    const before = this.#newest;
    const size = sizeOf(message);
    const seq = before.seq + Number(message.type === "events");
    if (message.type === "events") message = { type: "events", seq, t_base_us: message.t_base_us, data: message.data };
    this.#newest = { message, seq, events: before.events + events, bytes: before.bytes + size, own: events };
    this.#unsent.push(this.#newest);
    this.keptBytes += size;
  }

  /** Count a message as sent and return it; null: there is none. */
  takeNext() {
    const entry = this.#unsent.shift();
    if (!entry) return null;
    if (this.#resumable || entry.message.type !== "events") this.#sent.push(entry);
    else {
      this.#sent = [];
      this.#discarded = entry;
      this.#unkept = entry.seq;
      this.keptBytes -= sizeOf(entry.message);
    }
    return entry.message;
  }

  /** Keep what is sent from now on: the session can be resumed, once all before is durable. */
  keep() {
    this.#resumable = true;
  }

  /** Whether the log has all that the server may lose. */
  get complete() {
    return this.#resumable && this.#unkept === 0;
  }

  /** Remove what cannot be lost once a frame is durable. @param {number} seq  a reset or flush right after it stays */
  discardDurable(seq) {
    if (seq >= this.#unkept) this.#unkept = 0;
    let count = 0;
    for (const { message, seq: own } of this.#sent) {
      if (message.type === "events" ? own > seq : own >= seq) break;
      this.keptBytes -= sizeOf(message);
      this.#discarded = this.#sent[count++];
    }
    this.#sent.splice(0, count);
  }

  /** Remove a flush that was answered. @param {number} id */
  discardFlush(id) {
    const place = this.#sent.findIndex(({ message }) => message.type === "flush" && message.id === id);
    if (place >= 0) this.#sent.splice(place, 1);
  }

  /** Drop the oldest events until so many bytes are kept; their frames go out empty. @param {number} mostBytes */
  dropPayloads(mostBytes) {
    for (const entries of [this.#sent, this.#unsent]) {
      for (const entry of entries) {
        if (this.keptBytes <= mostBytes) return;
        const size = sizeOf(entry.message);
        if (!size) continue;
        this.keptBytes -= size;
        entry.message = { ...entry.message, t_base_us: 0, data: new Uint8Array() };
        if (entries === this.#unsent) this.droppedEvents += entry.own;
      }
    }
  }

  /** Make everything after a frame unsent again. @param {number} seq @returns {Credit}  what the server has and what waits, as credit counts it */
  rewind(seq) {
    this.discardDurable(seq);
    for (const { message, own } of this.#sent) if (message.type === "events" && own && !sizeOf(message)) this.droppedEvents += own;
    this.#unsent = [...this.#sent, ...this.#unsent];
    this.#sent = [];
    return { events: this.#newest.events, bytes: this.#newest.bytes };
  }

  /** Ids of the resets that are to be sent. */
  unsentResets() {
    return this.#unsent.filter(({ message }) => message.type === "reset").map(({ message }) => message.id);
  }

  /** Events and bytes of all frames so far. @returns {Credit} */
  get totals() {
    return { events: this.#newest.events, bytes: this.#newest.bytes };
  }
}

/** @typedef {{events: number, bytes: number}} Credit */

/** @param {any} message */
function sizeOf(message) {
  return message.type === "events" ? message.data.length : 0;
}
