/** The kinds of sources, in the order of the page's buttons. */

import { FILE } from "./file.js";
import { SIMULATED } from "./simulated.js";
import { WATCH } from "./watched.js";
import { WEBCAM } from "./webcam.js";

/** @type {import("./source.js").SourceKind[]} */
export const KINDS = [SIMULATED, FILE, WEBCAM, WATCH];
