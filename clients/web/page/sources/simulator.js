/**
 * A simulated event camera before a moving picture, as `saccade.model.events.simulator`
 * has it: the pictures of the task `motions`, on which the released model was trained.
 *
 * Lengths are in units: a sensor's long side is 128. y points down.
 */

/** @typedef {import("./source.js").Events} Events */

/** Side of a picture, texels; a power of two, so that a mask wraps a coordinate. */
export const CANVAS = 512;
const TEXELS_PER_UNIT = 2;
const LONG_SIDE_UNITS = 128;
/** A pixel's mean distance from the centre of a square sensor, units. */
export const MEAN_RADIUS_UNITS = 49;
const THRESHOLD = 0.2;
const MISMATCH = 0.04;
const REFRACTORY_US = 300;
const NOISE_HZ = 0.4;
const FRAME_US = 5000;
/** Log intensity that changes over 128×128 pixels, 1/ms, in the scenes of training. */
const CHANGE_PER_MS = 18;
const EXPOSURE = [0.6, 2];
const PROBE_US = 20000;

/**
 * Where the picture is: shift in units, turn in rad, zoom as the logarithm of its scale.
 *
 * @typedef {{right: number, down: number, turn: number, zoom: number}} Pose
 */

/** The eight motions at unit speed, as poses a second. @type {Record<string, Pose>} */
export const MOTIONS = {
  left: {right: -1, down: 0, turn: 0, zoom: 0},
  right: {right: 1, down: 0, turn: 0, zoom: 0},
  up: {right: 0, down: -1, turn: 0, zoom: 0},
  down: {right: 0, down: 1, turn: 0, zoom: 0},
  clockwise: {right: 0, down: 0, turn: 1 / MEAN_RADIUS_UNITS, zoom: 0},
  "counter-clockwise": {right: 0, down: 0, turn: -1 / MEAN_RADIUS_UNITS, zoom: 0},
  expanding: {right: 0, down: 0, turn: 0, zoom: 1 / MEAN_RADIUS_UNITS},
  contracting: {right: 0, down: 0, turn: 0, zoom: -1 / MEAN_RADIUS_UNITS},
};

/**
 * Return a generator of random numbers in [0, 1), the same ones for the same seed.
 *
 * @param {number} seed  an integer
 * @returns {() => number}
 */
export function randomFrom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/**
 * Paint discs and polygons on a plain ground.
 *
 * @param {() => number} random
 * @returns {Float32Array} log intensity, CANVAS × CANVAS, periodic
 */
export function paintShapes(random) {
  const canvas = new Float32Array(CANVAS * CANVAS);
  const contrast = 0.5 + 0.6 * random();
  const shapes = 18 + Math.floor(12 * random());
  for (let i = 0; i < shapes; i++) {
    const radius = 8 + 14 * random();
    const sides = Math.floor(random() * 5) + 2; // two: a disc
    const turn = Math.PI * random();
    const level = contrast * (0.6 + 0.4 * random()) * (random() < 0.5 ? -1 : 1);
    const [left, top] = [random(), random()].map((u) => Math.floor(u * CANVAS));
    const half = Math.ceil(radius) + 2;
    for (let y = -half; y <= half; y++) {
      for (let x = -half; x <= half; x++) {
        const distance = signedDistance(x, y, radius, sides, turn);
        const filled = Math.min(1, Math.max(0, 0.5 - 0.5 * distance));
        if (filled > 0) {
          const row = (top + y) & (CANVAS - 1);
          canvas[row * CANVAS + ((left + x) & (CANVAS - 1))] = level * filled;
        }
      }
    }
  }
  return canvas;
}

/**
 * @param {number} x
 * @param {number} y
 * @param {number} radius
 * @param {number} sides  of a polygon; two: a disc
 * @param {number} turn  rad
 * @returns {number} distance from the outline, texels, negative inside
 */
function signedDistance(x, y, radius, sides, turn) {
  if (sides === 2) return Math.hypot(x, y) - radius;
  const inner = radius * Math.cos(Math.PI / sides);
  let most = -Infinity;
  for (let side = 0; side < sides; side++) {
    const angle = turn + (2 * Math.PI * side) / sides;
    most = Math.max(most, Math.cos(angle) * x + Math.sin(angle) * y - inner);
  }
  return most;
}

/** A sensor whose pixels send events when the picture before them changes. */
export class Camera {
  /**
   * @param {{width: number, height: number}} sensor
   * @param {number} seed  equal seeds give equal events
   */
  constructor(sensor, seed) {
    this.sensor = sensor;
    this.random = randomFrom(seed);
    const pixels = sensor.width * sensor.height;
    this._on = Float32Array.from({length: pixels}, () => this._threshold());
    this._off = Float32Array.from({length: pixels}, () => -this._threshold());
    this._last = new Float64Array(pixels).fill(-Infinity);
    this._before = new Float32Array(pixels);
    this._now = new Float32Array(pixels);
    this._reference = new Float32Array(pixels);
    this.t_us = 0;
    /** @type {Pose} */
    this.pose = {right: 0, down: 0, turn: 0, zoom: 0};
    this.cut();
  }

  /** Put a new picture before the sensor, which adapts to it: no burst of events. */
  cut() {
    const random = this.random;
    this._canvas = paintShapes(random);
    this._anchor = [random() * CANVAS, random() * CANVAS];
    this.pose = {right: 0, down: 0, turn: 0, zoom: 0};
    this._expose();
    this._render(this._now, this.pose);
    for (let i = 0; i < this._now.length; i++) {
      const band = this._on[i] - this._off[i];
      this._reference[i] = this._now[i] + this._off[i] + random() * band;
    }
  }

  /**
   * Move the picture for a while and return the events of it.
   *
   * @param {Pose} speed  a second
   * @param {number} duration_us  µs, above 0
   * @returns {Events} in time order, from the camera's clock
   */
  record(speed, duration_us) {
    const frames = Math.max(1, Math.round(duration_us / FRAME_US));
    const span = duration_us / frames;
    /** @type {number[]} */
    const times = [];
    /** @type {number[]} */
    const places = [];
    for (let frame = 0; frame < frames; frame++) {
      [this._before, this._now] = [this._now, this._before];
      const seconds = span * 1e-6;
      this.pose = {
        right: this.pose.right + speed.right * seconds,
        down: this.pose.down + speed.down * seconds,
        turn: this.pose.turn + speed.turn * seconds,
        zoom: this.pose.zoom + speed.zoom * seconds,
      };
      this._render(this._now, this.pose);
      this._cross(this.t_us, span, times, places);
      this._noise(this.t_us, span, times, places);
      this.t_us += span;
    }
    return this._sorted(times, places);
  }

  _threshold() {
    const u = 1 - this.random();
    const normal = Math.sqrt(-2 * Math.log(u)) * Math.cos(2 * Math.PI * this.random());
    return THRESHOLD * Math.max(0.1, 1 + MISMATCH * normal);
  }

  /** Adjust the picture's contrast towards the number of events that scenes have. */
  _expose() {
    const moved = 130 * PROBE_US * 1e-6;
    this._render(this._before, this.pose);
    this._render(this._now, {...this.pose, right: moved});
    let change = 0;
    for (let i = 0; i < this._now.length; i++) change += Math.abs(this._now[i] - this._before[i]);
    const perMs = (change * (128 * 128)) / this._now.length / (PROBE_US * 1e-3);
    const gain = Math.min(EXPOSURE[1], Math.max(EXPOSURE[0], CHANGE_PER_MS / (perMs + 1e-9)));
    const canvas = /** @type {Float32Array} */ (this._canvas);
    for (let i = 0; i < canvas.length; i++) canvas[i] *= gain;
  }

  /**
   * Write the log intensity at each pixel.
   *
   * @param {Float32Array} into
   * @param {Pose} pose
   */
  _render(into, pose) {
    const {width, height} = this.sensor;
    const canvas = /** @type {Float32Array} */ (this._canvas);
    const [anchorX, anchorY] = /** @type {number[]} */ (this._anchor);
    const unit = LONG_SIDE_UNITS / Math.max(width, height);
    const scale = TEXELS_PER_UNIT / Math.exp(pose.zoom);
    const [cos, sin] = [scale * Math.cos(-pose.turn), scale * Math.sin(-pose.turn)];
    for (let row = 0, i = 0; row < height; row++) {
      const y = (row - (height - 1) / 2) * unit - pose.down;
      for (let column = 0; column < width; column++, i++) {
        const x = (column - (width - 1) / 2) * unit - pose.right;
        const across = Math.floor(anchorX + cos * x - sin * y) & (CANVAS - 1);
        const down = Math.floor(anchorY + sin * x + cos * y) & (CANVAS - 1);
        into[i] = canvas[down * CANVAS + across];
      }
    }
  }

  /**
   * Add a span's threshold crossings; intensity changes linearly within it.
   *
   * @param {number} begin_us
   * @param {number} span_us
   * @param {number[]} times
   * @param {number[]} places  pixel × 2 + polarity
   */
  _cross(begin_us, span_us, times, places) {
    const {_now: now, _before: before, _reference: reference, _last: last} = this;
    for (let i = 0; i < now.length; i++) {
      const change = now[i] - reference[i];
      const rising = change > 0;
      const step = rising ? this._on[i] : this._off[i];
      const count = Math.floor(change / step);
      if (count < 1) continue;
      const moved = now[i] - before[i];
      for (let n = 1; n <= count; n++) {
        const level = reference[i] + n * step - before[i];
        const part = moved === 0 ? 0 : Math.min(1, Math.max(0, level / moved));
        const t = begin_us + part * span_us;
        if (t - last[i] < REFRACTORY_US) continue;
        last[i] = t;
        times.push(t);
        places.push(2 * i + (rising ? 1 : 0));
      }
      reference[i] += count * step;
    }
  }

  /**
   * @param {number} begin_us
   * @param {number} span_us
   * @param {number[]} times
   * @param {number[]} places
   */
  _noise(begin_us, span_us, times, places) {
    const pixels = this._now.length;
    let expected = NOISE_HZ * 1e-6 * pixels * span_us;
    for (; expected > 0; expected--) {
      if (expected < 1 && this.random() >= expected) break;
      times.push(begin_us + this.random() * span_us);
      places.push(Math.floor(2 * pixels * this.random()));
    }
  }

  /**
   * @param {number[]} times
   * @param {number[]} places
   * @returns {Events}
   */
  _sorted(times, places) {
    const order = Uint32Array.from(times, (_, i) => i).sort((a, b) => times[a] - times[b]);
    const n = order.length;
    const events = {
      t: new Float64Array(n),
      x: new Uint16Array(n),
      y: new Uint16Array(n),
      p: new Uint8Array(n),
    };
    const last = Math.ceil(this.t_us) - 1;
    for (let i = 0; i < n; i++) {
      const pixel = places[order[i]] >> 1;
      events.t[i] = Math.min(Math.floor(times[order[i]]), last);
      events.x[i] = pixel % this.sensor.width;
      events.y[i] = Math.floor(pixel / this.sensor.width);
      events.p[i] = places[order[i]] & 1;
    }
    return events;
  }
}
