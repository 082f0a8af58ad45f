export function makeStore(): {
    typists: {
        in: (target: TypingTarget) => readonly string[];
        take({ type, roomId, userId, isTyping }: import("./typing.js").Message): boolean;
    };
    dump: () => {
        /** Of everyone who is online, or of each watched user. @type {import("./roster.js").Roster<Presence>} */
        people: import("./roster.js").Roster<Presence>;
        /** @type {Set<string>} */
        watched: Set<string>;
        everyone: boolean;
        complete: boolean;
        /** The number is told, so it is up to date. */
        counting: boolean;
        /** The own user, as others saw them last. @type {User | undefined} */
        me: User | undefined;
        /** @type {Map<string, import("./rooms.js").Entry>} */
        rooms: Map<string, import("./rooms.js").Entry>;
        /** @type {Omit<Snapshot, "users" | "complete">} */
        facts: Omit<Snapshot, "users" | "complete">;
    };
    isDegraded: () => boolean;
    /** What another tab knows. @param {ReturnType<typeof emptyData>} dump */
    load(dump: ReturnType<typeof emptyData>): void;
    /** @param {Message} message */
    take(message: Message): void;
    /** @param {() => void} listener @returns {() => void} */
    subscribe(listener: () => void): () => void;
    /** @returns {Snapshot} */
    snapshot(): Snapshot;
    /** @param {string} userId @returns {Presence} */
    presence(userId: string): Presence;
    /** @param {string} roomId @returns {Room} */
    room(roomId: string): Room;
};
export function presenceOf({ user, userId, lastSeen, lastActive }: Message): Presence;
export type Message = import("./types.js").Message;
export type Presence = import("./types.js").Presence;
export type Room = import("./types.js").Room;
export type Snapshot = import("./types.js").Snapshot;
export type User = import("./types.js").User;
export type Store = ReturnType<typeof makeStore>;
/** Plain data: other tabs get it as it is. */
declare function emptyData(): {
    /** Of everyone who is online, or of each watched user. @type {import("./roster.js").Roster<Presence>} */
    people: import("./roster.js").Roster<Presence>;
    /** @type {Set<string>} */
    watched: Set<string>;
    everyone: boolean;
    complete: boolean;
    /** The number is told, so it is up to date. */
    counting: boolean;
    /** The own user, as others saw them last. @type {User | undefined} */
    me: User | undefined;
    /** @type {Map<string, import("./rooms.js").Entry>} */
    rooms: Map<string, import("./rooms.js").Entry>;
    /** @type {Omit<Snapshot, "users" | "complete">} */
    facts: Omit<Snapshot, "users" | "complete">;
};
export {};
