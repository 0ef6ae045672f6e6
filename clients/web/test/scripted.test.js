/** Sessions against a server that follows a script, over a real websocket. */

import assert from "node:assert/strict";
import { createServer } from "node:http";
import test from "node:test";
import WebSocket, { WebSocketServer } from "ws";
import { decode, encode } from "../msgpack.js";
import { connect } from "../saccade.js";

const Socket = /** @type {typeof globalThis.WebSocket} */ (/** @type {unknown} */ (WebSocket));
const OPENED = {
  type: "opened", session: "s", model: "toy", model_hash: "", labels: ["a", "b"], sensor: [8, 8, 2], tick_events: 4,
  window_events: 4000, window_bytes: 32000, max_frame_bytes: 16384, resume: "token", resume_ttl_ms: 60000, resumed: false, seq: 0,
};

/** @param {number} ticks @param {object} [fields] */
function result(ticks, fields) {
  return { type: "result", seq: ticks, ticks, events: 4 * ticks, t_us: ticks, logits: [0.5, 0.5], label: "a", confidence: 0.5, ...fields };
}

/** @param {number} count */
function events(count) {
  const column = new Array(count).fill(1);
  return { t: column, x: column, y: column, p: column };
}

/**
 * Serve websockets, each by the next part of a script, and run a test before them.
 *
 * @param {((send: (message: any) => void, socket: WebSocket, message: any) => void)[]} script  called for each message
 * @param {(url: string) => Promise<void>} run
 */
async function scripted(script, run) {
  const server = new WebSocketServer({ port: 0, host: "127.0.0.1" });
  let count = 0;
  server.on("connection", (socket) => {
    const part = script[count++];
    const send = (/** @type {any} */ message) => socket.send(encode(message));
    socket.on("message", (data) => part(send, socket, decode(/** @type {Buffer} */ (data))));
  });
  await new Promise((resolve) => server.on("listening", () => resolve(null)));
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  try {
    await run(`http://127.0.0.1:${port}/`);
  } finally {
    for (const socket of server.clients) socket.terminate();
    server.close();
  }
}

/** @param {import("../session.js").Session} session @param {string} type @param {(detail: any) => boolean} [wanted] */
function once(session, type, wanted = () => true) {
  return new Promise((resolve) => session.on(type, (detail) => wanted(detail) && resolve(detail)));
}

/** @param {any} last */
const closed = (last) => ({ type: "closed", seq: 0, ticks: 0, events: 0, pending: 0, t_us: null, logits: null, label: null, confidence: null, ...last });

test("a session whose tickets come from elsewhere is placed with one and opened with the next", async () => {
  /** @type {(string | undefined)[]} */ const asked = [];
  const place = createServer((request, response) => {
    asked.push(request.url);
    request.resume();
    response.setHeader("Content-Type", "application/json");
    response.end(JSON.stringify({ url: there, replica: "b", model: "toy", expires_s: 2, others: [] }));
  });
  const replica = new WebSocketServer({ port: 0, host: "127.0.0.1" });
  replica.on("connection", (socket, { url }) => {
    asked.push(url);
    socket.on("message", (data) => socket.send(encode(decode(/** @type {Buffer} */ (data)).type === "open" ? OPENED : closed({}))));
  });
  await new Promise((resolve) => place.listen(0, "127.0.0.1", () => resolve(null)));
  const [here, there] = [place, replica].map((server) => `http://127.0.0.1:${/** @type {import("node:net").AddressInfo} */ (server.address()).port}`);
  let count = 0;
  try {
    const session = await connect(here, { model: "toy", WebSocket: Socket, getTicket: async () => `t/${++count}` });
    await session.close();
  } finally {
    for (const socket of replica.clients) socket.terminate();
    replica.close();
    place.close();
    place.closeAllConnections();
  }
  assert.equal(asked[0], "/v1/sessions?ticket=t%2F1");
  const opened = new URL(/** @type {string} */ (asked[1]), here);
  assert.deepEqual([opened.pathname, opened.searchParams.get("ticket"), opened.searchParams.get("placed")], ["/v1/stream", "t/2", "true"]);
  assert.equal(asked.length, 2);
});

test("results that a lost connection took with it are counted", async () => {
  const again = { ...OPENED, resumed: true, results: 9 };
  await scripted(
    [
      (send, socket, { type }) => {
        if (type !== "open") return;
        for (const message of [OPENED, result(1), result(4, { superseded: 2 })]) send(message);
        setTimeout(() => socket.terminate(), 50);
      },
      (send, socket) => {
        for (const message of [again, result(9)]) send(message); // the newest; five to eight were on their way
        setTimeout(() => socket.terminate(), 50);
      },
      (send, _, { type }) => {
        if (type === "open") for (const message of [again, result(9), result(10)]) send(message); // nine came before
        if (type === "close") send(closed({}));
      },
    ],
    async (url) => {
      const session = await connect(url, { model: "toy", WebSocket: Socket });
      await once(session, "result", ({ ticks }) => ticks === 10);
      await session.close();
      const { results, supersededResults, lostResults, reconnects } = session.stats;
      assert.deepEqual([results, supersededResults, lostResults, reconnects], [4, 2, 4, 2]);
    },
  );
});

test("a refused frame is in no score: its events are counted, and later ones timed without it", async () => {
  await scripted(
    [
      (send, _, message) => {
        if (message.type === "open") send(OPENED);
        if (message.type === "events" && message.seq === 2) send({ type: "error", code: "event_outside_sensor", message: "no such pixel", fatal: false, seq: 2 });
        if (message.type === "events" && message.seq === 3) send(result(2));
        if (message.type === "close") send(closed({}));
      },
    ],
    async (url) => {
      const session = await connect(url, { model: "toy", WebSocket: Socket });
      session.on("error", () => {});
      const refused = once(session, "error");
      const scored = once(session, "result");
      for (const count of [4, 7]) await session.send(events(count));
      await refused;
      await new Promise((resolve) => setTimeout(resolve, 300));
      const sent = performance.now();
      await session.send(events(4));
      await scored;
      const [latency, most] = [session.stats.latenciesMs[0], performance.now() - sent];
      assert.ok(latency <= most, `${latency} ms of at most ${most}`);
      const { refusedFrames, refusedEvents, firstRefusal } = session.stats;
      assert.deepEqual([refusedFrames, refusedEvents, firstRefusal], [1, 7, "no such pixel (event_outside_sensor)"]);
      await session.close();
    },
  );
});

test("events that a live source drops before they are sent again are counted once", async () => {
  const opening = (/** @type {any} */ send, /** @type {WebSocket} */ socket, /** @type {any} */ message) => {
    if (message.type === "open") send({ ...OPENED, resumed: message.resume !== undefined });
    if (message.type === "events" && message.seq === 3) setTimeout(() => socket.terminate(), 20);
  };
  await scripted(
    [
      opening,
      opening,
      (send, socket, message) => {
        opening(send, socket, { ...message, seq: 0 });
        if (message.type === "events" && message.seq === 3) send({ type: "ack", seq: 3, durable_seq: 3, events: 10, bytes: 80 });
        if (message.type === "close") send(closed({}));
      },
    ],
    async (url) => {
      const session = await connect(url, { model: "toy", whenFull: "drop-oldest", keptBytes: 80, WebSocket: Socket });
      for (let frame = 0; frame < 3; frame++) await session.send(events(10));
      await once(session, "ack");
      assert.equal(session.stats.reconnects, 2);
      assert.deepEqual([session.stats.droppedLocally, session.stats.droppedEvents], [20, 20]);
      await session.close();
    },
  );
});
