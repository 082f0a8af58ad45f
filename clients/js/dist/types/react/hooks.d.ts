/** How a user is: `unknown` until the service has answered. @param {string} userId @returns {Presence} */
export function usePresence(userId: string): Presence;
/** Everyone who is online, by id. @param {{ exclude?: string }} [options] a user who is left out @returns {readonly User[]} */
export function useOnlineUsers({ exclude }?: {
    exclude?: string;
}): readonly User[];
/** Whether everyone who is online is known. For a component that has `useOnlineUsers`. @returns {boolean} */
export function useComplete(): boolean;
/** How many users are online; `undefined` until that is known. @returns {number | undefined} */
export function useOnlineCount(): number | undefined;
/** Enters a room, and shows it. @param {string} roomId @param {{ presence?: RoomInterest }} [options] @returns {Room} */
export function useRoom(roomId: string, { presence }?: {
    presence?: RoomInterest;
}): Room;
/**
 * Who types in a room, or whether one user types to the own one; and what says that the own one does. Typing in a room needs
 * `useRoom` of that room somewhere.
 * @param {TypingTarget} target
 */
export function useTyping({ roomId, toUserId }: TypingTarget): {
    typists: readonly string[];
    startTyping: () => void;
    stopTyping: () => void;
};
/** What the own user has chosen, and how to choose. @returns {[OwnStatus | undefined, (choice: StatusChoice["status"] | StatusChoice) => Promise<OwnStatus>]} */
export function useOwnStatus(): [OwnStatus | undefined, (choice: StatusChoice["status"] | StatusChoice) => Promise<OwnStatus>];
/** How the connection is. @returns {Snapshot["connection"]} */
export function useConnection(): Snapshot["connection"];
export type OwnStatus = import("../types.js").OwnStatus;
export type Presence = import("../types.js").Presence;
export type Room = import("../types.js").Room;
export type RoomInterest = import("../types.js").RoomInterest;
export type Snapshot = import("../types.js").Snapshot;
export type StatusChoice = import("../types.js").StatusChoice;
export type TypingTarget = import("../types.js").TypingTarget;
export type User = import("../types.js").User;
