/** @param {() => void} tell called when somebody's typing has ended by itself */
export function makeTypists(tell: () => void): {
    /** @param {TypingTarget} target */
    in: (target: TypingTarget) => readonly string[];
    /** @param {Message} message @returns {boolean} whether something has changed */
    take({ type, roomId, userId, isTyping }: Message): boolean;
};
export type Message = import("./types.js").Message;
export type TypingTarget = import("./types.js").TypingTarget;
