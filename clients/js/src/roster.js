// Who is somewhere, while their list comes in pages.
//
// What was known before stays visible while a new list comes. When its last page is here, whoever was neither in a page nor in
// an event is taken away. So nobody seems to be gone for a moment. A roster is plain data: it is sent to other tabs as it is.

/** @template T @typedef {{ entries: Map<string, { value: T, list: number }>, list: number }} Roster */

/** @returns {Roster<any>} */
export const emptyRoster = () => ({ entries: new Map(), list: 0 });

/** Compared by what they say: a value that says the same stays the same object. @param {unknown} a @param {unknown} b */
export const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

/** @template T @param {Roster<T>} roster @param {string} id @param {T} value @returns {boolean} whether it is new */
export function put({ entries, list }, id, value) {
  const old = entries.get(id)?.value;
  const isNew = !same(old, value);
  entries.set(id, { value: isNew ? value : /** @type {T} */ (old), list });
  return isNew;
}

/** The list is here as a whole. @param {Roster<any>} roster @returns {boolean} whether somebody is gone */
export function finish({ entries, list }) {
  const before = entries.size;
  for (const [id, entry] of entries) if (entry.list !== list) entries.delete(id);
  return entries.size < before;
}

/** By id. @template T @param {Roster<T>} roster @returns {T[]} */
export const values = ({ entries }) =>
  [...entries].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, { value }]) => value);
