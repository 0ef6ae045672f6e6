/** One websocket to a server: from its address and a key to an open connection. */

import { decode, encode } from "./msgpack.js";
import { ConnectionLost, RequestRefused, SaccadeError, ServerUnavailable, ServerUnreachable } from "./errors.js";

/**
 * How to reach a server.
 *
 * @typedef {object} Access
 * @property {string} [key]  an API key; a ticket is fetched with it for every connection
 * @property {() => Promise<string>} [getTicket]  fetches a ticket elsewhere, in place of `key`; called for each placement and for each connection
 * @property {AbortSignal} [signal]  ends what waits
 * @property {boolean} [placement]  false: dial the address as it is, and ask no fleet
 * @property {typeof globalThis.WebSocket} [WebSocket]  where there is no global one (Node 20)
 */

const OPEN_S = 30;

/** Return an address that ends in a slash. @param {string | URL} url  http(s) or ws(s) */
export function baseOf(url) {
  const base = new URL(url);
  base.protocol = base.protocol.replace(/^ws/, "http");
  base.search = base.hash = "";
  if (!base.pathname.endsWith("/")) base.pathname += "/";
  return base;
}

/**
 * Ask a server by HTTP and return its JSON answer.
 *
 * @param {string | URL} url  the server's address
 * @param {string} path  as `v1/models`
 * @param {Access & {method?: string, body?: BodyInit, headers?: Record<string, string>}} [options]
 * @returns {Promise<any>}
 * @throws {ServerUnreachable} No server answers.
 * @throws {ServerUnavailable} It answers that it takes nothing for the moment.
 * @throws {RequestRefused} It refuses the request; the error has its reason.
 */
export async function request(url, path, { key, signal, method = "GET", body, headers = {} } = {}) {
  const authorized = key ? { ...headers, Authorization: `Bearer ${key}` } : headers;
  const target = new URL(path, baseOf(url));
  let response;
  try {
    response = await fetch(target, { method, body, headers: authorized, signal });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ServerUnreachable(`no server answers at ${target.origin}`);
  }
  const answer = await response.json().catch(() => null);
  if (response.ok) return answer;
  const detail = answer?.detail ?? `the server answered with HTTP status ${response.status}`;
  if (response.status === 503) throw new ServerUnavailable(detail, 1000 * Number(response.headers.get("Retry-After") ?? 1), answer?.code);
  throw new RequestRefused(response.status, answer?.code ?? null, detail);
}

/** Return a ticket: it opens one websocket, once, within 30 s. @param {string | URL} url @param {Access} access @returns {Promise<string>} */
export async function getTicket(url, access) {
  return (await request(url, "v1/tickets", { ...access, method: "POST" })).ticket;
}

/** @typedef {{message?: any, lost?: ConnectionLost}} Arrival  a message, or the end */

/** A websocket whose messages are the protocol's; what nobody takes yet waits. */
export class Connection {
  /** @type {((arrival: Arrival) => void) | null} */ #take = null;
  /** @type {Arrival[]} */ #waiting = [];
  /** @type {(value: unknown) => void} */ #arrived = () => {};

  /** @param {WebSocket} socket  open */
  constructor(socket) {
    this.socket = socket;
    socket.onmessage = ({ data }) => this.#receive(data);
    socket.onerror = () => {};
    socket.onclose = ({ code, reason }) => this.#arrive({ lost: new ConnectionLost(code, reason) });
  }

  /** Give what has come and comes to a function. @param {(message: any) => void} onMessage @param {(lost: ConnectionLost) => void} onClose */
  listen(onMessage, onClose) {
    this.#take = ({ message, lost }) => (lost ? onClose(lost) : onMessage(message));
    for (const arrival of this.#waiting.splice(0)) this.#take(arrival);
  }

  /** Return the next message; what follows waits. @returns {Promise<any>} @throws {ConnectionLost} */
  async next() {
    if (!this.#waiting.length) await new Promise((resolve) => (this.#arrived = resolve));
    const { message, lost } = /** @type {Arrival} */ (this.#waiting.shift());
    if (lost) throw lost;
    return message;
  }

  /** @param {Arrival} arrival */
  #arrive(arrival) {
    if (this.#take) return this.#take(arrival);
    this.#waiting.push(arrival);
    this.#arrived(null);
  }

  /** Bytes that the websocket has taken and not sent. */
  get buffered() {
    return this.socket.bufferedAmount;
  }

  /** Send a message; nothing where the connection is closing. @param {import("./msgpack.js").Value} message */
  send(message) {
    if (this.socket.readyState === 1) this.socket.send(encode(message));
  }

  /** Whether its server gives no sign of life to a request, which JavaScript has in place of a ping. @param {string | URL} url @param {number} withinMs @returns {Promise<boolean>} */
  async hangs(url, withinMs) {
    const asking = fetch(new URL("healthz", baseOf(url)), { signal: AbortSignal.timeout(withinMs) });
    return asking.then(
      () => false,
      (error) => error.name === "TimeoutError", // what is refused or unknown says nothing about the websocket
    );
  }

  /** Give the connection up at once, as one whose network is gone. */
  drop() {
    this.socket.onmessage = this.socket.onclose = null;
    this.socket.close(4000);
    this.#arrive({ lost: new ConnectionLost(4000, "the server gives no sign of life") });
  }

  /** Close the websocket. @param {number} [code]  1000 ends the session; another leaves it for a resume */
  close(code = 4000) {
    this.socket.close(code);
  }

  /** @param {unknown} data */
  #receive(data) {
    let message;
    try {
      message = data instanceof ArrayBuffer ? decode(data) : JSON.parse(String(data));
    } catch {
      return this.close(4000); // no message of a Saccade server: as if it were lost
    }
    this.#arrive({ message });
  }
}

/**
 * Open a websocket.
 *
 * @param {string | URL} url  the server's address
 * @param {string} path  as `v1/stream`, with its query
 * @param {Access} access
 * @returns {Promise<Connection>}
 * @throws {SaccadeError} See `request`; a refused handshake is explained by a request.
 */
export async function dial(url, path, access) {
  const Socket = access.WebSocket ?? globalThis.WebSocket;
  if (!Socket) throw new SaccadeError("this JavaScript has no WebSocket: give the option WebSocket, as of the package ws");
  const target = new URL(path, baseOf(url));
  target.protocol = target.protocol.replace("http", "ws");
  const ticket = access.getTicket ? await access.getTicket() : access.key && (await getTicket(url, access));
  if (ticket) target.searchParams.set("ticket", ticket);
  access.signal?.throwIfAborted();
  const socket = new Socket(target);
  socket.binaryType = "arraybuffer";
  if (await opened(socket, access.signal)) return new Connection(socket);
  access.signal?.throwIfAborted();
  throw await refusal(url, access);
}

/** @param {WebSocket} socket @param {AbortSignal | undefined} signal @returns {Promise<boolean>} */
function opened(socket, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(() => socket.close(), 1000 * OPEN_S);
    const abort = () => socket.close();
    signal?.addEventListener("abort", abort);
    /** @param {boolean} whether */
    const settle = (whether) => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
      resolve(whether);
    };
    socket.onopen = () => settle(true);
    socket.onclose = () => settle(false);
    socket.onerror = () => {};
  });
}

/** Return why a websocket did not open, which JavaScript is not told. @param {string | URL} url @param {Access} access @returns {Promise<SaccadeError>} */
async function refusal(url, access) {
  try {
    await request(url, "readyz", access);
    if (!access.getTicket) await getTicket(url, access); // a POST: a browser names the page's origin, as with the websocket
  } catch (error) {
    if (error instanceof SaccadeError) return error;
    throw error;
  }
  return new ConnectionLost(1006, "the websocket was refused, or cut off");
}
