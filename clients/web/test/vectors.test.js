/** Every byte of docs/protocol.md, and this codec beside another. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { decode as theirDecode, encode as theirEncode } from "@msgpack/msgpack";
import { BY_CODE, SaccadeError, StreamError, streamError } from "../errors.js";
import { largestFrame, pack } from "../events.js";
import { decode, encode } from "../msgpack.js";
import { unpacked } from "../watch.js";

const PAGE = readFileSync(new URL("../../../docs/protocol.md", import.meta.url), "utf8");
const JSONS = new Map([...PAGE.matchAll(/```json title="([\w-]+)"\n(.*?)\n```/gs)].map((m) => [m[1], m[2]]));
const DUMPS = [...PAGE.matchAll(/```hex title="([\w-]+)"\n(.*?)\n```/gs)];

/** @param {string} dump */
function bytesOf(dump) {
  const digits = dump.split("\n").flatMap((line) => line.slice(6, 54).trim().split(/\s+/));
  return Uint8Array.from(digits.map((pair) => parseInt(pair, 16)));
}

/** @param {unknown} value */
function jsonOf(value) {
  return JSON.stringify(value, (_, each) => (each instanceof Uint8Array ? Buffer.from(each).toString("base64") : each));
}

test("the page has vectors", () => assert.ok(DUMPS.length >= 19));

for (const [, name, dump] of DUMPS) {
  test(`the bytes of ${name} are read, and written again`, () => {
    const value = decode(bytesOf(dump));
    assert.equal(jsonOf(value), jsonOf(JSON.parse(JSONS.get(name) ?? "")));
    assert.deepEqual(encode(value), bytesOf(dump));
  });
}

test("every documented error code has a class of its own", () => {
  const codes = [...PAGE.matchAll(/^\| `(\w+)` \| \d{4} \|/gm)].map((match) => match[1]);
  assert.deepEqual(new Set(Object.keys(BY_CODE)), new Set(codes));
  assert.equal(new Set(Object.values(BY_CODE)).size, codes.length);
  for (const code of codes) {
    const error = streamError({ code, message: "why", fatal: true, seq: 3 });
    assert.ok(error instanceof BY_CODE[code] && error instanceof SaccadeError);
    assert.deepEqual([error.code, error.fatal, error.seq, error.name], [code, true, 3, BY_CODE[code].name]);
  }
  assert.equal(streamError({ code: "of_tomorrow", message: "", fatal: false }).constructor, StreamError);
});

const NUMBERS = [0, 127, 128, 255, 256, 65535, 65536, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n];
const NEGATIVE = [-1, -32, -33, -128, -129, -32768, -32769, -(2 ** 31), -(2 ** 31) - 1, -(2n ** 63n)];
const TEXTS = ["", "é", "x".repeat(31), "x".repeat(32), "é".repeat(200), "x".repeat(70000)];

/** @param {number} depth @returns {any} */
function anything(depth) {
  /** @param {any[]} list */
  const pick = (list) => list[Math.floor(Math.random() * list.length)];
  const leaf = () => pick([null, true, false, 0.5, Math.random() * 1e9, pick(NUMBERS), pick(NEGATIVE), pick(TEXTS), new Uint8Array(pick([0, 5, 300, 70000]))]);
  if (depth === 0 || Math.random() < 0.3) return leaf();
  const length = pick([0, 1, 15, 16, 17]);
  if (Math.random() < 0.5) return Array.from({ length }, () => anything(depth - 1));
  return Object.fromEntries(Array.from({ length }, (_, i) => [`key ${i}`, anything(depth - 1)]));
}

test("what this codec writes, another reads, and the other way round", () => {
  for (let i = 0; i < 200; i++) {
    const value = anything(2);
    assert.deepEqual(plain(theirDecode(encode(value), { useBigInt64: true })), plain(value));
    assert.deepEqual(plain(decode(theirEncode(value, { useBigInt64: true }))), plain(value));
  }
});

/** Numbers by value, not by type. @param {any} value @returns {any} */
function plain(value) {
  if (typeof value === "bigint" || Number.isSafeInteger(value)) return `${value}`;
  if (Array.isArray(value)) return value.map(plain);
  if (value instanceof Uint8Array || value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, plain(each)]));
}

test("damaged messages are errors, and never more", () => {
  for (let i = 0; i < 2000; i++) {
    const bytes = encode({ type: "result", logits: [0.5, 1], label: "é", data: new Uint8Array(20) });
    bytes[Math.floor(Math.random() * bytes.length)] = Math.floor(Math.random() * 256);
    const cut = bytes.subarray(0, Math.random() < 0.5 ? bytes.length : Math.floor(Math.random() * bytes.length));
    try {
      decode(cut);
    } catch (error) {
      assert.ok(error instanceof RangeError || error instanceof TypeError);
    }
  }
});

test("events are packed as the page packs them, and are read again", () => {
  const columns = { t: [1000, 1010, 1010], x: [10, 33, 5], y: [20, 0, 6], p: [1, 0, 1] };
  const [frame] = pack(columns, 10);
  assert.equal(Buffer.from(frame.data).toString("base64"), JSON.parse(JSONS.get("events") ?? "").data);
  const { t, x, y, p } = unpacked({ t_base_us: frame.tBaseUs, data: frame.data });
  assert.deepEqual([[...t], [...x], [...y], [...p]], [columns.t, columns.x, columns.y, columns.p]);
});

test("timestamps of 2^60 µs are exact, and a frame spans less than 2^32 µs", () => {
  const t = BigInt64Array.from([2n ** 60n, 2n ** 60n + 5n, 2n ** 60n + 2n ** 33n]);
  const frames = pack({ t, x: [1, 2, 3], y: [0, 0, 0], p: [1, 1, 0] }, 10);
  assert.deepEqual(frames.map((frame) => [frame.tBaseUs, frame.events]), [[2n ** 60n, 2], [2n ** 60n + 2n ** 33n, 1]]);
});

test("events that no record can hold are refused before anything is sent", () => {
  const good = { t: [1], x: [1], y: [1], p: [1] };
  const wrong = [{ x: [65536] }, { y: [-1] }, { p: [2] }, { t: [0.5] }, { t: [-1] }, { x: [1, 2] }, { x: undefined }];
  for (const one of wrong) assert.throws(() => pack(/** @type {any} */ ({ ...good, ...one }), 10), { name: "EventsError" });
  assert.ok(largestFrame({ window_events: 8, window_bytes: 64, max_frame_bytes: 1024 }) >= 1);
});
