// What goes wrong, with a code for programs.

/** Its `code` is one of docs/protocol.md (`error`), or one of docs/javascript.md. */
export class RollcallError extends Error {
  /** @param {{ code: string, message?: string, retryAfterMs?: number }} fault an `error` of the service, or one of ours */
  constructor({ code, message, retryAfterMs }) {
    super(message ?? code);
    this.name = "RollcallError";
    this.code = code;
    this.retryAfterMs = retryAfterMs;
  }
}
