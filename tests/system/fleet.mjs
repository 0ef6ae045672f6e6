/** Four sessions of one recording; its second half is sent once a line has come on standard input. */

import { once } from "node:events";
import { createRequire } from "node:module";
import { connect } from "../../clients/web/saccade.js";

const WebSocket = createRequire(new URL("../../clients/web/", import.meta.url))("ws");

const EVENTS = 2000;

/** Return events of a dot that moves. @param {number} from @param {number} to */
function part(from, to) {
  const [t, x, y, p] = [new Float64Array(to - from), ...[0, 1, 2].map(() => new Uint16Array(to - from))];
  for (let k = from; k < to; k++) {
    t[k - from] = 50 * k;
    x[k - from] = (k >> 3) % 34;
    y[k - from] = (7 * k) % 34;
    p[k - from] = k & 1;
  }
  return { t, x, y, p };
}

const sessions = [];
for (let k = 0; k < 4; k++) sessions.push(await connect(process.argv[2], { model: "nmnist", WebSocket }));
for (const session of sessions) {
  await session.send(part(0, EVENTS / 2));
  await session.flush();
}
console.log(JSON.stringify(sessions.map(({ opened }) => opened.replica)));
await once(process.stdin, "data");
const finals = await Promise.all(
  sessions.map(async (session) => {
    await session.send(part(EVENTS / 2, EVENTS));
    const { logits } = await session.close();
    return { logits, reconnects: session.stats.reconnects };
  }),
);
console.log(JSON.stringify(finals));
process.exit(0);
