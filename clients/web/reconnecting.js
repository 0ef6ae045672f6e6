/** Opening a session, and when to try again: both at first and after a loss. */

import { dial } from "./connection.js";
import { ConnectionLost, ServerUnavailable, ServerUnreachable, StreamError, streamError } from "./errors.js";

/** @typedef {import("./placement.js").Finder} Finder */
/** @typedef {import("./connection.js").Connection} Connection */
/** @typedef {import("./messages.js").Opened} Opened */

const TEMPORARY = new Set(["not_ready", "slots_exhausted", "rate_exceeded"]);
const CUT_OFF = new Set([1000, 1005, 1006, 1011, 1014]);
const FIRST_WAIT_MS = 100;
const LONGEST_WAIT_MS = 5000;

/**
 * Find the session's server, dial it, and open or resume the session.
 *
 * @param {Finder} finder @param {any} opening
 * @returns {Promise<{connection: Connection, opened: Opened, url: string | URL}>}
 */
export async function open(finder, opening) {
  const { url, placed } = await finder.find();
  let connection;
  try {
    connection = await dial(url, placed ? "v1/stream?placed=true" : "v1/stream", finder.access);
  } catch (error) {
    if (placed) finder.failed(url);
    if (placed && error instanceof ServerUnreachable) throw new ServerUnavailable(error.message, 0);
    throw error;
  }
  connection.send(opening);
  let opened;
  do opened = await connection.next();
  while (opened.type !== "opened" && opened.type !== "error");
  if (opened.type === "opened") return { connection, opened, url };
  connection.close();
  throw streamError(opened);
}

/** The attempts to open a session, or to resume it after one loss. */
export class Attempts {
  #bound = FIRST_WAIT_MS;
  #count = 0;
  #giveUpAt = 0;

  /** @param {number} giveUpS @param {AbortSignal | undefined} signal */
  constructor(giveUpS, signal) {
    this.giveUpS = giveUpS;
    this.signal = signal;
  }

  /**
   * Wait until the next attempt is due; throw the failure where it cannot pass.
   *
   * @param {unknown} failure @param {boolean} resuming @param {number} [atLeastMs]
   */
  async wait(failure, resuming, atLeastMs = 0) {
    this.signal?.throwIfAborted();
    if (!mayPass(failure, resuming)) throw failure;
    const now = performance.now();
    this.#giveUpAt ||= now + 1000 * this.giveUpS;
    const asked = failure instanceof ServerUnavailable ? failure.retryAfterMs : 0;
    const wait = Math.max(atLeastMs, asked) + this.#bound * (this.#count++ ? 0.5 + Math.random() / 2 : Math.random());
    this.#bound = Math.min(2 * this.#bound, LONGEST_WAIT_MS);
    if (now + wait > this.#giveUpAt) throw failure;
    await new Promise((resolve) => setTimeout(resolve, wait));
    this.signal?.throwIfAborted();
    return this.#count;
  }
}

/** Return whether a later attempt may succeed. @param {unknown} failure @param {boolean} resuming */
function mayPass(failure, resuming) {
  if (failure instanceof StreamError) return TEMPORARY.has(failure.code) || (resuming && failure.code === "too_many_sessions");
  if (failure instanceof ConnectionLost) return resuming || CUT_OFF.has(failure.closeCode);
  return failure instanceof ServerUnavailable || (resuming && failure instanceof ServerUnreachable);
}
