/** Where to open a session: asked of a server of the fleet before every connection. */

import { RequestRefused, SaccadeError, ServerUnavailable, ServerUnreachable } from "./errors.js";
import { baseOf, request } from "./connection.js";

/** @typedef {import("./connection.js").Access} Access */

const ANSWER_MS = 3000;
const MOST_KNOWN = 8;

/** Finds the server for one session, at first and after each lost connection. */
export class Finder {
  /** @type {string[]} */ #others = [];
  /** @type {string[]} */ #unreachable = [];

  /** @param {string | URL} url  the server that the caller named @param {string} model @param {Access} access */
  constructor(url, model, access) {
    this.url = url;
    this.model = model;
    this.access = access;
  }

  /** Return the address to dial, and whether a server has chosen it. @returns {Promise<{url: string | URL, placed: boolean}>} @throws {ServerUnavailable} All are full. */
  async find() {
    if (this.access.placement === false) return { url: this.url, placed: false };
    for (const asked of [this.url, ...this.#others]) {
      try {
        return this.#read(await this.#ask(asked));
      } catch (error) {
        if (error instanceof ServerUnavailable && error.code === "slots_exhausted") throw error;
        if (error instanceof RequestRefused || error instanceof ServerUnavailable) break; // the handshake tells why
        if (!(error instanceof SaccadeError)) this.access.signal?.throwIfAborted();
      }
    }
    return { url: this.url, placed: false };
  }

  /** Note that a placed address could not be reached. @param {string | URL} url */
  failed(url) {
    this.#unreachable = [...this.#unreachable.filter((known) => known !== url), String(url)].slice(-MOST_KNOWN);
  }

  /** @param {string | URL} url */
  async #ask(url) {
    const { key, getTicket } = this.access;
    const query = getTicket ? `?ticket=${encodeURIComponent(await getTicket())}` : "";
    const body = JSON.stringify({ model: this.model, unreachable: this.#unreachable });
    const headers = { "Content-Type": "application/json" };
    return request(url, `v1/sessions${query}`, { key: getTicket ? undefined : key, signal: AbortSignal.timeout(ANSWER_MS), method: "POST", body, headers });
  }

  /** @param {{url: string, replica: string | null, others: string[]}} answer */
  #read({ url, replica, others }) {
    if (replica === null) return { url: this.url, placed: false };
    const secure = baseOf(this.url).protocol === "https:";
    if (secure && baseOf(url).protocol !== "https:") throw new ServerUnreachable(`the fleet names ${url}, without TLS; its --advertise should be https`);
    this.#others = others.slice(0, MOST_KNOWN);
    return { url, placed: true };
  }
}
