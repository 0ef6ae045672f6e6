/** Tables of events: CSV with names, and arrays of NumPy. */

import { Columns, UnreadableFile, UnsupportedFormat } from "./readers.js";

/** @typedef {import("../sources/source.js").Events} Events */

/** @type {Record<string, string[]>} */
const NAMES = {
  t: ["t", "ts", "time", "timestamp", "timestamps", "t_us", "time_us", "timestamp_us"],
  x: ["x", "xs", "x_coordinate"],
  y: ["y", "ys", "y_coordinate"],
  p: ["p", "ps", "pol", "polarity", "polarities", "on"],
};
const DEFAULT_ORDER = ["t", "x", "y", "p"];

/** Return the place of each column. @param {string[]} names */
function placesOf(names) {
  const found = names.map((name) => name.trim().toLowerCase().replace(/["']/g, "").replace(/\s*[[(].*$/, ""));
  const places = Object.values(NAMES).map((known) => found.findIndex((name) => known.includes(name)));
  if (places.includes(-1)) throw new UnsupportedFormat(`Its columns are ${names.join(", ")}; t, x, y and p are needed.`);
  return places;
}

/**
 * Read a table whose first line may name its columns; without names they are t, x, y, p.
 *
 * @param {string} text
 * @returns {Events}
 */
export function readCsv(text) {
  const lines = text.split(/\r?\n/).filter((line) => line.trim());
  const comments = lines.filter((line) => /^[#%]/.test(line));
  const rows = lines.filter((line) => !/^[#%]/.test(line));
  const split = (/** @type {string} */ line) => line.split(/[,;\t ]+/).map((cell) => cell.trim()).filter((cell) => cell !== "");
  let names = rows.length && Number.isNaN(Number(split(rows[0])[0])) ? split(rows.shift() ?? "") : DEFAULT_ORDER;
  const named = comments.map((line) => split(line.slice(1))).find((cells) => cells.some((cell) => NAMES.t.includes(cell.toLowerCase())));
  if (names === DEFAULT_ORDER && named) names = named;
  const [t, x, y, p] = placesOf(names);
  const columns = new Columns();
  const seconds = rows.slice(0, 1000).some((row) => split(row)[t]?.includes("."));
  rows.forEach((row, i) => {
    const cells = split(row);
    const [time, column, line] = [Number(cells[t]), Number(cells[x]), Number(cells[y])];
    if (![time, column, line].every(Number.isFinite)) throw new UnreadableFile(`Row ${i + 1} holds no event: ${row.slice(0, 60)}`);
    columns.push(seconds ? Math.round(1e6 * time) : time, column, line, polarity(cells[p]));
  });
  return columns.events;
}

/** @param {string} cell */
function polarity(cell) {
  return Number(cell) > 0 || /^(true|on)$/i.test(cell) ? 1 : 0;
}

/** @type {Record<string, {size: number, read: (view: DataView, at: number) => number}>} */
const TYPES = {
  b1: { size: 1, read: (view, at) => view.getUint8(at) },
  u1: { size: 1, read: (view, at) => view.getUint8(at) },
  i1: { size: 1, read: (view, at) => view.getInt8(at) },
  u2: { size: 2, read: (view, at) => view.getUint16(at, true) },
  i2: { size: 2, read: (view, at) => view.getInt16(at, true) },
  u4: { size: 4, read: (view, at) => view.getUint32(at, true) },
  i4: { size: 4, read: (view, at) => view.getInt32(at, true) },
  u8: { size: 8, read: (view, at) => Number(view.getBigUint64(at, true)) },
  i8: { size: 8, read: (view, at) => Number(view.getBigInt64(at, true)) },
  f4: { size: 4, read: (view, at) => view.getFloat32(at, true) },
  f8: { size: 8, read: (view, at) => view.getFloat64(at, true) },
};

/**
 * Read an array of NumPy: structured with fields t, x, y, p, or (n, 4) in that order.
 *
 * @param {Uint8Array} bytes
 * @param {DataView} view
 * @returns {Events}
 */
export function readNpy(bytes, view) {
  if (bytes[0] !== 0x93) throw new UnreadableFile("It does not begin as an NPY file.");
  const long = bytes[6] > 1;
  const begin = (long ? 12 : 10) + (long ? view.getUint32(8, true) : view.getUint16(8, true));
  const header = new TextDecoder("latin1").decode(bytes.subarray(long ? 12 : 10, begin));
  if (/'fortran_order': True/.test(header)) throw new UnsupportedFormat("Its columns lie one after another (Fortran's order), which this page does not read.");
  const fields = [...header.matchAll(/\('(\w+)', '[<|=]?(\w\d)'/g)].map((match) => ({ name: match[1], type: match[2] }));
  const shape = /'shape': \((\d+),(?: (\d+))?/.exec(header);
  const plain = /'descr': '[<|=](\w\d)'/.exec(header)?.[1];
  if (!shape || (!fields.length && (!plain || shape[2] !== "4"))) throw new UnsupportedFormat("It is neither structured nor of shape (n, 4).");
  const layout = fields.length ? fields : DEFAULT_ORDER.map((name) => ({ name, type: plain ?? "" }));
  const places = placesOf(layout.map(({ name }) => name));
  const types = layout.map(({ name, type }) => {
    if (!TYPES[type]) throw new UnsupportedFormat(`Its field ${name} is of type ${type}, which this page does not read.`);
    return TYPES[type];
  });
  const offsets = types.map((_, i) => types.slice(0, i).reduce((total, { size }) => total + size, 0));
  const record = offsets[offsets.length - 1] + types[types.length - 1].size;
  const columns = new Columns();
  const [t, x, y, p] = places.map((place) => (/** @type {number} */ at) => types[place].read(view, at + offsets[place]));
  for (let i = 0, at = begin; i < Number(shape[1]) && at + record <= bytes.length; i++, at += record) {
    columns.push(t(at), x(at), y(at), p(at) > 0 ? 1 : 0);
  }
  return columns.events;
}
