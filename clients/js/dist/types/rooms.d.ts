/**
 * @typedef {import("./types.js").Message} Message
 * @typedef {import("./types.js").Room} Room
 * @typedef {{ roster: import("./roster.js").Roster<import("./types.js").User>, joined: boolean, count?: number, complete: boolean,
 *   error?: string, shown?: Room }} Entry plain data, with what was shown of it last
 */
/** How the room looks. The same object until it changes. @param {Entry} entry @param {string} roomId @returns {Room} */
export function showRoom(entry: Entry, roomId: string): Room;
/** @param {Map<string, Entry>} rooms @param {Message} message @returns {boolean} whether something has changed */
export function takeOfRoom(rooms: Map<string, Entry>, message: Message): boolean;
export type Message = import("./types.js").Message;
export type Room = import("./types.js").Room;
/**
 * plain data, with what was shown of it last
 */
export type Entry = {
    roster: import("./roster.js").Roster<import("./types.js").User>;
    joined: boolean;
    count?: number;
    complete: boolean;
    error?: string;
    shown?: Room;
};
