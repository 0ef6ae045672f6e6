/** Another session, watched: its events, thinned, and its scores. */

import { ServerUnavailable, ServerUnreachable, overview, watch } from "../../saccade.js";

/** @typedef {import("./source.js").Source} Source */
/** @typedef {import("./source.js").Sink} Sink */

const RETURN_MS = 1000;
const GONE_MS = 3_600_000;

/** @type {import("./source.js").SourceKind} */
export const WATCH = {
  kind: "watch",
  name: "Watch a session",
  describe: "Shows a session that another program streams; watching costs it nothing that it notices.",
  unavailable: () => null,
  panel: askFor,
  async open({ server, settings, credentials }) {
    const access = await credentials();
    const { sessions, watching } = await overview(server, access);
    if (!watching) throw new Error("This server was started with --no-watch: its sessions cannot be watched.");
    if (!sessions.some((/** @type {any} */ { session }) => session === settings.session)) {
      throw new Error(`No session ${settings.session} runs here now. “Watch a session” lists those that do.`);
    }
    const messages = await watch(server, settings.session, access);
    const { value: first } = await messages.next();
    return new Watched(server, first, messages, credentials);
  },
};

/** @param {import("./source.js").Context} context */
function askFor({ server, credentials }) {
  const row = document.createElement("div");
  row.className = "control-row";
  row.textContent = "Looking for sessions …";
  const list = async () => {
    try {
      const found = (await overview(server, await credentials())).sessions;
      row.replaceChildren(...(found.length ? found.map(choice) : ["No session runs now. Begin one, for instance with `saccade stream sim:motions`, then choose this again."]));
    } catch (error) {
      row.textContent = /** @type {Error} */ (error).message;
    }
  };
  /** @param {any} session */
  const choice = ({ session, model, holder }) => {
    const button = document.createElement("button");
    Object.assign(button, { className: "button", type: "button", textContent: [session, model, holder].filter(Boolean).join(" · ") });
    button.addEventListener("click", () => row.dispatchEvent(new CustomEvent("choose", { detail: { session } })));
    return button;
  };
  void list();
  return row;
}

/** @implements {Source} */
class Watched {
  kind = "watch";
  live = true;
  scored = true;
  guide = "This session belongs to another program; here it is only watched.";
  #stopped = false;
  #paused = false;

  /** @param {URL} server @param {any} first @param {AsyncGenerator<any>} messages @param {import("./source.js").Context["credentials"]} credentials */
  constructor(server, first, messages, credentials) {
    this.server = server;
    this.messages = messages;
    this.credentials = credentials;
    this.session = first.session;
    this.title = `session ${first.session}`;
    this.sensor = { width: first.sensor[0], height: first.sensor[1] };
    this.labels = first.labels;
    this.model = first.model;
  }

  settings() {
    return { session: this.session };
  }

  /** @param {Sink} sink */
  async start(sink) {
    void this.#run(sink);
  }

  pause() {
    this.#paused = true;
  }

  resume() {
    this.#paused = false;
  }

  stop() {
    this.#stopped = true;
    void this.messages.return(undefined);
  }

  /** @param {Sink} sink */
  async #run(sink) {
    while (!this.#stopped) {
      let reason = "lost";
      try {
        for await (const message of this.messages) {
          if (message.type === "ended") reason = message.reason;
          else if (!this.#stopped) this.#show(message, sink);
        }
      } catch {
        // The connection or the server is gone: the session may come back.
      }
      if (this.#stopped) return;
      if (reason === "closed") return sink.failed(new Error("The session has ended; what it showed last stays."));
      sink.told(reason === "lost" ? "The connection to the server is lost; trying again." : "The session has lost its client; waiting for it to come back.");
      if (!(await this.#returned(sink))) return this.#stopped || sink.failed(new Error("The session has not come back; what it showed last stays."));
      sink.told("");
    }
  }

  /** @param {any} message @param {Sink} sink */
  #show(message, sink) {
    if (this.#paused) return;
    if (message.type === "events") void sink.events(message);
    if (message.type === "result") sink.scores(message);
    if (message.type === "reset" || message.type === "watching") sink.rewound();
  }

  /** Wait until the session has a client again. @param {Sink} sink */
  async #returned(sink) {
    for (const began = performance.now(); performance.now() - began < GONE_MS && !this.#stopped; ) {
      await new Promise((resolve) => setTimeout(resolve, RETURN_MS));
      try {
        const access = await this.credentials();
        const { sessions } = await overview(this.server, access);
        sink.told("The session has no client now; waiting for it to come back.");
        if (!sessions.some((/** @type {any} */ { session }) => session === this.session)) continue;
        this.messages = await watch(this.server, this.session, access);
        return true;
      } catch (error) {
        if (error instanceof ServerUnavailable || error instanceof ServerUnreachable) sink.told(`${error.message}; trying again.`);
      }
    }
    return false;
  }
}
