/**
 * What the page asks of a source of events, as types. The kinds of sources stand in
 * `index.js` beside this module; `live.js` of the page drives the one that is chosen.
 */

/**
 * Consecutive events as columns of equal length, in time order.
 *
 * @typedef {object} Events
 * @property {Float64Array} t  timestamps, µs in the source's own clock; exact up to 2^53
 * @property {Uint16Array} x  column, from the left
 * @property {Uint16Array} y  row, from the top
 * @property {Uint8Array} p  1 for brighter, 0 for darker
 */

/**
 * Scores of one moment, of a source that brings its own (a session that is watched).
 *
 * @typedef {object} Scores
 * @property {number} t_us  the newest scored event's timestamp, µs
 * @property {string} label
 * @property {number} confidence  0 to 1
 * @property {number[]} logits  one a label
 */

/**
 * Where a source delivers.
 *
 * @typedef {object} Sink
 * @property {(events: Events) => Promise<void>} events  resolves when more is wanted: a
 *   recording waits for it; a live source need not. The page draws the events and sends
 *   them to the model. A chunk is at most 100 ms and at most 2^16 events, please.
 * @property {() => void} ended  no more events will come; once
 * @property {(error: Error) => void} failed  the source broke; its message is shown as it is
 * @property {(text: string) => void} told  what the source waits for, shown as it is; empty: nothing more
 * @property {(scores: Scores) => void} scores  only for sources with `scored`
 * @property {() => void} rewound  time begins anew (a recording was sought or looped): the
 *   page resets the model's session and its views; await nothing
 */

/**
 * A source of events. The page calls `attach`, then `start`, then `pause` and `resume` any
 * number of times, and at last `stop`, which may come at any time and more than once.
 *
 * @typedef {object} Source
 * @property {string} kind  the `kind` of its SourceKind
 * @property {string} title  for people: `7.bin · N-MNIST`, `simulated camera`
 * @property {{width: number, height: number}} sensor  geometry of its events
 * @property {boolean} live  does not wait: its session drops the oldest events under load
 *   and keeps fresh (`max_lag_ms`); a recording's session blocks
 * @property {boolean} [scored]  brings scores of its own: the page opens no session
 * @property {string[]} [labels]  with `scored`: the classes, in the order of `logits`
 * @property {string} [model]  with `scored`: the model's name
 * @property {string} [note]  a caveat that stays in sight: `emulated from a webcam`
 * @property {string} [guide]  one line that says what to do: `Drag across the picture …`
 * @property {number} [durationUs]  length of a recording, µs, where known
 * @property {number} [halfLifeMs]  readout half-life that suits it; absent: all since it began
 * @property {(sink: Sink) => void | Promise<void>} start
 * @property {() => void} pause
 * @property {() => void} resume
 * @property {() => void} stop  ends timers, frees the camera, closes files
 * @property {HTMLElement} [controls]  the source's own controls, shown under the view
 * @property {(stage: HTMLElement) => void} [attach]  receives the focusable element that
 *   lies over the picture, exactly as large as the sensor's picture: pointer and key events
 *   on it steer the source. Map positions with `getBoundingClientRect`; show what is
 *   steered by children of it. Keys that the page takes: space, comma, full stop, and those
 *   with Ctrl, Alt or Meta; arrows and letters belong to the source where it attaches
 * @property {() => Record<string, string>} [settings]  what a share link holds, no secrets
 */

/**
 * What a kind of source is given.
 *
 * @typedef {object} Context
 * @property {{name: string, sensor: {width: number, height: number}, labels: string[]}} model
 *   the model that is chosen
 * @property {URL} server  the server's address, ending in a slash
 * @property {Record<string, string>} settings  from a share link, or empty
 * @property {File} [file]  what was dropped or chosen
 * @property {(text: string) => void} told  what opening the source waits for, shown as it is; empty: nothing more
 * @property {() => Promise<{key?: string, getTicket?: () => Promise<string>}>} credentials
 *   spread into the SDK's options; empty where the server asks for none
 */

/**
 * One kind of source, as the page's choice shows it.
 *
 * @typedef {object} SourceKind
 * @property {string} kind  short and stable: it stands in share links: `simulated`, `file`,
 *   `webcam`, `watch`
 * @property {string} name  on its tab: `Simulated camera`
 * @property {string} describe  one sentence, shown beside the tab
 * @property {boolean} [takesFile]  is opened by a dropped file or the file dialog
 * @property {() => string | null} unavailable  why it cannot work here, or null
 * @property {(context: Context) => Promise<Source>} open  makes a source; not started. May
 *   reject with an Error whose message says what to do
 * @property {(context: Context) => HTMLElement | null} [panel]  what is asked before `open`
 *   (a session's id to watch); dispatches a `choose` CustomEvent whose `detail` is settings
 */

export {};
