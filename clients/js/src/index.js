// @rollcall/client: who is online, right now. docs/javascript.md shows how it is used.

export { Rollcall } from "./rollcall.js";
export { RollcallError } from "./error.js";

/**
 * @typedef {import("./types.js").ChosenStatus} ChosenStatus
 * @typedef {import("./types.js").ConnectionState} ConnectionState
 * @typedef {import("./types.js").EffectiveStatus} EffectiveStatus
 * @typedef {import("./types.js").Message} Message
 * @typedef {import("./types.js").Options} Options
 * @typedef {import("./types.js").OwnStatus} OwnStatus
 * @typedef {import("./types.js").Presence} Presence
 * @typedef {import("./types.js").Profile} Profile
 * @typedef {import("./types.js").Release} Release
 * @typedef {import("./types.js").Room} Room
 * @typedef {import("./types.js").RoomInterest} RoomInterest
 * @typedef {import("./types.js").Snapshot} Snapshot
 * @typedef {import("./types.js").StatusChoice} StatusChoice
 * @typedef {import("./types.js").TypingTarget} TypingTarget
 * @typedef {import("./types.js").User} User
 */
