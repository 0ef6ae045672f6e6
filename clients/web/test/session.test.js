/** Sessions against a real server, whose address is in SACCADE_URL. */

import assert from "node:assert/strict";
import net from "node:net";
import test from "node:test";
import WebSocket from "ws";
import { Camera, MOTIONS } from "../page/sources/simulator.js";
import { connect, listModels, listSessions, overview, watch } from "../saccade.js";

const URL_ = process.env.SACCADE_URL ?? "";
const skip = URL_ ? false : "SACCADE_URL names no server";
const Socket = /** @type {typeof globalThis.WebSocket} */ (/** @type {unknown} */ (WebSocket));
const SENSOR = { width: 128, height: 128 };

/** Return a motion's events in chunks. @param {string} name @param {number} seed @param {number} chunks */
function recorded(name, seed, chunks) {
  const camera = new Camera(SENSOR, seed);
  const { right, down, turn, zoom } = MOTIONS[name];
  const speed = { right: 130 * right, down: 130 * down, turn: 130 * turn, zoom: 130 * zoom };
  return Array.from({ length: chunks }, () => camera.record(speed, 10_000));
}

/** A TCP proxy whose connections can all be cut. */
class CuttingProxy {
  /** @type {Set<net.Socket>} */ sockets = new Set();

  async listen() {
    const target = new URL(URL_);
    this.server = net.createServer((client) => {
      const upstream = net.connect(Number(target.port), target.hostname);
      for (const socket of [client, upstream]) {
        this.sockets.add(socket);
        socket.on("error", () => {}).on("close", () => this.sockets.delete(socket));
      }
      client.pipe(upstream).pipe(client);
      client.on("close", () => upstream.destroy());
      upstream.on("close", () => client.destroy());
    });
    await new Promise((resolve) => this.server?.listen(0, "127.0.0.1", () => resolve(null)));
    return `http://127.0.0.1:${/** @type {net.AddressInfo} */ (this.server.address()).port}/`;
  }

  cut() {
    for (const socket of this.sockets) socket.destroy();
  }

  close() {
    this.cut();
    this.server?.close();
  }
}

/** Run a script of sends, flushes and resets; return all answers. @param {string} url @param {any[]} script @param {() => void} between */
async function answers(url, script, between) {
  const session = await connect(url, { model: "motions", report: { every: "flush" }, WebSocket: Socket });
  const found = [];
  for (const step of script) {
    between();
    if (step === "flush") found.push(await session.flush());
    else if (step === "reset") await session.reset();
    else await session.send(step);
  }
  between();
  found.push(await session.close());
  const kept = found.map(({ ticks, events, pending, t_us, logits, label }) => ({ ticks, events, pending, t_us, logits, label }));
  return { kept, reconnects: session.stats.reconnects };
}

test("a stream that is cut again and again is answered as an uncut one", { skip }, async () => {
  const proxy = new CuttingProxy();
  const url = await proxy.listen();
  let reconnects = 0;
  try {
    for (let round = 0; round < 6; round++) {
      const chunks = recorded("left", round + 1, 12);
      const script = chunks.flatMap((chunk) => {
        const roll = Math.random();
        return roll < 0.25 ? [chunk, "flush"] : roll < 0.32 ? [chunk, "reset"] : [chunk];
      });
      const whole = await answers(URL_, script, () => {});
      const cut = await answers(url, script, () => {
        if (Math.random() < 0.3) proxy.cut();
        else if (Math.random() < 0.3) setTimeout(() => proxy.cut(), 10 * Math.random());
      });
      assert.deepEqual(cut.kept, whole.kept);
      reconnects += cut.reconnects;
    }
    assert.ok(reconnects > 0, "no cut was felt");
  } finally {
    proxy.close();
  }
});

test("each result is iterated over once, in order, to the end", { skip }, async () => {
  const session = await connect(URL_, { model: "motions", WebSocket: Socket });
  /** @type {number[]} */
  const ticks = [];
  const reading = (async () => {
    for await (const { ticks: tick } of session.results()) ticks.push(tick);
  })();
  let sent = 0;
  for (const chunk of recorded("up", 3, 10)) {
    await session.send(chunk);
    sent += chunk.t.length;
  }
  const closed = await session.close();
  await reading;
  assert.equal(closed.events + closed.pending, sent);
  assert.deepEqual(ticks, Array.from({ length: closed.ticks }, (_, i) => i + 1));
  assert.equal(session.stats.ackedEvents <= sent, true);
});

test("a refused frame costs that frame; the caller gets the error's class", { skip }, async () => {
  const session = await connect(URL_, { model: "motions", WebSocket: Socket });
  await session.send({ t: [10], x: [500], y: [1], p: [1] });
  await assert.rejects(async () => {
    await session.flush();
    await session.send({ t: [11], x: [1], y: [1], p: [1] });
  }, { name: "EventOutsideSensor" });
  const closed = await session.close();
  assert.equal(closed.events + closed.pending <= 1, true);
});

test("refusals say what is wrong", { skip }, async () => {
  await assert.rejects(connect(URL_, { model: "nope", WebSocket: Socket }), { name: "UnknownModel" });
  await assert.rejects(connect(URL_, /** @type {any} */ ({ WebSocket: Socket })), { name: "InvalidChoice" });
  await assert.rejects(connect("http://127.0.0.1:1/", { model: "motions", WebSocket: Socket }), { name: "ServerUnreachable" });
});

test("a session is watched: its events and scores, then its end", { skip }, async () => {
  const session = await connect(URL_, { model: "motions", WebSocket: Socket });
  assert.ok((await listSessions(URL_)).some((one) => one.session === session.opened.session));
  const watching = await watch(URL_, session.opened.session, { WebSocket: Socket, maxEventsPerS: 500_000 });
  const seen = [(await watching.next()).value];
  for (const chunk of recorded("right", 5, 10)) {
    await session.send(chunk);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const closed = await session.close();
  for await (const message of watching) seen.push(message);
  assert.equal(seen[0].type, "watching");
  assert.deepEqual(seen.at(-1), { type: "ended", reason: "closed" });
  const shown = seen.filter(({ type }) => type === "events");
  assert.equal(shown.reduce((sum, { of }) => sum + of, 0), closed.events + closed.pending);
  assert.deepEqual(seen.filter(({ type }) => type === "result").at(-1).logits, closed.logits);
});

test("a server is asked for its models and what goes on", { skip }, async () => {
  assert.ok((await listModels(URL_)).some(({ model }) => model === "motions"));
  assert.equal((await overview(URL_)).health.status, "ok");
});
