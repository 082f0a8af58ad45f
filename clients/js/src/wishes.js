// What an application wants to hear. Each wish holds until whoever made it ends it.
//
// What is wanted is a map from a key to a value. `everyone`, `count` and `paused` are there or not. `idle` says whether nobody is
// there, if somebody looks. `user ID` is a watched user. `room ID` has what is to be heard of that room.

/** @typedef {Map<string, unknown>} Wanted */

/** From the least to the most. */
const INTERESTS = "none count everyone";

/** Several wishes together: of a room, the most. @param {Iterable<[string, unknown]>} wishes @returns {Wanted} */
export function together(wishes) {
  /** @type {Wanted} */
  const wanted = new Map();
  for (const [key, value] of wishes) {
    const other = wanted.get(key);
    if (!other || INTERESTS.indexOf(`${value}`) > INTERESTS.indexOf(`${other}`)) wanted.set(key, value);
  }
  return wanted;
}

/** @param {(wanted: Wanted) => void} changed called once for all changes of one moment */
export function makeWishes(changed) {
  /** @type {Set<[string, unknown][]>} */
  const wishes = new Set();
  let isDue = false;

  function tell() {
    if (isDue) return;
    isDue = true;
    queueMicrotask(() => {
      isDue = false;
      changed(together([...wishes].flat()));
    });
  }

  return {
    /** Wishes the value for each key. @param {string[]} keys @param {unknown} [value] @returns {() => void} */
    add(keys, value = true) {
      const wish = keys.map((key) => /** @type {[string, unknown]} */ ([key, value]));
      wishes.add(wish);
      tell();
      return () => {
        if (wishes.delete(wish)) tell();
      };
    },
  };
}
