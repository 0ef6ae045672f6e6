/** What stands beside the picture: the label, the classes, and figures with their history. */

import { colorOf, top } from "./timeline.js";

const POINTS = 120;

/** @typedef {{name: string, unit: string, read: () => number | null}} Figure */

/** @param {string} id */
export function element(id) {
  return /** @type {HTMLElement} */ (document.getElementById(id));
}

/** Label, confidence and one bar a class. */
export class Scores {
  /** @type {{bar: HTMLElement, share: HTMLElement}[]} */ #rows = [];
  /** @type {string[]} */ labels = [];
  /** @type {number[] | null | undefined} */ #shown;

  /** Begin anew. @param {string[]} labels */
  clear(labels) {
    this.labels = labels;
    element("classes").replaceChildren();
    this.#rows = labels.map((label, index) => {
      const [bar, share, swatch] = [document.createElement("b"), document.createElement("span"), document.createElement("i")];
      const item = document.createElement("li");
      bar.textContent = label;
      bar.style.backgroundImage = `linear-gradient(${colorOf(index, labels.length)} 0 0)`;
      swatch.style.background = colorOf(index, labels.length);
      item.append(swatch, bar, share);
      element("classes").append(item);
      return { bar, share };
    });
    this.#shown = undefined;
    this.show(null);
  }

  /** Write what has changed. @param {number[] | null} p  (c,); null: nothing is scored yet */
  show(p) {
    if (p === this.#shown) return;
    this.#shown = p;
    const best = p ? top(p) : -1;
    write(element("label"), p ? this.labels[best] : "–");
    write(element("confidence"), p ? `${percent(p[best])} confident` : "no score yet");
    this.#rows.forEach(({ bar, share }, i) => {
      if (write(share, p ? percent(p[i]) : "–")) bar.style.backgroundSize = `${p ? Math.round(100 * p[i]) : 0}% 2px`;
    });
  }
}

/** @param {number} share  0 to 1 */
function percent(share) {
  return `${(100 * share).toFixed(0)} %`;
}

/** Write a text where another stands; return whether it was written. @param {HTMLElement} into @param {string} text */
function write(into, text) {
  const other = into.textContent !== text;
  if (other) into.textContent = text;
  return other;
}

/** Figures with their last half minute as lines. */
export class Figures {
  /** @param {Figure[]} figures */
  constructor(figures) {
    const list = element("figures");
    this.rows = figures.map((figure) => {
      const name = document.createElement("dt");
      name.textContent = figure.name;
      const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      svg.setAttribute("viewBox", `0 0 ${POINTS} 20`);
      svg.setAttribute("preserveAspectRatio", "none");
      svg.setAttribute("aria-hidden", "true");
      const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
      line.setAttribute("vector-effect", "non-scaling-stroke");
      svg.append(line);
      const graph = document.createElement("dd");
      graph.append(svg);
      const value = document.createElement("dd");
      list.append(name, graph, value);
      return { figure, line, value, past: /** @type {number[]} */ ([]) };
    });
  }

  /** Read every figure and draw it. */
  update() {
    for (const { figure, line, value, past } of this.rows) {
      const now = figure.read();
      value.textContent = now === null ? "–" : `${short(now)}${figure.unit}`;
      past.push(now ?? 0);
      if (past.length > POINTS) past.shift();
      const most = Math.max(...past, 1e-9);
      line.setAttribute("points", past.map((each, i) => `${POINTS - past.length + i},${19 - (18 * each) / most}`).join(" "));
    }
  }
}

/** Write a number with three digits. @param {number} value */
export function short(value) {
  if (value >= 1e6) return `${(value / 1e6).toFixed(2)} M`;
  if (value >= 1e4) return `${(value / 1e3).toFixed(0)} k`;
  if (value >= 1e3) return `${(value / 1e3).toFixed(1)} k`;
  return value >= 100 || Number.isInteger(value) ? value.toFixed(0) : value.toFixed(1);
}
