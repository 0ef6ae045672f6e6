/** Files of events, read whole: bytes in, columns out. */

import { readCsv, readNpy } from "./tables.js";

/** @typedef {import("../sources/source.js").Events} Events */
/** @typedef {{width: number, height: number}} Sensor */
/** @typedef {{events: Events, sensor: Sensor, format: string}} Recording */

/** The file is none that this page reads, or is damaged; the message says what to do. */
export class UnreadableFile extends Error {
  name = "UnreadableFile";
}

/** The file may be sound, and this page does not read its like; the server may. */
export class UnsupportedFormat extends UnreadableFile {
  name = "UnsupportedFormat";
}

const FORMATS = "Prophesee RAW (EVT2, EVT3) and DAT, N-MNIST, ES, CSV and NPY";
const COMMON_SENSORS = [[34, 34], [128, 128], [240, 180], [304, 240], [320, 240], [346, 260], [640, 480], [1280, 720]];

/** Columns that grow. */
export class Columns {
  #size = 0;
  t = new Float64Array(1 << 14);
  x = new Uint16Array(1 << 14);
  y = new Uint16Array(1 << 14);
  p = new Uint8Array(1 << 14);

  /** @param {number} t @param {number} x @param {number} y @param {number} p */
  push(t, x, y, p) {
    if (this.#size === this.t.length) this.#grow();
    const i = this.#size++;
    [this.t[i], this.x[i], this.y[i], this.p[i]] = [t, x, y, p];
  }

  #grow() {
    const { t, x, y, p } = this;
    const size = 2 * t.length;
    [this.t, this.x, this.y, this.p] = [new Float64Array(size), new Uint16Array(size), new Uint16Array(size), new Uint8Array(size)];
    this.t.set(t), this.x.set(x), this.y.set(y), this.p.set(p);
  }

  /** @returns {Events} */
  get events() {
    const n = this.#size;
    return { t: this.t.subarray(0, n), x: this.x.subarray(0, n), y: this.y.subarray(0, n), p: this.p.subarray(0, n) };
  }
}

/** Makes a register of so many bits count on, forwards and back. */
class Unwrapper {
  #epoch = 0;
  #newest = 0;

  /** @param {number} bits */
  constructor(bits) {
    this.range = 2 ** bits;
  }

  /** @param {number} value */
  unwrap(value) {
    if (value < this.#newest - this.range / 2) this.#epoch += this.range;
    this.#newest = value;
    return this.#epoch + value;
  }
}

/**
 * Read a file of events; time begins at 0.
 *
 * @param {string} name  its suffix tells the format
 * @param {ArrayBuffer} buffer
 * @returns {Recording}
 * @throws {UnreadableFile} It is of another format, or damaged.
 */
export function readEvents(name, buffer) {
  const suffix = name.toLowerCase().split(".").pop() ?? "";
  const reader = READERS[suffix];
  if (!reader) throw new UnsupportedFormat(`This page plays ${FORMATS}; ${name} is of another format.`);
  const bytes = new Uint8Array(buffer);
  let found;
  try {
    found = reader(bytes, new DataView(buffer));
  } catch (error) {
    if (error instanceof UnreadableFile) throw error;
    throw new UnreadableFile(`${name} cannot be read: ${/** @type {Error} */ (error).message}`);
  }
  if (!found.events.t.length) throw new UnreadableFile(`${name} holds no events.`);
  const first = found.events.t[0];
  for (let i = 0; i < found.events.t.length; i++) found.events.t[i] -= first;
  return { sensor: found.sensor ?? sensorOf(found.events), events: found.events, format: found.format };
}

/** @typedef {{events: Events, sensor?: Sensor, format: string}} Found */

/** @type {Record<string, (bytes: Uint8Array, view: DataView) => Found>} */
const READERS = {
  bin: readNmnist,
  raw: readRaw,
  dat: readDat,
  es: readEs,
  npy: (bytes, view) => ({ events: readNpy(bytes, view), format: "NPY" }),
  csv: (bytes) => ({ events: readCsv(new TextDecoder().decode(bytes)), format: "CSV" }),
  txt: (bytes) => ({ events: readCsv(new TextDecoder().decode(bytes)), format: "table" }),
};

/** Return the smallest common sensor that holds all events. @param {Events} events */
function sensorOf({ x, y }) {
  let [right, bottom] = [0, 0];
  for (let i = 0; i < x.length; i++) {
    right = Math.max(right, x[i]);
    bottom = Math.max(bottom, y[i]);
  }
  const [width, height] = COMMON_SENSORS.find(([w, h]) => right < w && bottom < h) ?? [right + 1, bottom + 1];
  return { width, height };
}

/** @param {Uint8Array} bytes @returns {Found} */
function readNmnist(bytes) {
  const columns = new Columns();
  let late = 0;
  for (let at = 0; at + 5 <= bytes.length; at += 5) {
    const [x, y, high, middle, low] = bytes.subarray(at, at + 5);
    if (y === 240) late += 1 << 13; // the sensor's clock ran over
    else columns.push((((high & 0x7f) << 16) | (middle << 8) | low) + late, x, y, high >> 7);
  }
  return { events: columns.events, format: "N-MNIST" };
}

/** Read a Prophesee header. @param {Uint8Array} bytes @returns {{header: Record<string, string>, begin: number}} */
function readHeader(bytes) {
  /** @type {Record<string, string>} */
  const header = {};
  let at = 0;
  while (bytes[at] === 0x25 && bytes[at + 1] === 0x20) {
    const end = bytes.indexOf(10, at);
    if (end < 0) break;
    const [, key, value = ""] = /^% (\S*) ?(.*)$/.exec(new TextDecoder("latin1").decode(bytes.subarray(at, end)).trimEnd()) ?? [];
    at = end + 1;
    if (key?.toLowerCase() === "end") break;
    if (key) header[key.toLowerCase()] = value.trim();
  }
  return { header, begin: at };
}

/** @param {Uint8Array} bytes @param {DataView} view @returns {Found} */
function readRaw(bytes, view) {
  const { header, begin } = readHeader(bytes);
  const name = header.evt ?? header.format?.split(";")[0] ?? "";
  const version = name.toUpperCase().replace("EVT", "").replace(/\.0$/, "");
  const read = { 2: readEvt2, 3: readEvt3 }[version];
  if (!read) throw new UnsupportedFormat(`Its encoding is ${name || "not named in its header"}; this page reads EVT2 and EVT3.`);
  const geometry = /(\d+)x(\d+)/.exec(header.geometry ?? "") ?? /width=(\d+);height=(\d+)/.exec(widthFirst(header.format ?? ""));
  const sensor = geometry ? { width: Number(geometry[1]), height: Number(geometry[2]) } : undefined;
  return { events: read(view, begin), sensor, format: `EVT${version}` };
}

/** @param {string} format  as EVT3;height=720;width=1280 */
function widthFirst(format) {
  return `width=${/width=(\d+)/.exec(format)?.[1]};height=${/height=(\d+)/.exec(format)?.[1]}`;
}

/** @param {DataView} view @param {number} begin @returns {Events} */
function readEvt2(view, begin) {
  const columns = new Columns();
  const clock = new Unwrapper(34);
  let high = -1;
  for (let at = begin; at + 4 <= view.byteLength; at += 4) {
    const word = view.getUint32(at, true);
    const kind = word >>> 28;
    if (kind === 8) high = clock.unwrap((word & 0xfffffff) * 64);
    else if (kind < 2 && high >= 0) columns.push(high + ((word >>> 22) & 63), (word >>> 11) & 0x7ff, word & 0x7ff, kind);
  }
  return columns.events;
}

/** @param {DataView} view @param {number} begin @returns {Events} */
function readEvt3(view, begin) {
  const columns = new Columns();
  const clock = new Unwrapper(24);
  let [high, low, t, y, x, p] = [-1, 0, 0, -1, 0, 0];
  /** @param {number} bits @param {number} count */
  const vector = (bits, count) => {
    for (let i = 0; i < count; i++) if ((bits >> i) & 1) columns.push(t, x + i, y, p);
    x += count;
  };
  for (let at = begin; at + 2 <= view.byteLength; at += 2) {
    const word = view.getUint16(at, true);
    const kind = word >> 12;
    const known = high >= 0 && y >= 0;
    if (kind === 0) y = word & 0x7ff;
    else if (kind === 2 && known) columns.push(t, word & 0x7ff, y, (word >> 11) & 1);
    else if (kind === 3) [x, p] = [word & 0x7ff, (word >> 11) & 1];
    else if (kind === 4 && known) vector(word & 0xfff, 12);
    else if (kind === 5 && known) vector(word & 0xff, 8);
    else if (kind === 6) low = word & 0xfff;
    else if (kind === 8) {
      if ((word & 0xfff) !== high) low = 0;
      high = word & 0xfff;
    }
    if ((kind === 6 || kind === 8) && high >= 0) t = clock.unwrap(high * 4096 + low);
  }
  return columns.events;
}

/** @param {Uint8Array} bytes @param {DataView} view @returns {Found} */
function readDat(bytes, view) {
  const { header, begin } = readHeader(bytes);
  const [kind, size] = [bytes[begin], bytes[begin + 1]];
  if (![0, 12].includes(kind) || size !== 8) throw new UnsupportedFormat(`Its events are of type ${kind} and ${size} bytes, not CD of 8.`);
  let most = 0;
  for (let at = begin + 2; at + 8 <= bytes.length; at += 8) most = Math.max(most, view.getUint32(at + 4, true));
  const version = header.version ?? (most / 2 ** 17 > 1.999 ? "2" : "1");
  const [xBits, yBits] = version === "1" ? [9, 8] : [14, 14];
  const columns = new Columns();
  const clock = new Unwrapper(32);
  for (let at = begin + 2; at + 8 <= bytes.length; at += 8) {
    const pixel = view.getUint32(at + 4, true);
    columns.push(clock.unwrap(view.getUint32(at, true)), pixel & (2 ** xBits - 1), (pixel >>> xBits) & (2 ** yBits - 1), (pixel >>> (xBits + yBits)) & 1);
  }
  const sensor = header.width && header.height ? { width: Number(header.width), height: Number(header.height) } : undefined;
  return { events: columns.events, sensor, format: `DAT ${version}` };
}

const ES_DVS = 1;
const ES_OVERFLOW = 0x7f;

/** @param {Uint8Array} bytes @param {DataView} view @returns {Found} */
function readEs(bytes, view) {
  const begin = 16;
  if (new TextDecoder("latin1").decode(bytes.subarray(0, 12)) !== "Event Stream") throw new UnreadableFile("It does not begin as an Event Stream.");
  if (bytes[12] !== 2 || bytes[15] !== ES_DVS) throw new UnsupportedFormat(`It is an Event Stream ${bytes[12]} of type ${bytes[15]}; this page reads version 2 of type DVS.`);
  const sensor = { width: view.getUint16(begin, true), height: view.getUint16(begin + 2, true) };
  const columns = new Columns();
  let t = 0;
  for (let at = begin + 4; at < bytes.length; ) {
    const step = bytes[at] >> 1;
    if (step === ES_OVERFLOW) {
      t += ES_OVERFLOW;
      at += 1;
      continue;
    }
    if (at + 5 > bytes.length) break;
    t += step;
    columns.push(t, view.getUint16(at + 1, true), sensor.height - 1 - view.getUint16(at + 3, true), bytes[at] & 1);
    at += 5;
  }
  return { events: columns.events, sensor, format: "ES" };
}
