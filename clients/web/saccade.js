/**
 * The JavaScript SDK of Saccade: streams an event camera to a server and receives class
 * scores while the scene is still happening. For browsers, Node and Deno; docs/sdk-javascript.md.
 *
 *     const session = await connect("https://host:8000/", { model: "motions" });
 *     session.on("result", ({ label, confidence }) => console.log(label, confidence));
 *     await session.send({ t, x, y, p }); // typed arrays; t in µs
 *     console.log(await session.close());
 */

import { getTicket, request } from "./connection.js";
import { InvalidChoice } from "./errors.js";
import { Finder } from "./placement.js";
import { Attempts, open } from "./reconnecting.js";
import { Session } from "./session.js";
import { watch } from "./watch.js";

export * from "./errors.js";
export { Session, getTicket, watch };

/** @typedef {import("./connection.js").Access} Access */
/** @typedef {import("./session.js").SessionOptions} SessionOptions */

/**
 * Open a session.
 *
 * @param {string | URL} url  the server's address, as https://host:8000/
 * @param {SessionOptions & Access} options
 * @returns {Promise<Session>}
 * @throws {SaccadeError} The server refuses the session, or none answers; see errors.js.
 */
export async function connect(url, options) {
  const opening = openingOf(options);
  const attempts = new Attempts(options.giveUpS ?? 120, options.signal);
  const finder = new Finder(url, options.model, options);
  for (;;) {
    try {
      return new Session(finder, options, opening, await open(finder, opening));
    } catch (error) {
      await attempts.wait(error, false);
    }
  }
}

/** Return the models of a server. @param {string | URL} url @param {Access} [access] @returns {Promise<any[]>} */
export async function listModels(url, access) {
  return (await request(url, "v1/models", access)).models;
}

/** Return the key's sessions. @param {string | URL} url @param {Access} [access] @returns {Promise<any[]>} */
export async function listSessions(url, access) {
  return (await request(url, "v1/sessions", access)).sessions;
}

/** Return what goes on in the whole server. @param {string | URL} url @param {Access} [access] @returns {Promise<any>} */
export async function overview(url, access) {
  return request(url, "v1/overview", access);
}

/**
 * Score recordings whole, of every format that the server reads; docs/rest.md explains the answer.
 *
 * @param {string | URL} url
 * @param {File[]} recordings  their names' suffixes tell the format
 * @param {{model: string, fit?: "reject" | "scale" | "crop", invalid?: "reject" | "skip"} & Access} options
 * @returns {Promise<any>} of each recording its scores, or why there are none
 */
export async function classify(url, recordings, { model, fit = "reject", invalid = "reject", ...access }) {
  const body = new FormData();
  for (const [name, value] of Object.entries({ model, fit, invalid })) body.set(name, value);
  for (const recording of recordings) body.append("recordings", recording);
  return request(url, "v1/classify", { ...access, method: "POST", body });
}

/** @param {SessionOptions} options */
function openingOf(options) {
  if (!options?.model) throw new InvalidChoice("connect needs a model: one of listModels");
  const drops = options.whenFull === "drop-oldest";
  const lag = options.maxLagMs === undefined && drops ? 100 : options.maxLagMs;
  return {
    type: "open",
    protocol: 1,
    model: options.model,
    sensor: options.sensor && [options.sensor.width, options.sensor.height],
    fit: options.fit,
    encoding: options.encoding,
    report: options.report,
    readout: options.halfLifeMs === undefined ? undefined : { window: "half_life", half_life_ms: options.halfLifeMs },
    clock_bits: options.clockBits,
    when_full: options.whenFull,
    results: options.results,
    max_lag_ms: lag,
    invalid: options.invalid,
  };
}
