/** The page at `/`: a source of events, the model's scores of it, and the server. */

import { listModels } from "../saccade.js";
import { access, enter } from "./keys.js";
import { Live } from "./live.js";
import { ServerPanel } from "./overview.js";
import { Figures, Scores, element } from "./panel.js";
import { KINDS } from "./sources/index.js";
import { Timeline } from "./timeline.js";
import { EventView, Recent } from "./view.js";

/** @typedef {import("./sources/source.js").SourceKind} SourceKind */

const SERVER = new URL(".", location.href);
SERVER.hash = SERVER.search = "";
const FIGURES_MS = 250;
const TIMELINE_MS = 50;
const STEP_US = 10_000;
const STEERED = /** @type {const} */ (["onpointerdown", "onpointermove", "onpointerup", "onpointercancel", "onwheel", "onkeydown", "onkeyup", "onblur"]);

const view = new EventView(/** @type {HTMLCanvasElement} */ (element("events")));
const recent = new Recent();
const scores = new Scores();
const timeline = new Timeline(/** @type {HTMLCanvasElement} */ (element("timeline")), element("hover"));
const decay = /** @type {HTMLInputElement} */ (element("decay"));
const scrub = /** @type {HTMLInputElement} */ (element("scrub"));
const modelChoice = /** @type {HTMLSelectElement} */ (element("model"));
const stage = element("stage");

/** @type {any[]} */ let models = [];
/** @type {Live | null} */ let live = null;
/** @type {SourceKind} */ let kind = KINDS[0];
/** @type {Record<string, string>} */ let settings = {};
let now_us = 0;
let paused = false;
let choices = 0;
/** The newest probabilities, (c,); shown with the next picture. @type {number[] | null} */ let newest = null;
let colors = readColors();

/** @type {import("./live.js").Views} */
const VIEWS = {
  events(events) {
    recent.add(events);
    if (paused) return;
    view.add(events);
    if (events.t.length) now_us = events.t[events.t.length - 1];
  },
  scores(t_us, p) {
    newest = p;
    timeline.add(t_us, p);
  },
  cleared: clear,
  finished() {
    scores.show(newest);
    setFinished(true);
  },
  told: tell,
};

/** @param {boolean} whether  a recording has been played and scored to its end */
function setFinished(whether) {
  element("events-shown").dataset.finished = `${whether}`;
  element("events-shown").textContent = whether ? "played to its end: these are its final scores" : "";
}

function clear() {
  setFinished(false);
  view.clear();
  recent.clear();
  timeline.clear(scores.labels);
  scores.show((newest = null));
  now_us = 0;
}

/** Show a sentence about what is wrong; an empty one hides it. @param {string} text */
function tell(text) {
  element("message").hidden = !text;
  if (element("message").textContent !== text) element("message").textContent = text;
}

/** @returns {import("./view.js").Colors} */
function readColors() {
  const style = getComputedStyle(document.documentElement);
  const read = (/** @type {string} */ name) => style.getPropertyValue(name).trim();
  return { on: read("--on"), off: read("--off"), empty: read("--empty") };
}

function model() {
  return models.find((one) => one.model === modelChoice.value) ?? models[0];
}

/** @param {File} [file] @returns {import("./sources/source.js").Context} */
function context(file) {
  const { model: name, sensor: [width, height], labels } = model();
  const choice = choices;
  const told = (/** @type {string} */ text) => void (choice === choices && tell(text));
  return { model: { name, sensor: { width, height }, labels }, server: SERVER, settings, file, told, credentials: async () => access() };
}

/** Begin with a kind of source, in place of the one that runs. @param {SourceKind} chosen @param {File} [file] */
async function choose(chosen, file) {
  const choice = ++choices;
  kind = chosen;
  live?.stop();
  live = null;
  tell("");
  setPaused(false);
  showKind();
  const asked = chosen.panel && !Object.keys(settings).length && !file ? chosen.panel(context()) : null;
  element("panel").hidden = !asked;
  element("panel").replaceChildren(...(asked ? [asked] : []));
  asked?.addEventListener("choose", (event) => {
    settings = /** @type {CustomEvent} */ (event).detail;
    void choose(chosen, /** @type {any} */ (event).detail.file);
  });
  if (asked) return;
  try {
    const source = await chosen.open(context(file));
    if (choice !== choices) return source.stop();
    await begin(source);
  } catch (error) {
    if (choice === choices) tell(/** @type {Error} */ (error).message);
  }
}

/** @param {import("./sources/source.js").Source} source */
async function begin(source) {
  fitModel(source);
  for (const steered of STEERED) stage[steered] = null;
  scores.clear(source.labels ?? model().labels);
  clear();
  view.setSensor(source.sensor);
  layOut();
  element("guide").textContent = source.guide ?? kind.describe;
  element("title").textContent = `${source.title}, ${source.sensor.width} × ${source.sensor.height}`;
  element("note").textContent = source.note ?? "";
  element("controls").replaceChildren(...(source.controls ? [source.controls] : []));
  for (const child of [...stage.children]) if (child.id !== "events" && child.id !== "field") child.remove();
  source.attach?.(stage);
  share();
  live = new Live(SERVER, model(), source, VIEWS, access());
  await live.start();
}

/** Take a model of the source's own sensor, where the chosen one has another. @param {import("./sources/source.js").Source} source */
function fitModel({ sensor, model: named }) {
  const same = models.filter((one) => one.sensor[0] === sensor.width && one.sensor[1] === sensor.height);
  const found = models.find((one) => one.model === named) ?? (same.includes(model()) ? model() : same[0]);
  if (found) modelChoice.value = found.model;
}

function showKind() {
  for (const button of element("kinds").children) button.setAttribute("aria-pressed", `${/** @type {HTMLElement} */ (button).dataset.kind === kind.kind}`);
}

function layOut() {
  const { clientWidth, clientHeight } = element("frame");
  view.fit(clientWidth, clientHeight);
  const { sensor } = view;
  const [width, height] = model()?.sensor ?? [1, 1];
  const same = sensor.width === width && sensor.height === height;
  const scale = Math.max(sensor.width / width, sensor.height / height);
  const field = element("field");
  field.hidden = same;
  const part = (/** @type {number} */ share) => `${100 * share}%`;
  field.style.width = part((width * scale) / sensor.width);
  field.style.height = part((height * scale) / sensor.height);
  field.style.left = part((1 - (width * scale) / sensor.width) / 2);
  field.style.top = part((1 - (height * scale) / sensor.height) / 2);
  element("fitted").textContent = same ? "" : `scaled to the model's ${width} × ${height} (dashed)`;
}

/** @param {boolean} whether */
function setPaused(whether) {
  paused = whether;
  element("pause").textContent = paused ? "Go on" : "Pause";
  element("pause").setAttribute("aria-pressed", `${paused}`);
  scrub.disabled = !paused;
  if (paused) live?.source.pause();
  else {
    live?.source.resume();
    [, now_us] = recent.span;
    scrub.value = scrub.max;
    recent.show(view, now_us, Number(decay.value));
  }
}

/** Show a moment of the last seconds. @param {number} t_us */
function seek(t_us) {
  if (!paused) setPaused(true);
  const [oldest, newest] = recent.span;
  now_us = Math.min(newest, Math.max(oldest, t_us));
  scrub.value = `${(1000 * (now_us - oldest)) / Math.max(1, newest - oldest)}`;
  recent.show(view, now_us, Number(decay.value));
}

/** Write what is shown into the address: never a key. */
function share() {
  const kept = { ...live?.source.settings?.(), ...settings };
  delete kept.file;
  const fragment = new URLSearchParams({ model: model().model, source: kind.kind, decay: decay.value, ...kept });
  history.replaceState(null, "", `#${fragment}`);
}

/** Take what the address says; return the source, and sentences about what cannot be had. */
function readShared() {
  const { model: name, source, decay: ms, ...rest } = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  settings = rest;
  const missing = [];
  if (models.some((one) => one.model === name)) modelChoice.value = name;
  else if (name) missing.push(`This server has no model ${name}; ${model().model} is shown.`);
  if (ms && Number(ms) > 0) decay.value = ms;
  element("decay-ms").textContent = `${decay.value} ms`;
  const found = KINDS.find((one) => one.kind === source);
  if (found?.takesFile) missing.push(`The link is of a recording${rest.recording ? `, ${rest.recording},` : ""} which no link can hold: choose it with “${found.name}”, or drop it here.`);
  else if (found?.unavailable()) missing.push(`${found.name}: ${found.unavailable()}`);
  const first = found && !found.takesFile && !found.unavailable() ? found : KINDS[0];
  if (first !== found) settings = {};
  return { first, missing: missing.join(" ") };
}

/** Offer the server's models; the chosen one stays where it still is one. */
function showModels() {
  const chosen = modelChoice.value;
  modelChoice.replaceChildren(...models.map((one) => new Option(one.model, one.model)));
  if (models.some((one) => one.model === chosen)) modelChoice.value = chosen;
}

function addButtons() {
  const input = document.createElement("input");
  input.type = "file";
  input.hidden = true;
  input.id = "file";
  input.setAttribute("aria-label", "Recording");
  input.addEventListener("change", () => input.files?.[0] && openFile(input.files[0]));
  const buttons = KINDS.map((one) => {
    const button = document.createElement("button");
    const missing = one.unavailable();
    Object.assign(button, { className: "button", type: "button", textContent: one.name, title: missing ?? one.describe, disabled: missing !== null });
    button.dataset.kind = one.kind;
    button.addEventListener("click", () => {
      settings = {};
      if (one.takesFile) input.click();
      else void choose(one);
    });
    return button;
  });
  element("kinds").append(...buttons, input);
}

/** @param {File} file */
function openFile(file) {
  const takes = KINDS.find((one) => one.takesFile);
  settings = {};
  if (takes) void choose(takes, file);
}

function listen() {
  modelChoice.addEventListener("change", () => void choose(kind.takesFile ? KINDS[0] : kind));
  decay.addEventListener("input", () => {
    element("decay-ms").textContent = `${decay.value} ms`;
    if (paused) seek(now_us);
    share();
  });
  scrub.addEventListener("input", () => {
    const [oldest, newest] = recent.span;
    seek(oldest + (Number(scrub.value) / 1000) * (newest - oldest));
  });
  element("pause").addEventListener("click", () => setPaused(!paused));
  element("back").addEventListener("click", () => seek(now_us - STEP_US));
  element("step").addEventListener("click", () => seek(now_us + STEP_US));
  element("share").addEventListener("click", async () => {
    share();
    await navigator.clipboard?.writeText(location.href).catch(() => {});
    element("share").textContent = kind.takesFile ? "Copied, without the file" : "Copied";
    setTimeout(() => (element("share").textContent = "Copy link"), 1500);
  });
  stage.addEventListener("keydown", (event) => {
    /** @type {Record<string, () => void>} */
    const actions = { " ": () => setPaused(!paused), ",": () => seek(now_us - STEP_US), ".": () => seek(now_us + STEP_US) };
    if (!actions[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    actions[event.key]();
  });
  const frame = element("frame");
  document.addEventListener("dragover", (event) => (event.preventDefault(), frame.classList.add("dropping")));
  document.addEventListener("dragleave", () => frame.classList.remove("dropping"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    frame.classList.remove("dropping");
    const file = event.dataTransfer?.files[0];
    if (file) openFile(file);
  });
  window.addEventListener("hashchange", () => location.reload()); // a link pasted into this tab
  new ResizeObserver(layOut).observe(frame);
  matchMedia("(prefers-color-scheme: light)").addEventListener("change", () => (colors = readColors()));
}

/** Figures of the session, for the last quarter of a second. */
function figures() {
  let [before, at] = [0, performance.now()];
  const stats = () => live?.session?.stats;
  const latency = (/** @type {number} */ part) => {
    const sorted = [...(stats()?.latenciesMs.slice(-200) ?? [])].sort((a, b) => a - b);
    return sorted.length ? sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] : null;
  };
  const rate = () => {
    const [events, now] = [live?.events ?? 0, performance.now()];
    const found = (1000 * Math.max(0, events - before)) / Math.max(1, now - at);
    [before, at] = [events, now];
    return live ? found : null;
  };
  return new Figures([
    { name: "events/s", unit: "", read: rate },
    { name: "latency p50", unit: " ms", read: () => latency(0.5) },
    { name: "latency p99", unit: " ms", read: () => latency(0.99) },
    { name: "lag", unit: " ms", read: () => stats()?.lagMs ?? null },
    { name: "under way", unit: "", read: () => live?.session?.unackedEvents ?? null },
    { name: "dropped", unit: "", read: () => stats()?.droppedEvents ?? null },
    { name: "reconnects", unit: "", read: () => stats()?.reconnects ?? null },
  ]);
}

function draw() {
  view.draw(now_us, Number(decay.value), colors);
  scores.show(newest);
  requestAnimationFrame(draw);
}

async function main() {
  addButtons();
  listen();
  const shown = figures();
  setInterval(() => shown.update(), FIGURES_MS);
  setInterval(() => timeline.draw(), TIMELINE_MS);
  requestAnimationFrame(draw);
  models = await enter(SERVER, tell);
  showModels();
  const { first, missing } = readShared();
  const watched = KINDS.find((one) => one.kind === "watch");
  new ServerPanel(SERVER, access, {
    watch(session) {
      settings = { session };
      if (watched) void choose(watched);
    },
    async modelsChanged() {
      models = await listModels(SERVER, access());
      showModels();
    },
  });
  const chosen = choose(first);
  if (missing) tell(missing);
  await chosen;
}

main().catch((error) => tell(error.message));
