/** The server at a look: health in the header, models and sessions below. */

import { overview } from "../saccade.js";
import { element, short } from "./panel.js";

const POLL_MS = 2000;

/** Polls the overview while the page is in sight. */
export class ServerPanel {
  /** @param {URL} server @param {() => import("../saccade.js").Access} access @param {(session: string) => void} onWatch */
  constructor(server, access, onWatch) {
    this.server = server;
    this.access = access;
    this.onWatch = onWatch;
    setInterval(() => void this.poll(), POLL_MS);
    void this.poll();
  }

  async poll() {
    if (document.hidden) return;
    let found;
    try {
      found = await overview(this.server, this.access());
    } catch (error) {
      return this.#health("unavailable", /** @type {Error} */ (error).message);
    }
    const { health, version, totals, devices } = found;
    const device = devices.map((/** @type {any} */ one) => `${one.count} × ${one.kind}`).join(", ");
    this.#health(health.status, `Saccade ${version} on ${device}${health.reason ? `: ${health.reason}` : ""}`);
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
    button.addEventListener("click", () => this.onWatch(session));
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
