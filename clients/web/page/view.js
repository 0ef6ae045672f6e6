/** The event view: each pixel's newest event, fading exponentially with its age. */

/** @typedef {import("./sources/source.js").Events} Events */
/** @typedef {{on: string, off: string, empty: string}} Colors  as CSS colours */

const VERTEX = `#version 300 es
void main() { gl_Position = vec4(vec2(gl_VertexID & 1, gl_VertexID >> 1) * 4.0 - 1.0, 0.0, 1.0); }`;
const FRAGMENT = `#version 300 es
precision highp float;
uniform highp sampler2D surface;
uniform vec2 scale;
uniform float height, now, decay;
uniform vec3 on, off, empty;
out vec4 color;
void main() {
  ivec2 pixel = ivec2(gl_FragCoord.x * scale.x, (height - gl_FragCoord.y) * scale.y);
  vec2 last = texelFetch(surface, pixel, 0).xy;
  float age = now - max(last.x, last.y);
  float strength = age < 0.0 ? 0.0 : exp(-age / decay);
  color = vec4(mix(empty, last.x >= last.y ? on : off, strength), 1.0);
}`;
const NEVER = -1e9;

/** Each pixel's newest event of each polarity, and a canvas that shows them. */
export class EventView {
  sensor = { width: 1, height: 1 };
  surface = new Float32Array(2).fill(NEVER);
  #base_us = 0;
  #empty = true;

  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.renderer = glRenderer(canvas) ?? flatRenderer(canvas);
  }

  /** Whether it is drawn by WebGL. */
  get accelerated() {
    return this.renderer.accelerated;
  }

  /** Show another sensor's events from now on. @param {{width: number, height: number}} sensor */
  setSensor(sensor) {
    this.sensor = sensor;
    this.surface = new Float32Array(2 * sensor.width * sensor.height);
    this.clear();
  }

  /** Forget all events. */
  clear() {
    this.surface.fill(NEVER);
    this.#empty = true;
  }

  /** Take events, in time order. @param {Events} events @param {number} [until_us]  later ones are left out */
  add({ t, x, y, p }, until_us = Infinity) {
    if (!t.length) return;
    if (this.#empty) [this.#base_us, this.#empty] = [t[0], false];
    const { width, height } = this.sensor;
    for (let i = 0; i < t.length && t[i] <= until_us; i++) {
      if (x[i] >= width || y[i] >= height) continue;
      this.surface[2 * (y[i] * width + x[i]) + 1 - p[i]] = (t[i] - this.#base_us) / 1000;
    }
  }

  /** Fit the canvas into a space: whole device pixels for each pixel where there is room. @param {number} width @param {number} height  CSS pixels */
  fit(width, height) {
    const ratio = globalThis.devicePixelRatio || 1;
    const most = Math.min((width * ratio) / this.sensor.width, (height * ratio) / this.sensor.height);
    const scale = most >= 1 ? Math.floor(most) : most;
    this.canvas.width = Math.max(1, Math.floor(this.sensor.width * scale));
    this.canvas.height = Math.max(1, Math.floor(this.sensor.height * scale));
    this.canvas.style.width = `${this.canvas.width / ratio}px`;
    this.canvas.style.height = `${this.canvas.height / ratio}px`;
  }

  /** Draw the moment `t_us`. @param {number} t_us @param {number} decayMs @param {Colors} colors */
  draw(t_us, decayMs, colors) {
    this.renderer.draw(this, (t_us - this.#base_us) / 1000, decayMs, colors);
  }
}

/** @typedef {{accelerated: boolean, draw: (view: EventView, now: number, decay: number, colors: Colors) => void}} Renderer */

/** @param {HTMLCanvasElement} canvas @returns {Renderer | null} */
function glRenderer(canvas) {
  const gl = canvas.getContext("webgl2", { alpha: false, antialias: false });
  if (!gl) return null;
  const program = gl.createProgram();
  for (const [type, source] of /** @type {[number, string][]} */ ([[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]])) {
    const shader = /** @type {WebGLShader} */ (gl.createShader(type));
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  gl.useProgram(program);
  gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
  /** @param {string} name */
  const place = (name) => gl.getUniformLocation(program, name);
  const places = { scale: place("scale"), height: place("height"), now: place("now"), decay: place("decay"), on: place("on"), off: place("off"), empty: place("empty") };
  return {
    accelerated: true,
    draw({ sensor, surface }, now, decay, colors) {
      gl.viewport(0, 0, canvas.width, canvas.height);
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RG32F, sensor.width, sensor.height, 0, gl.RG, gl.FLOAT, surface);
      gl.uniform2f(places.scale, sensor.width / canvas.width, sensor.height / canvas.height);
      gl.uniform1f(places.height, canvas.height);
      gl.uniform1f(places.now, now);
      gl.uniform1f(places.decay, decay);
      for (const name of /** @type {const} */ (["on", "off", "empty"])) gl.uniform3fv(places[name], rgb(colors[name]).map((part) => part / 255));
      gl.drawArrays(gl.TRIANGLES, 0, 3);
    },
  };
}

/** @param {HTMLCanvasElement} canvas @returns {Renderer} */
function flatRenderer(canvas) {
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const small = document.createElement("canvas");
  return {
    accelerated: false,
    draw({ sensor, surface }, now, decay, colors) {
      [small.width, small.height] = [sensor.width, sensor.height];
      const within = /** @type {CanvasRenderingContext2D} */ (small.getContext("2d"));
      const image = within.createImageData(sensor.width, sensor.height);
      const [on, off, empty] = [rgb(colors.on), rgb(colors.off), rgb(colors.empty)];
      for (let i = 0; i < surface.length; i += 2) {
        const age = now - Math.max(surface[i], surface[i + 1]);
        const strength = age < 0 ? 0 : Math.exp(-age / decay);
        const color = surface[i] >= surface[i + 1] ? on : off;
        for (let c = 0; c < 3; c++) image.data[2 * i + c] = empty[c] + strength * (color[c] - empty[c]);
        image.data[2 * i + 3] = 255;
      }
      within.putImageData(image, 0, 0);
      context.imageSmoothingEnabled = false;
      context.drawImage(small, 0, 0, canvas.width, canvas.height);
    },
  };
}

/** Return red, green and blue, 0 to 255. @param {string} color  as #rrggbb */
function rgb(color) {
  const number = parseInt(color.slice(1), 16);
  return [number >> 16, (number >> 8) & 255, number & 255];
}

const KEPT_US = 10e6;
const KEPT_EVENTS = 1 << 21;
const SHOWN_DECAYS = 6;

/** The events of the last seconds, to look at again. */
export class Recent {
  /** @type {Events[]} */ #chunks = [];
  #count = 0;

  /** The oldest and newest timestamp, µs. */
  get span() {
    const last = this.#chunks.at(-1);
    return last ? [this.#chunks[0].t[0], last.t[last.t.length - 1]] : [0, 0];
  }

  clear() {
    this.#chunks = [];
    this.#count = 0;
  }

  /** @param {Events} events */
  add(events) {
    if (!events.t.length) return;
    this.#chunks.push(events);
    this.#count += events.t.length;
    const newest = events.t[events.t.length - 1];
    while (this.#chunks.length > 1 && (this.#count > KEPT_EVENTS || newest - this.#chunks[0].t[0] > KEPT_US)) {
      this.#count -= this.#chunks[0].t.length;
      this.#chunks.shift();
    }
  }

  /** Put a view back to a moment. @param {EventView} view @param {number} t_us @param {number} decayMs */
  show(view, t_us, decayMs) {
    view.clear();
    const from = t_us - SHOWN_DECAYS * decayMs * 1000;
    for (const chunk of this.#chunks) {
      if (chunk.t[chunk.t.length - 1] >= from && chunk.t[0] <= t_us) view.add(chunk, t_us);
    }
  }
}
