/** Class probabilities over time, stacked, with the top label as a band above. */

const SPAN_US = 10e6;
const BAND = 14;

/** Return a class's colour. @param {number} index @param {number} count */
export function colorOf(index, count) {
  return `hsl(${Math.round((360 * index) / count + 205) % 360} 62% ${index % 2 ? 46 : 58}%)`;
}

/** Return probabilities, (c,). @param {number[]} logits */
export function softmax(logits) {
  const most = Math.max(...logits);
  const sizes = logits.map((logit) => Math.exp(logit - most));
  const sum = sizes.reduce((a, b) => a + b, 0);
  return sizes.map((size) => size / sum);
}

/** A canvas of the last ten seconds. */
export class Timeline {
  /** @type {{t: number, p: number[]}[]} */ #points = [];
  /** @type {string[]} */ labels = [];
  #changed = true;

  /** @param {HTMLCanvasElement} canvas @param {HTMLElement} hover  is told what is under the pointer */
  constructor(canvas, hover) {
    this.canvas = canvas;
    const idle = hover.textContent;
    new ResizeObserver(() => (this.#changed = true)).observe(canvas);
    canvas.addEventListener("pointermove", (event) => (hover.textContent = this.#describe(event.offsetX) || idle));
    canvas.addEventListener("pointerleave", () => (hover.textContent = idle));
  }

  /** Begin anew. @param {string[]} labels */
  clear(labels) {
    this.labels = labels;
    this.#points = [];
    this.#changed = true;
  }

  /** @param {number} t_us @param {number[]} p  (c,) */
  add(t_us, p) {
    this.#changed = true;
    const newest = this.#points.at(-1);
    if (newest && t_us < newest.t) this.#points = [];
    this.#points.push({ t: t_us, p });
    while (this.#points.length > 2 && this.#points[1].t < t_us - SPAN_US) this.#points.shift();
  }

  /** Draw what is new. */
  draw() {
    if (!this.#changed) return;
    this.#changed = false;
    const ratio = globalThis.devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (this.canvas.width !== Math.round(width * ratio)) this.canvas.width = Math.round(width * ratio);
    if (this.canvas.height !== Math.round(height * ratio)) this.canvas.height = Math.round(height * ratio);
    const context = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const points = this.#points;
    if (points.length < 2) return;
    const x = (/** @type {number} */ t) => this.#x(t, width);
    const floors = points.map(() => height);
    this.labels.forEach((_, label) => {
      context.beginPath();
      points.forEach(({ t }, i) => context.lineTo(x(t), floors[i]));
      for (let i = points.length - 1; i >= 0; i--) {
        floors[i] -= points[i].p[label] * (height - BAND - 4);
        context.lineTo(x(points[i].t), floors[i]);
      }
      context.fillStyle = colorOf(label, this.labels.length);
      context.fill();
    });
    for (let i = 1; i < points.length; i++) {
      context.fillStyle = colorOf(top(points[i].p), this.labels.length);
      context.fillRect(x(points[i - 1].t), 0, x(points[i].t) - x(points[i - 1].t) + 0.5, BAND);
    }
  }

  /** @param {number} t @param {number} width */
  #x(t, width) {
    return width * (1 - ((this.#points.at(-1)?.t ?? t) - t) / SPAN_US);
  }

  /** @param {number} x  CSS pixels */
  #describe(x) {
    const points = this.#points;
    if (!points.length) return "";
    const width = this.canvas.clientWidth;
    const nearest = points.reduce((a, b) => (Math.abs(this.#x(a.t, width) - x) < Math.abs(this.#x(b.t, width) - x) ? a : b));
    const order = nearest.p.map((p, i) => ({ p, i })).sort((a, b) => b.p - a.p);
    const parts = order.slice(0, 3).map(({ p, i }) => `${this.labels[i]} ${(100 * p).toFixed(0)} %`);
    return `at ${(nearest.t / 1e6).toFixed(2)} s: ${parts.join(", ")}`;
  }
}

/** Return the index of the largest. @param {number[]} p */
export function top(p) {
  return p.indexOf(Math.max(...p));
}
