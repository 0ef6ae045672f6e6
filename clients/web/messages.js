/** What the server answers and reports, as types; docs/protocol.md explains each field. */

/**
 * Scores.
 *
 * @typedef {object} Result
 * @property {number} seq
 * @property {number} ticks
 * @property {number} events
 * @property {number | bigint} t_us
 * @property {number[]} logits
 * @property {string} label
 * @property {number} confidence
 * @property {number} [dropped]
 * @property {number} [superseded]
 */

/**
 * The scores of exactly the events so far; null before the first tick.
 *
 * @typedef {object} Final
 * @property {number} seq
 * @property {number} ticks
 * @property {number} events
 * @property {number} pending
 * @property {number | bigint | null} t_us
 * @property {number[] | null} logits
 * @property {string | null} label
 * @property {number | null} confidence
 * @property {number} [dropped]
 * @property {number} [skipped]
 */

/**
 * @typedef {object} Opened
 * @property {string} session
 * @property {string} model
 * @property {string} model_hash
 * @property {string[]} labels
 * @property {number[]} sensor
 * @property {number} tick_events
 * @property {number} window_events
 * @property {number} window_bytes
 * @property {number} max_frame_bytes
 * @property {string | null} resume
 * @property {number} resume_ttl_ms
 * @property {boolean} resumed
 * @property {number} seq
 * @property {number} [results]  reported since `open`, in a session that is resumed
 * @property {string | null} [replica]  name of the server, where several share a store
 */

export {};
