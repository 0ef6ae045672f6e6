/** The server at a look: health in the header, models and sessions below. */

import { overview } from "../saccade.js";
import { element, short } from "./panel.js";

const POLL_MS = 2000;

/** @typedef {{watch: (session: string) => void, modelsChanged: () => Promise<void>}} Actions */

/** Polls the overview while the page is in sight. */
export class ServerPanel {
  #polling = false;
  /** The version when the page was opened. */
  #version = "";
  #models = "";

  /** @param {URL} server @param {() => import("../saccade.js").Access} access @param {Actions} actions */
  constructor(server, access, actions) {
    this.server = server;
    this.access = access;
    this.actions = actions;
    setInterval(() => void this.poll(), POLL_MS);
    void this.poll();
  }

  async poll() {
    if (document.hidden || this.#polling) return;
    this.#polling = true;
    try {
      const found = await overview(this.server, this.access());
      this.#show(found);
      await this.#compareModels(found.models);
    } catch (error) {
      this.#health("unavailable", /** @type {Error} */ (error).message);
    } finally {
      this.#polling = false;
    }
  }

  /** @param {any[]} models */
  async #compareModels(models) {
    const names = models.map(({ model, model_hash }) => `${model} ${model_hash}`).join();
    if (this.#models && names !== this.#models) await this.actions.modelsChanged();
    this.#models = names;
  }

  /** @param {any} found */
  #show(found) {
    const { health, version, totals, devices } = found;
    this.#version ||= version;
    const device = devices.map((/** @type {any} */ one) => `${one.count} × ${one.kind}`).join(", ");
    const old = version === this.#version ? "" : `; this page is of ${this.#version}: reload it`;
    this.#health(health.status, `Saccade ${version} on ${device}${health.reason ? `: ${health.reason}` : ""}${old}`);
    const rates = `${totals.sessions} ${totals.sessions === 1 ? "session" : "sessions"}, ${short(totals.events_per_s)} events/s, ${short(totals.results_per_s)} results/s`;
    const { p50, p99 } = totals.latency_ms;
    element("totals").textContent = rates + (p50 === null ? "" : `; event to score ${short(p50)} ms (p50), ${short(p99)} ms (p99)`);
    if (!(/** @type {HTMLDetailsElement} */ (element("server")).open)) return;
    this.#table("models", ["model", "state", "sensor", "sessions", "events/s", "p99"], found.models.map((/** @type {any} */ m) => [
      m.model, m.state, m.sensor.slice(0, 2).join(" × "), `${m.sessions}`, short(m.events_per_s), m.latency_ms.p99 === null ? "–" : `${short(m.latency_ms.p99)} ms`,
    ]));
    this.#table("sessions", ["session", "model", "key", "sensor", "events", ""], found.sessions.map((/** @type {any} */ s) => [
      s.session, s.model, s.holder || "–", s.sensor.slice(0, 2).join(" × "), short(s.events), found.watching ? this.#watchButton(s.session) : "",
    ]));
  }

  /** @param {string} state @param {string} text */
  #health(state, text) {
    element("health").dataset.state = state;
    if (element("health").textContent !== text) element("health").textContent = text;
  }

  /** @param {string} session */
  #watchButton(session) {
    const button = document.createElement("button");
    button.className = "button";
    button.textContent = "Watch";
    button.setAttribute("aria-label", `Watch session ${session}`);
    button.addEventListener("click", () => this.actions.watch(session));
    return button;
  }

  /** @param {string} id @param {string[]} names @param {(string | Node)[][]} rows */
  #table(id, names, rows) {
    if (element(id).contains(document.activeElement)) return; // not under a finger
    const made = [names, ...rows].map((cells, i) => {
      const row = document.createElement("tr");
      row.append(...cells.map((cell) => {
        const box = document.createElement(i ? "td" : "th");
        box.append(cell);
        return box;
      }));
      return row;
    });
    element(id).replaceChildren(...made);
  }
}
