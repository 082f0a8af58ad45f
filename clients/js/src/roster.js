// Who is somewhere, while their list comes in pages.
//
// What was known before stays visible while a new list comes. When its last page is here, whoever was neither in a page nor in
// an event is taken away. So nobody seems to be gone for a moment. A roster is plain data: it is sent to other tabs as it is.

/**
 * Each entry has the number of the last list in which it was, or during which it was heard of. `lists` is how many lists have begun.
 * @template T @typedef {{ byId: Map<string, { value: T, inList: number }>, lists: number }} Roster
 */

/** @returns {Roster<any>} */
export const emptyRoster = () => ({ byId: new Map(), lists: 0 });

/** Compared by what they say: a value that says the same stays the same object. @param {unknown} a @param {unknown} b */
export const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

/** @template T @param {Roster<T>} roster @param {string} id @param {T} value @returns {boolean} whether it is new */
export function put({ byId, lists }, id, value) {
  const old = byId.get(id)?.value;
  const isNew = !same(old, value);
  byId.set(id, { value: isNew ? value : /** @type {T} */ (old), inList: lists });
  return isNew;
}

/** The list is here as a whole. @param {Roster<any>} roster @returns {boolean} whether somebody is gone */
export function finish({ byId, lists }) {
  const before = byId.size;
  for (const [id, { inList }] of byId) if (inList !== lists) byId.delete(id);
  return byId.size < before;
}

/** By id. @template T @param {Roster<T>} roster @returns {T[]} */
export const values = ({ byId }) =>
  [...byId].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, { value }]) => value);
