/** @param {(message: Message) => void} send @param {number} answerMs */
export function makeRequests(send: (message: Message) => void, answerMs: number): {
    /** At once: what lets the client in. @param {Message} message @param {Done} done */
    askNow: (message: Message, done: Done) => void;
    /** As soon as the client is in. @param {Message} message @param {Done} done */
    ask(message: Message, done: Done): void;
    /** The client is in. */
    open(): void;
    /** The socket is gone. What was under way may have happened. */
    close(): void;
    /** @param {Message} message @returns {boolean} whether it is an answer */
    take(message: Message): boolean;
};
export type Message = import("./types.js").Message;
/**
 * called before anything else sees the answer
 */
export type Done = (error: RollcallError | undefined, answer: Message) => void;
export type Request = {
    message: Message;
    done: Done;
    ref?: any;
    timer?: any;
};
import { RollcallError } from "./error.js";
