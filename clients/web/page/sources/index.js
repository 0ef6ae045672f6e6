/** The kinds of sources, in the order of the page's tabs. */

/** @type {import("./source.js").SourceKind[]} */
export const KINDS = [];
