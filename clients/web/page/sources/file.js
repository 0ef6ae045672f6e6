/** A recording, played at the speed of the scene or another. */

import { classify } from "../../saccade.js";
import { UnreadableFile, UnsupportedFormat, readEvents } from "../readers/readers.js";

/** @typedef {import("./source.js").Source} Source */
/** @typedef {import("./source.js").Sink} Sink */
/** @typedef {import("../readers/readers.js").Recording} Recording */

const MOST_BYTES = 1 << 29;
const CHUNK_US = 10_000;
const MOST_EVENTS = 1 << 16;
const SPEEDS = { "0.1": "a tenth", "0.5": "half", "1": "real time", "4": "4 ×", "1000000": "as fast as scored" };

/** @type {import("./source.js").SourceKind} */
export const FILE = {
  kind: "file",
  name: "File …",
  describe: "Plays a recording; drop one anywhere on this page.",
  takesFile: true,
  unavailable: () => null,
  async open(context) {
    const { file } = context;
    if (!file) throw new UnreadableFile("Choose a recording, or drop one on this page.");
    if (file.size > MOST_BYTES) throw new UnreadableFile(`${file.name} is larger than 512 MiB; stream it with \`saccade stream\`.`);
    try {
      return new Recorded(file.name, readEvents(file.name, await file.arrayBuffer()));
    } catch (error) {
      if (error instanceof UnsupportedFormat) return scoreWhole(file, error, context);
      throw error;
    }
  },
};

/**
 * Have the server read and score a recording that this page does not read.
 *
 * @param {File} file @param {UnsupportedFormat} why @param {import("./source.js").Context} context
 * @returns {Promise<Source>}
 */
async function scoreWhole(file, why, { model, server, told, credentials }) {
  told(`${why.message} It is sent to the server, which scores it whole …`);
  const options = { ...(await credentials()), model: model.name, fit: /** @type {const} */ ("scale"), invalid: /** @type {const} */ ("skip") };
  const answer = await classify(server, [file], options).catch((error) => {
    throw new UnreadableFile(`${file.name}: ${error.message}`);
  });
  const [{ problem, logits, label, confidence, events, ticks, sensor, warnings }] = answer.results;
  if (problem) throw new UnreadableFile(`${file.name}: ${problem.detail}`);
  if (!logits) throw new UnreadableFile(`${file.name} holds ${events} events: too few for a score of ${model.name}.`);
  told("");
  const [width, height] = sensor;
  const end = () => {};
  return {
    kind: "file",
    title: `${file.name} · read by the server`,
    guide: `Scored whole by the server: ${events.toLocaleString("en")} events, ${ticks.toLocaleString("en")} ticks.`,
    note: ["not played: this page does not read its format", ...warnings].join("; "),
    sensor: { width, height },
    live: false,
    scored: true,
    labels: answer.labels,
    model: answer.model,
    settings: () => ({ recording: file.name }),
    start(sink) {
      sink.scores({ t_us: 0, logits, label, confidence });
      sink.ended();
    },
    pause: end,
    resume: end,
    stop: end,
  };
}

/** @implements {Source} */
class Recorded {
  kind = "file";
  live = false;
  guide = "The scores are of everything since the recording began.";
  #speed = 1;
  #place = 0;
  #paused = false;
  #stopped = false;
  #playing = false;
  #at_us = 0;
  /** @type {Sink | null} */ #sink = null;

  /** @param {string} name @param {Recording} recording */
  constructor(name, { events, sensor, format }) {
    this.name = name;
    this.title = `${name} · ${format}`;
    this.sensor = sensor;
    this.events = events;
    this.durationUs = events.t[events.t.length - 1];
    this.controls = this.#makeControls();
  }

  settings() {
    return { recording: this.name };
  }

  /** @param {Sink} sink */
  async start(sink) {
    this.#sink = sink;
    await this.#play();
  }

  pause() {
    this.#paused = true;
  }

  resume() {
    this.#paused = false;
  }

  stop() {
    this.#stopped = true;
  }

  async #play() {
    if (this.#playing) return;
    this.#playing = true;
    const { t, x, y, p } = this.events;
    let last = performance.now();
    while (this.#place < t.length && !this.#stopped) {
      const now = performance.now();
      if (!this.#paused) this.#at_us += Math.min(1000 * (now - last), 1e5) * this.#speed;
      last = now;
      while (!this.#paused && !this.#stopped && this.#place < t.length && t[this.#place] <= this.#at_us) {
        const begin = this.#place;
        let end = begin;
        while (end < t.length && end - begin < MOST_EVENTS && t[end] <= this.#at_us && t[end] - t[begin] < CHUNK_US) end++;
        this.#place = end;
        await this.#sink?.events({ t: t.slice(begin, end), x: x.slice(begin, end), y: y.slice(begin, end), p: p.slice(begin, end) });
      }
      await new Promise((resolve) => setTimeout(resolve, CHUNK_US / 1000));
    }
    this.#playing = false;
    if (!this.#stopped) this.#sink?.ended();
  }

  #again() {
    this.#place = this.#at_us = 0;
    this.#sink?.rewound();
    void this.#play();
  }

  #makeControls() {
    const row = document.createElement("div");
    row.className = "control-row";
    const label = document.createElement("label");
    label.className = "field";
    const select = document.createElement("select");
    select.append(...Object.entries(SPEEDS).map(([value, text]) => new Option(text, value, value === "1", value === "1")));
    select.addEventListener("change", () => (this.#speed = Number(select.value)));
    label.append("Speed ", select);
    const again = document.createElement("button");
    Object.assign(again, { className: "button", type: "button", textContent: "From the beginning" });
    again.addEventListener("click", () => this.#again());
    row.append(label, again);
    return row;
  }
}
