/** One source before one model: its events go to the views and to a session. */

import { ServerUnavailable, ServerUnreachable, connect } from "../saccade.js";
import { softmax } from "./timeline.js";

/** @typedef {import("./sources/source.js").Source} Source */
/** @typedef {import("./sources/source.js").Events} Events */
/** @typedef {import("./sources/source.js").Sink} Sink */

/**
 * @typedef {object} Views
 * @property {(events: Events) => void} events
 * @property {(t_us: number, p: number[]) => void} scores
 * @property {() => void} cleared
 * @property {(text: string) => void} told  a sentence, or nothing
 * @property {() => void} finished  a recording has been played and scored to its end
 */

const REPORT_MS = 20;
const AGAIN_MS = 1000;
const GIVE_UP_S = 3600;
const FORGOTTEN = new Set(["unknown_session", "session_deleted", "model_changed"]);

/** Runs a source until it is stopped. */
export class Live {
  /** @type {import("../saccade.js").Session | null} */ session = null;
  events = 0;
  stopped = false;

  /** @param {URL} server @param {any} model @param {Source} source @param {Views} views @param {import("../saccade.js").Access} access */
  constructor(server, model, source, views, access) {
    this.server = server;
    this.model = model;
    this.source = source;
    this.views = views;
    this.access = access;
  }

  /** Open the session, and start the source. */
  async start() {
    if (!this.source.scored) await this.#connect();
    if (this.stopped) return this.stop();
    await this.source.start(this.#sink());
  }

  /** Open the session, however long the server is away. */
  async #connect() {
    for (let away = false; ; away = true) {
      try {
        await this.#open();
        if (away) this.views.told("");
        return;
      } catch (error) {
        if (!(error instanceof ServerUnreachable || error instanceof ServerUnavailable)) throw error;
        this.views.told(`${error.message}; trying again.`);
        await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
        if (this.stopped) return;
      }
    }
  }

  async #open() {
    const { source } = this;
    const session = await connect(this.server, {
      ...this.access,
      placement: false, // the page's policy lets it reach its own server alone
      model: this.model.model,
      sensor: source.sensor,
      fit: "scale",
      report: { every: "ms", n: REPORT_MS },
      halfLifeMs: source.halfLifeMs,
      whenFull: source.live ? "drop-oldest" : "block",
      results: source.live ? "latest" : "all",
      invalid: "skip",
      giveUpS: GIVE_UP_S,
    });
    session.on("result", (result) => this.stopped || this.views.scores(Number(result.t_us), softmax(result.logits)));
    session.on("reconnecting", () => this.stopped || this.views.told("The connection is lost; trying to come back. Nothing is forgotten."));
    session.on("reconnected", () => this.views.told(""));
    session.on("failed", (error) => this.stopped || this.#replace(error));
    this.session = session;
  }

  /** Open another session for a live source, whose past does not matter, where the server has forgotten this one. @param {any} error */
  #replace(error) {
    if (!this.source.live || !FORGOTTEN.has(error.code)) return this.views.told(`${error.message}. Choose the source again for a new session.`);
    this.views.told("The server has forgotten the session, and a new one has begun.");
    this.#connect().catch((failure) => this.views.told(failure.message));
  }

  /** @returns {Sink} */
  #sink() {
    return {
      events: async (events) => {
        if (this.stopped) return;
        this.events += events.t.length;
        this.views.events(events);
        await this.#send(events);
      },
      ended: () => void this.#finish(),
      failed: (error) => this.views.told(error.message),
      told: (text) => this.stopped || this.views.told(text),
      scores: ({ t_us, logits }) => this.views.scores(Number(t_us), softmax(logits)),
      rewound: () => {
        this.views.cleared();
        void this.session?.reset().catch(() => {});
      },
    };
  }

  /** @param {Events} events */
  async #send(events) {
    const { session } = this;
    try {
      await session?.send(events);
    } catch (error) {
      this.#tell(error, session);
    }
  }

  /** Show the final scores of a recording. */
  async #finish() {
    const { session } = this;
    if (this.stopped) return;
    try {
      const final = await session?.flush();
      if (final?.logits && !this.stopped) this.views.scores(Number(final.t_us), softmax(final.logits));
      if (!this.stopped) this.views.finished();
    } catch (error) {
      this.#tell(error, session);
    }
  }

  /** Show why something failed; a session's own end is shown when it comes. @param {any} error @param {import("../saccade.js").Session | null} session */
  #tell(error, session) {
    if (!this.stopped && error !== session?.failure) this.views.told(error.message);
  }

  /** End source and session. */
  stop() {
    this.stopped = true;
    this.source.stop();
    this.session?.abort();
  }
}
