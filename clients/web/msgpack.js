/**
 * A codec of the msgpack that the protocol uses: maps with string keys, arrays, strings,
 * bytes, numbers, booleans and null; no extension types. Integers beyond 2^53 are `bigint`.
 */

/** @typedef {any} Value  null, a boolean, a number, a bigint, a string, a Uint8Array, or an array or map of these */

const ENCODER = new TextEncoder();
const DECODER = new TextDecoder("utf-8", { fatal: true });
const DEEPEST = 64;

/** Bytes that grow as values are written. */
class Writer {
  bytes = new Uint8Array(256);
  view = new DataView(this.bytes.buffer);
  length = 0;

  /** Reserve bytes, and return where they begin. @param {number} count */
  reserve(count) {
    const at = this.length;
    this.length += count;
    if (this.length > this.bytes.length) {
      const grown = new Uint8Array(Math.max(this.length, 2 * this.bytes.length));
      grown.set(this.bytes.subarray(0, at));
      [this.bytes, this.view] = [grown, new DataView(grown.buffer)];
    }
    return at;
  }

  /** Write a tag and an unsigned integer. @param {number} tag @param {0 | 1 | 2 | 4 | 8} width @param {number | bigint} value */
  tagged(tag, width, value = 0) {
    const at = this.reserve(1 + width);
    this.view.setUint8(at, tag);
    if (width === 1) this.view.setUint8(at + 1, Number(value));
    if (width === 2) this.view.setUint16(at + 1, Number(value));
    if (width === 4) this.view.setUint32(at + 1, Number(value));
    if (width === 8) this.view.setBigUint64(at + 1, BigInt.asUintN(64, BigInt(value)));
  }

  /** Write the head of a string, bytes, an array or a map. @param {number} count @param {number} fixed @param {number} below @param {number[]} tags  for 1, 2 and 4 bytes; 0: there is none */
  head(count, fixed, below, [one, two, four]) {
    if (count < below) this.tagged(fixed | count, 0);
    else if (one && count < 256) this.tagged(one, 1, count);
    else if (count < 65536) this.tagged(two, 2, count);
    else this.tagged(four, 4, count);
  }

  /** Write an integer in its shortest form. @param {number | bigint} value */
  integer(value) {
    const negative = value < 0;
    const size = negative ? -(BigInt(value) + 1n) : BigInt(value);
    if (size < (negative ? 32n : 128n)) return this.tagged(Number(value) & 0xff, 0);
    const widths = negative ? [7, 15, 31, 63] : [8, 16, 32, 64];
    const found = widths.findIndex((bits) => size < 1n << BigInt(bits));
    if (found < 0) throw new RangeError(`${value} does not fit into 64 bits`);
    const width = /** @type {1 | 2 | 4 | 8} */ (1 << found);
    this.tagged((negative ? 0xd0 : 0xcc) + found, width, BigInt.asUintN(64, BigInt(value)) & ((1n << BigInt(8 * width)) - 1n));
  }

  /** Write bytes without a head. @param {Uint8Array} bytes */
  raw(bytes) {
    const at = this.reserve(bytes.length);
    this.bytes.set(bytes, at);
  }

  /** Write any value. @param {Value | undefined} value */
  any(value) {
    if (value === null || value === undefined) this.tagged(0xc0, 0);
    else if (typeof value === "boolean") this.tagged(value ? 0xc3 : 0xc2, 0);
    else if (typeof value === "bigint" || Number.isSafeInteger(value)) this.integer(/** @type {number} */ (value));
    else if (typeof value === "number") {
      this.tagged(0xcb, 8);
      this.view.setFloat64(this.length - 8, value);
    } else if (typeof value === "string") {
      const bytes = ENCODER.encode(value);
      this.head(bytes.length, 0xa0, 32, [0xd9, 0xda, 0xdb]);
      this.raw(bytes);
    } else if (value instanceof Uint8Array) {
      this.head(value.length, 0, 0, [0xc4, 0xc5, 0xc6]);
      this.raw(value);
    } else if (Array.isArray(value)) {
      this.head(value.length, 0x90, 16, [0, 0xdc, 0xdd]);
      for (const each of value) this.any(each);
    } else {
      const entries = Object.entries(value).filter(([, each]) => each !== undefined);
      this.head(entries.length, 0x80, 16, [0, 0xde, 0xdf]);
      for (const entry of entries) entry.forEach((each) => this.any(each));
    }
  }
}

/** Return a value as msgpack; map entries that are undefined are left out. @param {Value} value @returns {Uint8Array<ArrayBuffer>} */
export function encode(value) {
  const writer = new Writer();
  writer.any(value);
  return writer.bytes.slice(0, writer.length);
}

/** Return the value that msgpack holds. @param {ArrayBuffer | Uint8Array} data @returns {any} @throws {RangeError | TypeError} It is cut off, too deep, or no msgpack of the protocol's. */
export function decode(data) {
  const bytes = data instanceof Uint8Array ? data : new Uint8Array(data);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let at = 0;
  /** @param {number} count */
  const take = (count) => {
    at += count;
    if (at > bytes.length) throw new RangeError("the message is cut off");
    return at - count;
  };
  const unsigned = (/** @type {number} */ width) => [view.getUint8, view.getUint16, view.getUint32][width >> 1].call(view, take(width));
  /** @param {number} count @param {number} depth */
  const array = (count, depth) => {
    if (count > bytes.length - at) throw new RangeError("the message is cut off");
    return Array.from({ length: count }, () => any(depth + 1));
  };
  /** @param {number} count @param {number} depth */
  const map = (count, depth) => {
    const values = array(2 * count, depth);
    return Object.fromEntries(Array.from({ length: count }, (_, i) => [String(values[2 * i]), values[2 * i + 1]]));
  };
  const text = (/** @type {number} */ count) => DECODER.decode(bytes.subarray(take(count), at));
  const narrow = (/** @type {bigint} */ long) => (Number.isSafeInteger(Number(long)) ? Number(long) : long);
  /** @param {number} depth @returns {any} */
  const any = (depth) => {
    if (depth > DEEPEST) throw new RangeError("the message is nested too deep");
    const tag = unsigned(1);
    if (tag < 0x80) return tag;
    if (tag < 0x90) return map(tag & 15, depth);
    if (tag < 0xa0) return array(tag & 15, depth);
    if (tag < 0xc0) return text(tag & 31);
    if (tag >= 0xe0) return tag - 256;
    if (tag === 0xc0) return null;
    if (tag === 0xc2 || tag === 0xc3) return tag === 0xc3;
    if (tag >= 0xc4 && tag <= 0xc6) return bytes.slice(take(unsigned(1 << (tag - 0xc4))), at);
    if (tag === 0xca) return view.getFloat32(take(4));
    if (tag === 0xcb) return view.getFloat64(take(8));
    if (tag >= 0xcc && tag <= 0xce) return unsigned(1 << (tag - 0xcc));
    if (tag === 0xcf) return narrow(view.getBigUint64(take(8)));
    if (tag === 0xd3) return narrow(view.getBigInt64(take(8)));
    if (tag >= 0xd0 && tag <= 0xd2) return [view.getInt8, view.getInt16, view.getInt32][tag - 0xd0].call(view, take(1 << (tag - 0xd0)));
    if (tag >= 0xd9 && tag <= 0xdb) return text(unsigned(1 << (tag - 0xd9)));
    if (tag >= 0xdc && tag <= 0xdd) return array(unsigned(2 << (tag - 0xdc)), depth);
    if (tag >= 0xde) return map(unsigned(2 << (tag - 0xde)), depth);
    throw new RangeError(`type 0x${tag.toString(16)} is none of the protocol's`);
  };
  const value = any(0);
  if (at !== bytes.length) throw new RangeError("bytes follow the message");
  return value;
}
