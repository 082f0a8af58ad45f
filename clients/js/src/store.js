// What the client knows. It follows from the messages alone: those of the service, and some of our own ("_scope").
//
// Messages are applied in the order in which they come (docs/protocol.md, "Order"). Revisions are not looked at.

import { takeOfRoom, showRoom } from "./rooms.js";
import { emptyRoster, finish, put, same, values } from "./roster.js";
import { makeTypists } from "./typing.js";

/**
 * @typedef {import("./types.js").Message} Message
 * @typedef {import("./types.js").Presence} Presence
 * @typedef {import("./types.js").Room} Room
 * @typedef {import("./types.js").Snapshot} Snapshot
 * @typedef {import("./types.js").TypingTarget} TypingTarget
 * @typedef {import("./types.js").User} User
 * @typedef {ReturnType<typeof makeStore>} Store
 */

/** For how many ids the same answer is kept. */
const BLANK_MAX = 10_000;

/** @param {User} user @param {string} [lastActive] @returns {Presence} */
const online = (user, lastActive) => ({ userId: user.id, status: user.status, user, lastActive });

/** A user, as an answer shows them. @param {Message} state @returns {Presence} */
export const presenceOf = ({ user, userId, lastSeen, lastActive }) =>
  user ? online(user, lastActive) : { userId, status: "offline", lastSeen, lastActive };

/** Plain data: other tabs get it as it is. */
const emptyData = () => ({
  /** Of everyone who is online, or of each watched user. @type {import("./roster.js").Roster<Presence>} */
  people: emptyRoster(),
  /** @type {Set<string>} */
  watched: new Set(),
  everyone: false,
  complete: false,
  /** The number is told, so it is up to date. */
  counting: false,
  /** The own user, as others saw them last. @type {User | undefined} */
  me: undefined,
  /** @type {Map<string, import("./rooms.js").Entry>} */
  rooms: new Map(),
  /** @type {Omit<Snapshot, "users" | "complete">} */
  facts: { connection: "idle", degraded: false },
});

export function makeStore() {
  let data = emptyData();
  /** The message that is being applied has changed something. */
  let changed = false;
  /** @type {Snapshot | undefined} */
  let snapshot;
  /** @type {readonly User[] | undefined} */
  let users;
  /** What is shown of ids about which nothing is known. @type {Map<string, any>} */
  const blanks = new Map();
  /** @type {Set<() => void>} */
  const listeners = new Set();
  const typists = makeTypists(tell);

  function tell() {
    snapshot = undefined;
    for (const listener of listeners) {
      try {
        listener();
      } catch (error) {
        // The others are told all the same, and whoever looks for errors finds it.
        setTimeout(() => {
          throw error;
        });
      }
    }
  }

  /** @template T @param {T} value @returns {T} the same object for the same value */
  function blank(value) {
    const key = JSON.stringify(value);
    if (blanks.size > BLANK_MAX) blanks.clear();
    const old = blanks.get(key) ?? value;
    blanks.set(key, old);
    return old;
  }

  /** @param {Partial<Snapshot>} facts */
  function learn(facts) {
    const now = { ...data.facts, ...facts };
    if (same(now, data.facts)) return;
    data.facts = now;
    changed = true;
  }

  function crowdChanged() {
    users = undefined;
    changed = true;
  }

  /** @param {Presence} presence how somebody is now */
  function show(presence) {
    const { userId, user } = presence;
    const { facts, everyone, watched, people } = data;
    if (user && userId === facts.userId) data.me = user;
    if (!everyone && !watched.has(userId)) return;
    const sameUser = same(people.byId.get(userId)?.value.user, user);
    if (user || !everyone ? put(people, userId, presence) : people.byId.delete(userId)) changed = true;
    if (!sameUser) users = undefined;
  }

  /** Nobody tells a socket of its own user, so that is made of this. @param {Message} message */
  function ownStatus({ chosen, effective, statusText, expiresAt }) {
    const { userId } = data.facts;
    if (userId === undefined) return;
    learn({ own: { chosen, effective, statusText, expiresAt } });
    if (effective === "invisible") return show({ userId, status: "offline" });
    const { statusText: _, ...me } = data.me ?? { id: userId };
    show(online({ ...me, status: effective, ...(statusText && { statusText }) }));
  }

  /** What the socket hears from here on, and what is wanted. @param {Message} message */
  function scope({ everyone, count, users: ids, rooms }) {
    const { people } = data;
    data.watched = new Set(ids);
    data.everyone = everyone;
    data.counting = count;
    people.lists++;
    if (!everyone) {
      data.complete = false;
      for (const id of ids) {
        const entry = people.byId.get(id);
        if (entry) entry.inList = people.lists;
      }
      finish(people);
    }
    for (const id of data.rooms.keys()) if (!rooms.includes(id)) data.rooms.delete(id);
    crowdChanged();
  }

  /** @param {Message} message */
  function apply(message) {
    const { type, userId, user, onlineCount } = message;
    const { people, watched, everyone } = data;
    // Answers show the state of presence, and events do not: they have a time instead.
    if (message.epoch && (!message.timestamp || type === "welcome")) {
      learn({ degraded: !!message.degraded, asOf: message.asOf });
    }
    if (onlineCount !== undefined && !message.roomId) learn({ count: onlineCount });
    if (type === "welcome") learn({ userId });
    if (message.effective) ownStatus(message);
    // All but `user_activity_ack` show a user.
    if (/^user_[^a]/.test(type)) return show(presenceOf(message));
    switch (type) {
      case "_connection":
        return learn({ connection: message.state, error: message.error });
      case "_scope":
        return scope(message);
      case "presence_updated":
        if (user.status !== "invisible") return show(online(user));
        data.me = user;
        return;
      case "resync":
        if (everyone) people.lists++;
        return;
      case "online_users_list":
        for (const each of message.users) show(online(each));
        if (!everyone) return;
        learn({ count: message.total });
        if (!message.last) return;
        if (finish(people) || !data.complete) crowdChanged();
        data.complete = true;
        return;
      case "watching":
        for (const state of message.users) {
          watched.add(state.userId);
          show(presenceOf(state));
        }
        return;
      case "unwatched":
        for (const id of message.userIds) if (watched.delete(id) && !everyone) people.byId.delete(id);
        return crowdChanged();
      case "online_count":
      case "count_unwatched":
        data.counting = type === "online_count";
        changed = true;
        return;
      case "resumed":
        message.changes.forEach(apply);
    }
  }

  return {
    typists,
    dump: () => data,
    isDegraded: () => data.facts.degraded,

    /** What another tab knows. @param {ReturnType<typeof emptyData>} dump */
    load(dump) {
      data = dump;
      users = undefined;
      tell();
    },

    /** @param {Message} message */
    take(message) {
      changed = false;
      apply(message);
      changed = takeOfRoom(data.rooms, message) || changed;
      changed = typists.take(message) || changed;
      if (changed) tell();
    },

    /** @param {() => void} listener @returns {() => void} */
    subscribe(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },

    /** @returns {Snapshot} */
    snapshot() {
      const { facts, people, complete, counting } = data;
      users ??= values(people).flatMap(({ user }) => user ?? []);
      const count = complete ? people.byId.size : data.everyone || counting ? facts.count : undefined;
      return (snapshot ??= { ...facts, users, complete, count });
    },

    /** @param {string} userId @returns {Presence} */
    presence(userId) {
      const known = data.people.byId.get(userId)?.value;
      return known ?? blank({ userId, status: data.complete ? "offline" : "unknown" });
    },

    /** @param {string} roomId @returns {Room} */
    room(roomId) {
      const entry = data.rooms.get(roomId);
      return entry ? showRoom(entry, roomId) : blank({ roomId, joined: false, users: [], complete: false });
    },
  };
}
