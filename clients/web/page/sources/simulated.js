/** The simulated camera: a picture that the visitor moves before the model's sensor. */

import { Camera, MEAN_RADIUS_UNITS, MOTIONS } from "./simulator.js";

/** @typedef {import("./source.js").Source} Source */
/** @typedef {import("./source.js").Sink} Sink */
/** @typedef {import("./simulator.js").Pose} Pose */
/** @typedef {"move" | "turn" | "zoom"} Drag */

const TICK_MS = 16;
const LONGEST_US = 50_000;
const SPEED = 130;
const FASTEST = 220;
const SMOOTH_MS = 70;
const COAST_MS = 250;
const SHOW_MS = 2200;
const MOST_ZOOM = Math.LN2;
const LEAST_SPEED = 4;
/** @type {Pose} */
const STILL = { right: 0, down: 0, turn: 0, zoom: 0 };
/** @type {Record<string, string>} */
const KEYS = { ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down", e: "clockwise", q: "counter-clockwise", "+": "expanding", "-": "contracting" };

/** @type {import("./source.js").SourceKind} */
export const SIMULATED = {
  kind: "simulated",
  name: "Simulated camera",
  describe: "A picture moves before a simulated sensor.",
  unavailable: () => null,
  open: async ({ model, settings }) => new Simulated(model.sensor, Number(settings.seed) || 1),
};

/** @implements {Source} */
export class Simulated {
  kind = "simulated";
  title = "simulated camera";
  guide = "Drag across the picture: the model names the motion. Arrows, Q and E, + and − move it too.";
  live = true;
  halfLifeMs = 120;
  /** @type {Drag} */ drag = "move";
  /** What moves the picture: shown by itself, or steered. @type {Pose} */ speed = STILL;
  /** @type {Pose} */ #wanted = STILL;
  #shows = !matchMedia("(prefers-reduced-motion: reduce)").matches;
  #held = false;
  #paused = false;
  #timer = 0;
  #began = 0;
  #done_us = 0;
  #steered = -Infinity;

  /** @param {{width: number, height: number}} sensor @param {number} seed */
  constructor(sensor, seed) {
    this.sensor = sensor;
    this.seed = seed;
    this.camera = new Camera(sensor, seed);
    this.controls = this.#makeControls();
  }

  settings() {
    return { seed: `${this.seed}` };
  }

  /** @param {Sink} sink */
  start(sink) {
    this.resume();
    this.#timer = window.setInterval(() => this.#tick(sink), TICK_MS);
  }

  pause() {
    this.#paused = true;
  }

  resume() {
    this.#paused = false;
    this.#began = performance.now();
    this.#done_us = 0;
  }

  stop() {
    window.clearInterval(this.#timer);
  }

  /** @param {Sink} sink */
  #tick(sink) {
    if (this.#paused) return;
    const now = performance.now();
    if (this.#shows) this.#show(now);
    else if (!this.#held) this.#coast(now);
    const due_us = Math.floor((now - this.#began) * 1000) - this.#done_us;
    if (due_us <= 0) return;
    this.#done_us += due_us;
    if (Math.abs(this.camera.pose.zoom) > MOST_ZOOM) this.camera.cut();
    void sink.events(this.camera.record(this.speed, Math.min(due_us, LONGEST_US)));
  }

  /** Go through the motions, for whoever looks on. @param {number} now */
  #show(now) {
    const names = Object.keys(MOTIONS);
    const turn = Math.floor((now - this.#began) / SHOW_MS);
    this.speed = scaled(MOTIONS[names[turn % names.length]], SPEED);
  }

  /** @param {number} now */
  #coast(now) {
    const left = Math.max(0, 1 - (now - this.#steered) / COAST_MS);
    this.speed = left ? scaled(this.#wanted, Math.sqrt(left)) : STILL;
  }

  /** Steer, in place of the demonstration. @param {Pose} speed */
  steer(speed) {
    this.#shows = false;
    this.#steered = performance.now();
    this.#wanted = this.speed = limited(speed);
  }

  /** @param {HTMLElement} stage */
  attach(stage) {
    /** @type {Map<number, {x: number, y: number, at: number}>} */
    const pointers = new Map();
    stage.onpointerdown = (event) => {
      stage.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, this.#place(stage, event));
      this.#held = true;
      this.steer(STILL);
    };
    stage.onpointermove = (event) => {
      const before = pointers.get(event.pointerId);
      if (!before) return;
      const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
      const now = this.#place(stage, event);
      pointers.set(event.pointerId, now);
      const ms = now.at - before.at;
      if (ms > 0) this.#blend(other ? pinched(before, now, other) : dragged(event.shiftKey ? "turn" : this.drag, before, now), ms);
    };
    stage.onpointerup = stage.onpointercancel = (event) => {
      pointers.delete(event.pointerId);
      this.#held = pointers.size > 0;
    };
    stage.onwheel = (event) => {
      event.preventDefault();
      this.steer({ ...STILL, zoom: (-Math.sign(event.deltaY) * SPEED) / MEAN_RADIUS_UNITS });
    };
    stage.onkeydown = (event) => {
      const motion = KEYS[event.key];
      if (!motion || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      this.#held = true;
      this.steer(scaled(MOTIONS[motion], SPEED));
    };
    stage.onkeyup = (event) => void (KEYS[event.key] && (this.#held = false));
    stage.onblur = () => void (this.#held = false);
  }

  /** @param {Pose} moved  since the last move @param {number} ms */
  #blend(moved, ms) {
    const fresh = scaled(moved, 1000 / ms);
    const share = Math.min(1, ms / SMOOTH_MS);
    const mixed = scaled(this.speed, 1 - share);
    this.steer(sum(mixed, scaled(fresh, share)));
  }

  /** Return where a pointer is, units from the centre. @param {HTMLElement} stage @param {PointerEvent} event */
  #place(stage, event) {
    const box = stage.getBoundingClientRect();
    const unit = 128 / Math.max(box.width, box.height);
    return { x: (event.clientX - box.left - box.width / 2) * unit, y: (event.clientY - box.top - box.height / 2) * unit, at: event.timeStamp };
  }

  #makeControls() {
    const row = document.createElement("div");
    row.className = "control-row";
    for (const drag of /** @type {Drag[]} */ (["move", "turn", "zoom"])) {
      const button = pressable(`Drag: ${drag}`);
      button.setAttribute("aria-pressed", `${drag === this.drag}`);
      button.addEventListener("click", () => {
        this.drag = drag;
        for (const each of row.querySelectorAll("[data-drag]")) each.setAttribute("aria-pressed", `${each === button}`);
      });
      button.dataset.drag = drag;
      row.append(button);
    }
    const again = pressable("New picture");
    again.addEventListener("click", () => this.camera.cut());
    const show = pressable("Demonstration");
    show.addEventListener("click", () => (this.#shows = !this.#shows));
    row.append(again, show);
    return row;
  }
}

/** @param {string} text */
function pressable(text) {
  const button = document.createElement("button");
  return Object.assign(button, { className: "button", type: "button", textContent: text });
}

/** @param {Pose} pose @param {number} factor @returns {Pose} */
function scaled({ right, down, turn, zoom }, factor) {
  return { right: right * factor, down: down * factor, turn: turn * factor, zoom: zoom * factor };
}

/** @param {Pose} a @param {Pose} b @returns {Pose} */
function sum(a, b) {
  return { right: a.right + b.right, down: a.down + b.down, turn: a.turn + b.turn, zoom: a.zoom + b.zoom };
}

/** Keep a speed below what a sensor of this kind sees. @param {Pose} speed */
function limited(speed) {
  const size = Math.hypot(speed.right, speed.down, speed.turn * MEAN_RADIUS_UNITS, speed.zoom * MEAN_RADIUS_UNITS);
  if (size < LEAST_SPEED) return STILL;
  return scaled(speed, Math.min(1, FASTEST / size));
}

/** @typedef {{x: number, y: number}} Place */

/** @param {Drag} drag @param {Place} before @param {Place} now @returns {Pose} */
function dragged(drag, before, now) {
  if (drag === "move") return { ...STILL, right: now.x - before.x, down: now.y - before.y };
  const sizes = [Math.max(8, Math.hypot(before.x, before.y)), Math.max(8, Math.hypot(now.x, now.y))];
  if (drag === "zoom") return { ...STILL, zoom: Math.log(sizes[1] / sizes[0]) };
  return { ...STILL, turn: (before.x * now.y - before.y * now.x) / (sizes[0] * sizes[1]) };
}

/** Two fingers: their distance zooms, their angle turns. @param {Place} before @param {Place} now @param {Place} other @returns {Pose} */
function pinched(before, now, other) {
  const [a, b] = [before, now].map(({ x, y }) => ({ x: x - other.x, y: y - other.y }));
  const [from, to] = [Math.max(4, Math.hypot(a.x, a.y)), Math.max(4, Math.hypot(b.x, b.y))];
  return { ...STILL, zoom: Math.log(to / from), turn: (a.x * b.y - a.y * b.x) / (from * to) };
}
