/** Several wishes together: of a room, the most. @param {Iterable<[string, unknown]>} wishes @returns {Wanted} */
export function together(wishes: Iterable<[string, unknown]>): Wanted;
/** @param {(wanted: Wanted) => void} changed called once for all changes of one moment */
export function makeWishes(changed: (wanted: Wanted) => void): {
    /** Wishes the value for each key. @param {string[]} keys @param {unknown} [value] @returns {() => void} */
    add(keys: string[], value?: unknown): () => void;
};
export type Wanted = Map<string, unknown>;
