/** The event view: each pixel's newest event, fading exponentially with its age. */

/** @typedef {import("./sources/source.js").Events} Events */
/** @typedef {{on: string, off: string, empty: string}} Colors  as CSS colours */

const VERTEX = `#version 300 es
void main() { gl_Position = vec4(vec2(gl_VertexID & 1, gl_VertexID >> 1) * 4.0 - 1.0, 0.0, 1.0); }`;
const FRAGMENT = `#version 300 es
precision highp float;
uniform highp sampler2D surface;
uniform float now, decay;
uniform vec3 on, off, empty;
out vec4 color;
void main() {
  ivec2 pixel = ivec2(gl_FragCoord.x, float(textureSize(surface, 0).y) - gl_FragCoord.y);
  vec2 last = texelFetch(surface, pixel, 0).xy;
  float age = now - last.x;
  float strength = age < 0.0 ? 0.0 : exp(-age / decay);
  color = vec4(mix(empty, last.y > 0.0 ? on : off, strength), 1.0);
}`;
const NEVER = -1e9;
/** Times are kept as 32-bit floats: beyond so many ms they count from a later moment. */
const REBASE_MS = 2 ** 20;
const SHADES = 1024;
const SHADED_DECAYS = 8;

/** Each pixel's newest event, and a canvas of the sensor's size that shows them. */
export class EventView {
  sensor = { width: 1, height: 1 };
  /** Of each pixel the newest event's time, ms, and its polarity. */
  surface = new Float32Array(2).fill(NEVER);
  #base_us = 0;
  #empty = true;
  #changed = true;
  #shown = "";

  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.renderer = (isAccelerated() && glRenderer(canvas)) || flatRenderer(canvas);
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault()); // it will be restored
    canvas.addEventListener("webglcontextrestored", () => {
      this.renderer = glRenderer(canvas) ?? this.renderer;
      this.#changed = true;
    });
  }

  /** Show another sensor's events from now on. @param {{width: number, height: number}} sensor */
  setSensor(sensor) {
    this.sensor = sensor;
    this.surface = new Float32Array(2 * sensor.width * sensor.height);
    [this.canvas.width, this.canvas.height] = [sensor.width, sensor.height];
    this.clear();
  }

  /** Forget all events. */
  clear() {
    this.surface.fill(NEVER);
    this.#empty = this.#changed = true;
  }

  /** Take events, in time order. @param {Events} events @param {number} [until_us]  later ones are left out */
  add({ t, x, y, p }, until_us = Infinity) {
    if (!t.length) return;
    if (this.#empty) [this.#base_us, this.#empty] = [t[0], false];
    if (t[0] - this.#base_us > 1000 * REBASE_MS) this.#rebase(t[0]);
    const { width, height } = this.sensor;
    for (let i = 0; i < t.length && t[i] <= until_us; i++) {
      if (x[i] >= width || y[i] >= height) continue;
      const at = 2 * (y[i] * width + x[i]);
      this.surface[at] = (t[i] - this.#base_us) / 1000;
      this.surface[at + 1] = p[i];
    }
    this.#changed = true;
  }

  /** Count times from a later moment. @param {number} t_us */
  #rebase(t_us) {
    const later = (t_us - this.#base_us) / 1000;
    for (let at = 0; at < this.surface.length; at += 2) this.surface[at] -= later;
    this.#base_us = t_us;
  }

  /** Fit the picture into a space: whole device pixels for each pixel where there is room. @param {number} width @param {number} height  CSS pixels */
  fit(width, height) {
    const ratio = globalThis.devicePixelRatio || 1;
    const most = Math.min((width * ratio) / this.sensor.width, (height * ratio) / this.sensor.height);
    const scale = (most >= 1 ? Math.floor(most) : most) / ratio;
    this.canvas.style.width = `${this.sensor.width * scale}px`;
    this.canvas.style.height = `${this.sensor.height * scale}px`;
  }

  /** Draw the moment `t_us`, where it is not shown already. @param {number} t_us @param {number} decayMs @param {Colors} colors */
  draw(t_us, decayMs, colors) {
    const wanted = [t_us, decayMs, colors.on, colors.off, colors.empty].join();
    if (!this.#changed && wanted === this.#shown) return;
    this.renderer.draw(this, (t_us - this.#base_us) / 1000, decayMs, colors);
    [this.#changed, this.#shown] = [false, wanted];
  }
}

/** @typedef {{accelerated: boolean, draw: (view: EventView, now: number, decay: number, colors: Colors) => void}} Renderer */

/** Whether WebGL is a graphics processor's; in software, reading each picture back takes longer than computing it here. */
function isAccelerated() {
  const gl = document.createElement("canvas").getContext("webgl2", { failIfMajorPerformanceCaveat: true });
  const names = gl?.getExtension("WEBGL_debug_renderer_info");
  const renderer = gl && names ? gl.getParameter(names.UNMASKED_RENDERER_WEBGL) : "";
  gl?.getExtension("WEBGL_lose_context")?.loseContext(); // a page has few
  return gl !== null && !/swiftshader|llvmpipe|software|basic render/i.test(renderer);
}

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
  const places = { now: place("now"), decay: place("decay"), on: place("on"), off: place("off"), empty: place("empty") };
  return {
    accelerated: true,
    draw({ sensor, surface }, now, decay, colors) {
      gl.viewport(0, 0, sensor.width, sensor.height);
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RG32F, sensor.width, sensor.height, 0, gl.RG, gl.FLOAT, surface);
      gl.uniform1f(places.now, now);
      gl.uniform1f(places.decay, decay);
      for (const name of /** @type {const} */ (["on", "off", "empty"])) gl.uniform3fv(places[name], rgb(colors[name]).map((part) => part / 255));
      gl.drawArrays(gl.TRIANGLES, 0, 3);
    },
  };
}

/** @param {HTMLCanvasElement} canvas @returns {Renderer} */
function flatRenderer(canvas) {
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { alpha: false }));
  let image = new ImageData(1, 1);
  let pixels = new Uint32Array(image.data.buffer);
  /** @type {Colors | null} */ let shown = null;
  let [on, off] = [pixels, pixels];
  return {
    accelerated: false,
    draw({ sensor: { width, height }, surface }, now, decay, colors) {
      if (image.width !== width || image.height !== height) {
        image = new ImageData(width, height);
        pixels = new Uint32Array(image.data.buffer);
      }
      if (colors !== shown) [shown, on, off] = [colors, shades(colors.on, colors.empty), shades(colors.off, colors.empty)];
      paint(pixels, surface, now, SHADES / (SHADED_DECAYS * decay), on, off);
      context.putImageData(image, 0, 0);
    },
  };
}

/** @param {Uint32Array} pixels @param {Float32Array} surface @param {number} now  ms @param {number} scale  shades a ms @param {Uint32Array} on @param {Uint32Array} off */
function paint(pixels, surface, now, scale, on, off) {
  pixels.fill(on[SHADES]);
  for (let i = 0; i < pixels.length; i++) {
    const age = (now - surface[2 * i]) * scale;
    if (age >= 0 && age < SHADES) pixels[i] = surface[2 * i + 1] ? on[age | 0] : off[age | 0];
  }
}

/** Return a colour fading into another, as pixels; beyond the last shade it has faded. @param {string} color @param {string} empty */
function shades(color, empty) {
  const [from, to] = [rgb(empty), rgb(color)];
  const bytes = new Uint8ClampedArray(4 * (SHADES + 1)).fill(255);
  for (let i = 0; i <= SHADES; i++) {
    const strength = i < SHADES ? Math.exp((-SHADED_DECAYS * i) / SHADES) : 0;
    for (let c = 0; c < 3; c++) bytes[4 * i + c] = from[c] + strength * (to[c] - from[c]);
  }
  return new Uint32Array(bytes.buffer);
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
