export class Rollcall {
    /** Does not connect yet. @param {Options} [options] */
    constructor(options?: Options);
    /** Begins to connect, or begins again after it has stopped. */
    connect(): void;
    /** Says goodbye: the user is offline at once, unless another of their sockets is there. What was wished stays wished. */
    close(): void;
    /** Calls the listener after each change. Returns what ends that. @param {() => void} listener */
    subscribe: (listener: () => void) => () => void;
    /** All that is known. The same object until something changes. */
    getSnapshot: () => import("./types.js").Snapshot;
    /** What is known of a user. The same object until it changes. @param {string} userId @returns {Presence} */
    presence(userId: string): Presence;
    /** What is known of a room. The same object until it changes. @param {string} roomId @returns {Room} */
    room(roomId: string): Room;
    /** Who types there. The same array until it changes. @param {TypingTarget} target @returns {readonly string[]} */
    typing(target: TypingTarget): readonly string[];
    /** Hears of everyone, until it is released. @returns {Release} */
    watchEveryone(): Release;
    /** Hears of these users, until it is released. @param {string | string[]} userIds @returns {Release} */
    watch(userIds: string | string[]): Release;
    /** Hears how many users are online, until it is released. @returns {Release} */
    watchCount(): Release;
    /** Is in the room, until it is released. @param {string} roomId @param {RoomInterest} [presence] @returns {Release} */
    joinRoom(roomId: string, presence?: RoomInterest): Release;
    /** Chooses a status, on all sockets of the user. @param {StatusChoice["status"] | StatusChoice} choice @returns {Promise<OwnStatus>} */
    setStatus(choice: StatusChoice["status"] | StatusChoice): Promise<OwnStatus>;
    /** Changes these fields of the profile. `null` takes one away. @param {Profile} fields @returns {Promise<User>} */
    updateProfile(fields: Profile): Promise<User>;
    /** Call it with each key: it is said as often as needed. @param {TypingTarget} target */
    startTyping(target: TypingTarget): void;
    /** The user has stopped, or has sent the message. @param {TypingTarget} target */
    stopTyping(target: TypingTarget): void;
    /** For a program without a page: whether nobody is there. @param {boolean} idle */
    setIdle(idle: boolean): void;
    /** Asks once how a user is. @param {string} userId @returns {Promise<Presence>} */
    check(userId: string): Promise<Presence>;
    /** Sends any request of docs/protocol.md. Rejects with a `RollcallError`. @param {Message} message @returns {Promise<Message>} */
    request(message: Message): Promise<Message>;
    #private;
}
export type RollcallError = import("./error.js").RollcallError;
export type Done = import("./requests.js").Done;
export type Message = import("./types.js").Message;
export type Options = import("./types.js").Options;
export type OwnStatus = import("./types.js").OwnStatus;
export type Presence = import("./types.js").Presence;
export type Profile = import("./types.js").Profile;
export type Release = import("./types.js").Release;
export type Room = import("./types.js").Room;
export type RoomInterest = import("./types.js").RoomInterest;
export type Snapshot = import("./types.js").Snapshot;
export type StatusChoice = import("./types.js").StatusChoice;
export type TypingTarget = import("./types.js").TypingTarget;
export type User = import("./types.js").User;
/**
 * what tabs that share a connection are made of
 */
export type Parts = {
    /**
     * the same for all tabs that share
     */
    name: string;
    store: import("./store.js").Store;
    /**
     * applies a message here
     */
    take: (message: Message) => void;
    makeSession: (deliver: (message: Message) => void) => import("./session.js").Session;
    answerMs: number;
};
