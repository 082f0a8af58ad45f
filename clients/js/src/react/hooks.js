// What components know of others. Each hook hears exactly of what is mounted, and renders when that has changed.

import { useCallback, useEffect, useMemo, useSyncExternalStore } from "react";
import { useRollcall } from "./provider.js";

/**
 * @typedef {import("../types.js").OwnStatus} OwnStatus
 * @typedef {import("../types.js").Presence} Presence
 * @typedef {import("../types.js").Room} Room
 * @typedef {import("../types.js").RoomInterest} RoomInterest
 * @typedef {import("../types.js").Snapshot} Snapshot
 * @typedef {import("../types.js").StatusChoice} StatusChoice
 * @typedef {import("../types.js").TypingTarget} TypingTarget
 * @typedef {import("../types.js").User} User
 */

/** @type {readonly any[]} */
const NOBODY = [];

/**
 * What `read` gives, as of the last change. A server knows nothing, and so does the first render in the browser.
 * @template T @param {() => T} read the same value until it changes @param {T} unknown @returns {T}
 */
function useStore(read, unknown) {
  return useSyncExternalStore(useRollcall().subscribe, read, () => unknown);
}

/** How a user is: `unknown` until the service has answered. @param {string} userId @returns {Presence} */
export function usePresence(userId) {
  const client = useRollcall();
  useEffect(() => client.watch(userId), [client, userId]);
  const unknown = useMemo(() => /** @type {Presence} */ ({ userId, status: "unknown" }), [userId]);
  return useStore(() => client.presence(userId), unknown);
}

/** Everyone who is online, by id. @param {{ exclude?: string }} [options] a user who is left out @returns {readonly User[]} */
export function useOnlineUsers({ exclude } = {}) {
  const client = useRollcall();
  useEffect(() => client.watchEveryone(), [client]);
  const users = useStore(() => client.getSnapshot().users, /** @type {readonly User[]} */ (NOBODY));
  return useMemo(() => (exclude === undefined ? users : users.filter(({ id }) => id !== exclude)), [users, exclude]);
}

/** Whether everyone who is online is known. For a component that has `useOnlineUsers`. @returns {boolean} */
export function useComplete() {
  const client = useRollcall();
  return useStore(() => client.getSnapshot().complete, false);
}

/** How many users are online; `undefined` until that is known. @returns {number | undefined} */
export function useOnlineCount() {
  const client = useRollcall();
  useEffect(() => client.watchCount(), [client]);
  return useStore(() => client.getSnapshot().count, undefined);
}

/** Enters a room, and shows it. @param {string} roomId @param {{ presence?: RoomInterest }} [options] @returns {Room} */
export function useRoom(roomId, { presence = "everyone" } = {}) {
  const client = useRollcall();
  useEffect(() => client.joinRoom(roomId, presence), [client, roomId, presence]);
  const unknown = useMemo(() => ({ roomId, joined: false, users: NOBODY, complete: false }), [roomId]);
  return useStore(() => client.room(roomId), /** @type {Room} */ (unknown));
}

/**
 * Who types in a room, or whether one user types to the own one; and what says that the own one does. Typing in a room needs
 * `useRoom` of that room somewhere.
 * @param {TypingTarget} target
 */
export function useTyping({ roomId, toUserId }) {
  const client = useRollcall();
  const target = useMemo(
    () => /** @type {TypingTarget} */ (roomId === undefined ? { toUserId } : { roomId }),
    [roomId, toUserId],
  );
  useEffect(() => () => client.stopTyping(target), [client, target]);
  const typists = useStore(() => client.typing(target), /** @type {readonly string[]} */ (NOBODY));
  const startTyping = useCallback(() => client.startTyping(target), [client, target]);
  const stopTyping = useCallback(() => client.stopTyping(target), [client, target]);
  return { typists, startTyping, stopTyping };
}

/** What the own user has chosen, and how to choose. @returns {[OwnStatus | undefined, (choice: StatusChoice["status"] | StatusChoice) => Promise<OwnStatus>]} */
export function useOwnStatus() {
  const client = useRollcall();
  const choose = useCallback((/** @type {any} */ choice) => client.setStatus(choice), [client]);
  return [useStore(() => client.getSnapshot().own, undefined), choose];
}

/** How the connection is. @returns {Snapshot["connection"]} */
export function useConnection() {
  const client = useRollcall();
  return useStore(() => client.getSnapshot().connection, /** @type {Snapshot["connection"]} */ ("idle"));
}
