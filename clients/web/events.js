/** Events as packed records, cut into frames that one `events` message can hold. */

import { EventsError } from "./errors.js";

const RECORD_BYTES = 8;
const OFFSET_LIMIT_US = 2 ** 32;
const RAW_FRAME_BYTES = 1 << 16;

/**
 * Columns of one length: `t` in µs, in time order; `p` is 1 for brighter, 0 for darker.
 * Numbers of `t` are exact up to 2^53; a BigInt64Array beyond.
 * @typedef {{t: ArrayLike<number> | ArrayLike<bigint>, x: ArrayLike<number>, y: ArrayLike<number>, p: ArrayLike<number | boolean>}} Events
 */

/** The content of one `events` message, without its `seq`; raw words count 0 events. @typedef {{tBaseUs: number | bigint, data: Uint8Array<ArrayBuffer>, events: number}} Payload */

/** Return how many events a frame may hold under the server's limits. @param {{window_events: number, window_bytes: number, max_frame_bytes: number}} opened */
export function largestFrame(opened) {
  const window = Math.min(opened.window_events, opened.window_bytes / RECORD_BYTES);
  return Math.max(1, Math.floor(Math.min(window / 4, (opened.max_frame_bytes - 128) / RECORD_BYTES)));
}

/** Cut a camera's own words into payloads. @param {Uint8Array} data @returns {Generator<Payload>} */
export function* splitRaw(data) {
  for (let at = 0; at < data.length; at += RAW_FRAME_BYTES) {
    yield { tBaseUs: 0, data: new Uint8Array(data.slice(at, at + RAW_FRAME_BYTES)), events: 0 };
  }
}

/**
 * Cut events into payloads of at most `largest` events that 32-bit offsets can span.
 *
 * @param {Events} events
 * @param {number} largest
 * @returns {Payload[]}
 * @throws {EventsError} A column is missing or shorter, or no record can hold a value.
 */
export function pack(events, largest) {
  check(events);
  const payloads = [];
  for (let start = 0; start < events.t.length; ) {
    const { stop, base } = span(events.t, start, Math.min(events.t.length, start + largest));
    payloads.push({ tBaseUs: base, data: records(events, start, stop, base), events: stop - start });
    start = stop;
  }
  return payloads;
}

/** @param {Events} events */
function check({ t, x, y, p }) {
  for (const [name, column, limit] of /** @type {[string, ArrayLike<number | boolean>, number][]} */ ([
    ["x", x, 65536],
    ["y", y, 32768],
    ["p", p, 2],
  ])) {
    if (column?.length === undefined || column.length !== t?.length) {
      throw new EventsError(`events need t, x, y and p of one length; ${name} has another`);
    }
    for (let i = 0; i < column.length; i++) {
      const value = Number(column[i]);
      if (!(value >= 0 && value < limit && Number.isInteger(value))) {
        throw new EventsError(`event ${i}: no record can hold ${name} = ${value}`);
      }
    }
  }
  for (let i = 0; i < t.length; i++) {
    const time = t[i];
    if (time < 0 || (typeof time === "number" && !Number.isSafeInteger(time))) {
      throw new EventsError(`event ${i}: t = ${time} is no whole number of µs from 0 on`);
    }
  }
}

/** Return where a frame that begins at `start` ends, and its earliest time. @param {Events["t"]} t @param {number} start @param {number} stop */
function span(t, start, stop) {
  let low = t[start];
  let high = low;
  for (let i = start; i < stop; i++) {
    const newLow = t[i] < low ? t[i] : low;
    const newHigh = t[i] > high ? t[i] : high;
    if (Number(newHigh) - Number(newLow) >= OFFSET_LIMIT_US) return { stop: i, base: low };
    (low = newLow), (high = newHigh);
  }
  return { stop, base: low };
}

/** @param {Events} events @param {number} start @param {number} stop @param {number | bigint} base */
function records({ t, x, y, p }, start, stop, base) {
  const bytes = new Uint8Array((stop - start) * RECORD_BYTES);
  const view = new DataView(bytes.buffer);
  for (let i = start, at = 0; i < stop; i++, at += RECORD_BYTES) {
    const time = t[i];
    const offset = typeof time === "bigint" ? Number(time - BigInt(base)) : time - Number(base);
    view.setUint32(at, offset, true);
    view.setUint16(at + 4, x[i], true);
    view.setUint16(at + 6, (Number(p[i]) << 15) | y[i], true);
  }
  return bytes;
}
