/**
 * For the option `tabs`: tabs of one origin with the same `url` and `userId` share one connection. Without `navigator.locks` or
 * `BroadcastChannel` (a page that is not secure), each tab has its own.
 *
 * @param {{ locks?: LocksLike }} [means] for a runtime without `navigator.locks`
 */
export function sharedTabs({ locks }?: {
    locks?: LocksLike;
}): (/** @type {Parts} */ parts: Parts) => {
    start: () => void;
    stop: (code: number, error?: string) => void;
    wake: () => void;
    want: (wanted: import("./interest.js").Wanted) => void;
    ask: (message: import("./requests.js").Message, done: import("./requests.js").Done) => void;
    say: (message: import("./session.js").Message) => void;
};
export type Done = import("./requests.js").Done;
export type Parts = import("./rollcall.js").Parts;
export type Session = import("./session.js").Session;
export type LocksLike = import("./types.js").LocksLike;
export type Message = import("./types.js").Message;
export type Wanted = import("./wishes.js").Wanted;
