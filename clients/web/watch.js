/** Watching another session: its events, thinned, and its newest scores. */

import { dial } from "./connection.js";

/** @typedef {import("./connection.js").Access} Access */

/**
 * Watch a session; docs/protocol.md explains each message. `events` messages gain typed
 * arrays `t` (µs), `x`, `y` and `p`.
 *
 * @param {string | URL} url  the server's address
 * @param {string} session  its name, as `listSessions` or `overview` has it
 * @param {Access & {maxEventsPerS?: number}} [options]
 * @returns {Promise<AsyncGenerator<any, void, void>>} ends with the watched session, or with `return`
 * @throws {import("./errors.js").SaccadeError} It may not be watched, or no server answers.
 */
export async function watch(url, session, options = {}) {
  const path = `v1/sessions/${encodeURIComponent(session)}/watch`;
  const query = options.maxEventsPerS ? `?max_events_per_s=${options.maxEventsPerS}` : "";
  const connection = await dial(url, path + query, options);
  /** @type {any[]} */
  const messages = [];
  /** @type {unknown} */
  let lost = null;
  let changed = () => {};
  connection.listen(
    (message) => {
      messages.push(message.type === "events" ? unpacked(message) : message);
      changed();
    },
    (error) => {
      lost = error;
      changed();
    },
  );
  return (async function* () {
    try {
      for (;;) {
        const message = messages.shift();
        if (message) {
          yield message;
          if (message.type === "ended") return;
        } else if (lost) throw lost;
        else await new Promise((resolve) => (changed = () => resolve(undefined)));
      }
    } finally {
      connection.close(1000);
    }
  })();
}

/** Return an `events` message with its events as columns. @param {any} message */
export function unpacked(message) {
  const view = new DataView(message.data.buffer, message.data.byteOffset, message.data.length);
  const n = message.data.length / 8;
  const columns = { t: new Float64Array(n), x: new Uint16Array(n), y: new Uint16Array(n), p: new Uint8Array(n) };
  for (let i = 0; i < n; i++) {
    columns.t[i] = Number(message.t_base_us) + view.getUint32(8 * i, true);
    columns.x[i] = view.getUint16(8 * i + 4, true);
    columns.y[i] = view.getUint16(8 * i + 6, true) & 0x7fff;
    columns.p[i] = view.getUint8(8 * i + 7) >> 7;
  }
  return { ...message, ...columns };
}
