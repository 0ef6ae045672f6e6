/**
 * What can go wrong between this client and a server.
 *
 * SaccadeError
 * ├── InvalidChoice        an option is not one that the call takes
 * ├── EventsError          the events are none, or no record can hold them
 * ├── StreamError          the server refused a message or a session; one class a code
 * ├── ConnectionLost       the websocket closed before the session ended
 * ├── ServerUnavailable    the server takes no new session for the moment
 * ├── ServerUnreachable    no Saccade server answers at the address
 * ├── StreamClosed         the session was used after its end
 * └── RequestRefused       a REST request was answered with a problem document
 */

/** Base class of this client's errors; `name` is the class's. */
export class SaccadeError extends Error {
  /** @param {string} message */
  constructor(message) {
    super(message);
    this.name = new.target.name;
  }
}

/** An option is not one that the call takes; nothing was sent. */
export class InvalidChoice extends SaccadeError {}

/** The argument holds no events, or one that no record of the wire can hold. */
export class EventsError extends SaccadeError {}

/** The session was used after its end. */
export class StreamClosed extends SaccadeError {
  constructor() {
    super("the stream is closed");
  }
}

/** The websocket closed before the session ended. */
export class ConnectionLost extends SaccadeError {
  /** @param {number} closeCode @param {string} reason */
  constructor(closeCode, reason) {
    super(`the connection was lost (close code ${closeCode})${reason && ": "}${reason}`);
    this.closeCode = closeCode;
    this.reason = reason;
  }
}

/** The server takes no new session for the moment: it starts, stops or restarts. */
export class ServerUnavailable extends SaccadeError {
  /** @param {string} message @param {number} [retryAfterMs] @param {string | null} [code] */
  constructor(message, retryAfterMs = 0, code = null) {
    super(message);
    this.retryAfterMs = retryAfterMs;
    this.code = code;
  }
}

/** No Saccade server answers at the address. */
export class ServerUnreachable extends SaccadeError {}

/** A REST request, or a websocket's handshake, was answered with a problem. */
export class RequestRefused extends SaccadeError {
  /** @param {number} status @param {string | null} code @param {string} detail */
  constructor(status, code, detail) {
    super(`${detail} (${code ?? `HTTP status ${status}`})`);
    this.status = status;
    this.code = code;
  }
}

/** The server refused a message or a session: its `error` message. */
export class StreamError extends SaccadeError {
  /** @param {{code: string, message: string, fatal: boolean, seq?: number, field?: string, index?: number, value?: unknown}} error */
  constructor({ code, message, fatal, seq, field, index, value }) {
    super(`${message} (${code})`);
    Object.assign(this, { code, fatal, seq, field, index, value });
    /** The stable name of the reason. */
    this.code = code;
    /** Whether the session ended with it. */
    this.fatal = fatal;
    /** The frame that was refused. */
    this.seq = seq;
  }
}

export class MalformedMessage extends StreamError {}
export class InvalidField extends StreamError {}
export class UnexpectedMessage extends StreamError {}
export class SequenceGap extends StreamError {}
export class UnsupportedProtocol extends StreamError {}
export class UnknownModel extends StreamError {}
export class SensorMismatch extends StreamError {}
export class UnknownSession extends StreamError {}
export class ModelChanged extends StreamError {}
export class SessionIdle extends StreamError {}
export class SessionDeleted extends StreamError {}
export class TakenOver extends StreamError {}
export class FrameTooLarge extends StreamError {}
export class MalformedEvents extends StreamError {}
export class EventOutsideSensor extends StreamError {}
export class UnsortedEvents extends StreamError {}
export class SlotsExhausted extends StreamError {}
export class NotReady extends StreamError {}
export class EngineFailed extends StreamError {}
export class InternalError extends StreamError {}
export class TooManySessions extends StreamError {}
export class RateExceeded extends StreamError {}
export class CreditExceeded extends StreamError {}

/** The class of each code of docs/protocol.md. @type {Record<string, typeof StreamError>} */
export const BY_CODE = Object.freeze({
  malformed_message: MalformedMessage,
  invalid_field: InvalidField,
  unexpected_message: UnexpectedMessage,
  sequence_gap: SequenceGap,
  unsupported_protocol: UnsupportedProtocol,
  unknown_model: UnknownModel,
  sensor_mismatch: SensorMismatch,
  unknown_session: UnknownSession,
  model_changed: ModelChanged,
  session_idle: SessionIdle,
  session_deleted: SessionDeleted,
  taken_over: TakenOver,
  frame_too_large: FrameTooLarge,
  malformed_events: MalformedEvents,
  event_outside_sensor: EventOutsideSensor,
  unsorted_events: UnsortedEvents,
  slots_exhausted: SlotsExhausted,
  not_ready: NotReady,
  engine_failed: EngineFailed,
  internal_error: InternalError,
  too_many_sessions: TooManySessions,
  rate_exceeded: RateExceeded,
  credit_exceeded: CreditExceeded,
});

/** Return the server's `error` message as an exception. @param {any} error @returns {StreamError} */
export function streamError(error) {
  return new (BY_CODE[error.code] ?? StreamError)(error);
}
