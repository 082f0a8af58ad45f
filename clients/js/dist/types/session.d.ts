/**
 * @param {import("./connection.js").Settled} options
 * @param {import("./statement.js").Statement} statement
 * @param {(message: Message) => void} deliver
 * @param {(error: RollcallError) => void} failed
 * @param {() => boolean} isDegraded what was delivered may be out of date
 */
export function makeSession(options: import("./connection.js").Settled, statement: import("./statement.js").Statement, deliver: (message: Message) => void, failed: (error: RollcallError) => void, isDegraded: () => boolean): {
    start: () => void;
    stop: (code: number, error?: string) => void;
    wake: () => void;
    want: (wanted: Wanted) => void;
    ask: (message: import("./requests.js").Message, done: import("./requests.js").Done) => void;
    say: (message: Message) => void;
};
export type Done = import("./requests.js").Done;
export type Message = import("./types.js").Message;
export type Session = ReturnType<typeof makeSession>;
import { RollcallError } from "./error.js";
