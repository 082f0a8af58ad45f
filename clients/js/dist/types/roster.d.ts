/** @template T @param {Roster<T>} roster @param {string} id @param {T} value @returns {boolean} whether it is new */
export function put<T>({ entries, list }: Roster<T>, id: string, value: T): boolean;
/** The list is here as a whole. @param {Roster<any>} roster @returns {boolean} whether somebody is gone */
export function finish({ entries, list }: Roster<any>): boolean;
export function emptyRoster(): Roster<any>;
export function same(a: unknown, b: unknown): boolean;
export function values<T>({ entries }: Roster<T>): T[];
export type Roster<T> = {
    entries: Map<string, {
        value: T;
        list: number;
    }>;
    list: number;
};
