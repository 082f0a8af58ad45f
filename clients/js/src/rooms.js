// What is known of the rooms, from the messages about them.

import { emptyRoster, finish, put, values } from "./roster.js";

/**
 * @typedef {import("./types.js").Message} Message
 * @typedef {import("./types.js").Room} Room
 * @typedef {{ roster: import("./roster.js").Roster<import("./types.js").User>, joined: boolean, count?: number, complete: boolean,
 *   error?: string, shown?: Room }} Entry plain data, with what was shown of it last
 */

/** How the room looks. The same object until it changes. @param {Entry} entry @param {string} roomId @returns {Room} */
export function showRoom(entry, roomId) {
  const { roster, joined, complete, error } = entry;
  const count = complete ? roster.byId.size : entry.count;
  return (entry.shown ??= { roomId, joined, users: values(roster), count, complete, error });
}

/** @param {Map<string, Entry>} rooms @param {Message} message @returns {boolean} whether something has changed */
export function takeOfRoom(rooms, message) {
  const { type, roomId, userId, user, users } = message;
  let entry = rooms.get(roomId);
  if (type === "room_left") return rooms.delete(roomId);
  if (type === "room_joined" || type === "_refused") {
    // Without users, the client hears of nobody there. With them, those of before stay until the last page.
    const known = users && entry;
    rooms.set(
      roomId,
      (entry = { roster: emptyRoster(), complete: false, ...known, joined: type === "room_joined", error: message.code }),
    );
  }
  if (!entry || !/^_refused|^room_/.test(type)) return false;
  const { roster } = entry;
  if (type === "room_joined") roster.lists++;
  if (users) {
    for (const each of users) put(roster, each.id, each);
    if (message.last) {
      finish(roster);
      entry.complete = true;
    }
  } else if (user) put(roster, userId, user);
  else if (type === "room_user_left") roster.byId.delete(userId);
  entry.count = message.total ?? message.onlineCount ?? entry.count;
  entry.shown = undefined;
  return true;
}
