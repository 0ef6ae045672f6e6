/** The log of what a session has sent. */

import assert from "node:assert/strict";
import test from "node:test";
import { SendLog } from "../outgoing.js";

/** @param {SendLog} log @param {number} count  frames to send */
function send(log, count) {
  for (let frame = 0; frame < count; frame++) log.append({ type: "events", t_base_us: 0, data: new Uint8Array(8) }, 1);
  const sent = [];
  for (let message = log.takeNext(); message; message = log.takeNext()) sent.push(message);
  return sent;
}

test("a log that keeps from now on is complete once the rest is durable", () => {
  const log = new SendLog(false, 0);
  send(log, 2);
  log.append({ type: "flush", id: 1 });
  const [flush] = send(log, 0);
  assert.equal(log.keptBytes, 0);
  log.keep();
  const later = send(log, 2);
  log.discardDurable(1);
  assert.equal(log.complete, false);
  log.discardDurable(2);
  assert.equal(log.complete, true);
  log.rewind(2);
  assert.deepEqual(send(log, 0), [flush, ...later]);
});
