/**
 * @param {(message: Message, done: Done) => void} ask
 * @param {(message: Message) => void} deliver
 * @param {(error: RollcallError) => void} failed
 * @param {boolean} [observes] the client is not online itself
 */
export function makeInterest(ask: (message: Message, done: Done) => void, deliver: (message: Message) => void, failed: (error: RollcallError) => void, observes?: boolean): {
    /** @param {Wanted} wanted */
    want(wanted: Wanted): void;
    /** What a join says of it. The rest is asked for when the client is in. */
    joinFields(): {
        presence: string;
        rooms?: undefined;
    } | {
        presence: string;
        rooms: string[];
    };
    /** The client is in, as this join has said. @param {Message} join */
    begin({ presence, rooms }: Message): void;
    /** The socket is gone. */
    end(): void;
    /** The socket does not hear this any more, or not as a whole. @param {string} key @param {string} code why */
    lost(key: string, code: string): void;
};
/** Another try may help with these. */
export const PASSING: RegExp;
export type RollcallError = import("./error.js").RollcallError;
export type Done = import("./requests.js").Done;
export type Message = import("./types.js").Message;
export type Wanted = import("./wishes.js").Wanted;
