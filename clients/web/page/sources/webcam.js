/** A webcam, made into events in the browser: each pixel's changes of log intensity. */

/** @typedef {import("./source.js").Source} Source */
/** @typedef {import("./source.js").Sink} Sink */

const THRESHOLD = 0.2;
const REFRACTORY_US = 1000;
const MOST_A_PIXEL = 8;
const DARK = 8;
const LONGEST_GAP_US = 200_000;

/** @type {import("./source.js").SourceKind} */
export const WEBCAM = {
  kind: "webcam",
  name: "Webcam",
  describe: "Turns a webcam's pictures into events here in the browser; no picture leaves it.",
  unavailable: () => ("mediaDevices" in navigator ? null : "A webcam needs https, or localhost."),
  async open({ model }) {
    const { width, height } = model.sensor;
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 320 }, height: { ideal: 240 }, frameRate: { ideal: 60 } } });
    } catch (error) {
      throw new Error(`The browser gives no webcam: ${/** @type {Error} */ (error).message}. Allow it beside the address, then choose this again.`);
    }
    return new Webcam(stream, { width, height });
  },
};

/** Pixels whose log intensity is compared with that at their last event. */
export class Emulator {
  /** @type {Float32Array | null} */ #reference = null;
  #last_us = 0;

  /** @param {{width: number, height: number}} sensor */
  constructor(sensor) {
    this.sensor = sensor;
    this.#before = new Float32Array(sensor.width * sensor.height);
    this.#fired = new Float64Array(sensor.width * sensor.height).fill(-Infinity);
  }
  /** @type {Float32Array} */ #before;
  /** @type {Float64Array} */ #fired;

  /**
   * Take a picture; return the events since the last, whose intensity changes linearly.
   *
   * @param {Uint8ClampedArray} rgba  width × height × 4
   * @param {number} t_us  of the picture
   * @returns {import("./source.js").Events}
   */
  take(rgba, t_us) {
    const { width } = this.sensor;
    const now = Float32Array.from({ length: this.#before.length }, (_, i) => {
      const light = 0.299 * rgba[4 * i] + 0.587 * rgba[4 * i + 1] + 0.114 * rgba[4 * i + 2];
      return Math.log(light + DARK);
    });
    /** @type {{t: number, i: number, p: number}[]} */
    const found = [];
    const gap = t_us - this.#last_us;
    if (this.#reference && gap > 0 && gap < LONGEST_GAP_US) this.#cross(now, this.#reference, gap, found);
    else this.#reference = now.slice();
    this.#before = now;
    this.#last_us = t_us;
    found.sort((a, b) => a.t - b.t);
    return {
      t: Float64Array.from(found, ({ t }) => t),
      x: Uint16Array.from(found, ({ i }) => i % width),
      y: Uint16Array.from(found, ({ i }) => Math.floor(i / width)),
      p: Uint8Array.from(found, ({ p }) => p),
    };
  }

  /** @param {Float32Array} now @param {Float32Array} reference @param {number} gap_us @param {{t: number, i: number, p: number}[]} found */
  #cross(now, reference, gap_us, found) {
    for (let i = 0; i < now.length; i++) {
      const change = now[i] - reference[i];
      const count = Math.floor(Math.abs(change) / THRESHOLD);
      if (!count) continue;
      const step = Math.sign(change) * THRESHOLD;
      const moved = now[i] - this.#before[i];
      for (let n = 1; n <= Math.min(count, MOST_A_PIXEL); n++) {
        const part = moved ? (reference[i] + n * step - this.#before[i]) / moved : 1;
        const t = Math.floor(this.#last_us + Math.min(1, Math.max(0, part)) * (gap_us - 1));
        if (t - this.#fired[i] < REFRACTORY_US) continue;
        this.#fired[i] = t;
        found.push({ t, i, p: change > 0 ? 1 : 0 });
      }
      reference[i] += count * step;
    }
  }
}

/** @implements {Source} */
class Webcam {
  kind = "webcam";
  title = "webcam";
  note = "emulated from a webcam's pictures";
  guide = "Move something slowly before the camera, or the camera itself.";
  live = true;
  halfLifeMs = 200;
  #video = document.createElement("video");
  #paused = false;
  #stopped = false;

  /** @param {MediaStream} stream @param {{width: number, height: number}} sensor */
  constructor(stream, sensor) {
    this.stream = stream;
    this.sensor = sensor;
    this.emulator = new Emulator(sensor);
  }

  /** @param {Sink} sink */
  async start(sink) {
    const { width, height } = this.sensor;
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
    Object.assign(this.#video, { srcObject: this.stream, muted: true, playsInline: true });
    await this.#video.play();
    this.stream.getVideoTracks()[0].onended = () => sink.failed(new Error("The webcam has ended."));
    const begin = performance.now();
    const frame = (/** @type {number} */ now) => {
      if (this.#stopped) return;
      this.#video.requestVideoFrameCallback(frame);
      if (this.#paused) return;
      const { videoWidth, videoHeight } = this.#video;
      const scale = Math.min(videoWidth / width, videoHeight / height); // the middle of the picture
      const [w, h] = [width * scale, height * scale];
      context.drawImage(this.#video, (videoWidth - w) / 2, (videoHeight - h) / 2, w, h, 0, 0, width, height);
      const events = this.emulator.take(context.getImageData(0, 0, width, height).data, Math.max(0, 1000 * (now - begin)));
      if (events.t.length) void sink.events(events);
    };
    this.#video.requestVideoFrameCallback(frame);
  }

  pause() {
    this.#paused = true;
  }

  resume() {
    this.#paused = false;
  }

  stop() {
    this.#stopped = true;
    for (const track of this.stream.getTracks()) track.stop();
  }
}
