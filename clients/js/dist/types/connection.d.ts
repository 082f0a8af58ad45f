/** @param {Settled} options @param {Owner} owner */
export function makeConnection(options: Settled, owner: Owner): {
    stop: (code: number, error?: string) => void;
    retry: (delayMs?: number) => void;
    start(): void;
    /** The service has let the client in. */
    good(): void;
    /** The network, the page or the machine has come back: does the connection live? If there is none, try soon. */
    wake(): void;
    /** @param {Message} message */
    send(message: Message): void;
};
/** What we close a socket with that may be dead: the user has a moment to come back. */
export const ABANDONED: 4000;
export const GOODBYE: 1000;
export type ConnectionState = import("./types.js").ConnectionState;
export type Message = import("./types.js").Message;
export type Settled = import("./types.js").Options & {
    url: string;
    answerMs: number;
    heartbeatMs: number;
    reconnectMaxMs: number;
};
export type SocketLike = import("./types.js").SocketLike;
export type Owner = {
    /**
     * the socket is open: say who it is
     */
    opened: (token?: string | null) => void;
    heard: (message: Message) => void;
    /**
     * the socket is gone; another may follow
     */
    closed: () => void;
    /**
     * send something that is answered
     */
    test: () => void;
    /**
     * test although the connection is not silent
     */
    curious: () => boolean;
    /**
     * with the reason, if it stopped
     */
    state: (state: ConnectionState, error?: string) => void;
    /**
     * something went wrong, and is tried again
     */
    failed: (error: RollcallError) => void;
};
import { RollcallError } from "./error.js";
