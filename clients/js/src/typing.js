// Who types. Typing is no fact: it is forgotten by itself.

/**
 * @typedef {import("./types.js").Message} Message
 * @typedef {import("./types.js").TypingTarget} TypingTarget
 */

/** The service tells it again every 5 s at least. */
const FORGET_MS = 6000;
/** @type {readonly string[]} */
const NOBODY = [];

/** A room, or one user who types to the own one. (No id has a control character.) @param {Partial<TypingTarget>} target */
const placeOf = ({ roomId, toUserId }) => roomId ?? "\n" + toUserId;

/** @param {() => void} tell called when somebody's typing has ended by itself */
export function makeTypists(tell) {
  /** @type {Map<string, readonly string[]>} */
  const typing = new Map();
  /** @type {Map<string, any>} */
  const timers = new Map();

  /** @param {string} place @param {string} userId @param {boolean} [begins] @returns {boolean} whether something has changed */
  function set(place, userId, begins) {
    const key = place + "\n" + userId;
    clearTimeout(timers.get(key));
    timers.delete(key);
    if (begins) timers.set(key, setTimeout(() => set(place, userId) && tell(), FORGET_MS));
    const before = typing.get(place) ?? NOBODY;
    if (before.includes(userId) === !!begins) return false;
    const now = begins ? [...before, userId] : before.filter((id) => id !== userId);
    if (now.length) typing.set(place, now);
    else typing.delete(place);
    return true;
  }

  return {
    /** @param {TypingTarget} target */
    in: (target) => typing.get(placeOf(target)) ?? NOBODY,

    /** @param {Message} message @returns {boolean} whether something has changed */
    take({ type, roomId, userId, isTyping }) {
      if (type === "room_left") return typing.delete(roomId);
      if (type !== "typing" && type !== "room_user_left" && type !== "user_offline") return false;
      return set(placeOf({ roomId, toUserId: userId }), userId, isTyping);
    },
  };
}
