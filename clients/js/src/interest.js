// What a socket hears, brought to what is wanted. A new socket begins with what its join said.

import { fullJitter } from "./backoff.js";

/**
 * @typedef {import("./error.js").RollcallError} RollcallError
 * @typedef {import("./requests.js").Done} Done
 * @typedef {import("./types.js").Message} Message
 * @typedef {import("./wishes.js").Wanted} Wanted
 */

/** Ids in one message. So many fit into the 16 KiB that the service reads, whatever they are. */
const IDS_MAX = 50;
/** Another try may help with these. */
export const PASSING = /^(timeout|rate_limited|too_many_(requests|watches)|(store|keys)_unavailable)$/;
const RETRY_MAX_MS = 30_000;

/** `user ID` and `room ID`. @param {Iterable<string>} keys @param {"user" | "room"} kind @returns {string[]} */
const idsOf = (keys, kind) => [...keys].flatMap((key) => (key.startsWith(kind + " ") ? key.slice(5) : []));

/**
 * @param {(message: Message, done: Done, here: boolean) => void} ask
 * @param {(message: Message) => void} deliver
 * @param {(error: RollcallError) => void} failed
 * @param {() => void} retry opens another connection
 * @param {boolean} [observes] the client is not online itself
 */
export function makeInterest(ask, deliver, failed, retry, observes) {
  /** @type {Wanted} */
  let want = new Map();
  /** What the socket hears: nothing while the client is not in. @type {Wanted | undefined} */
  let have;
  let underWay = 0;
  /** Not asked for again: on this socket, or for a while, unless it is wanted anew. @type {Wanted} */
  const blocked = new Map();
  let attempt = 0;
  /** One of several ids was refused, and nobody says which: they are asked for one by one, until it is found. @type {unknown} */
  let doubt;

  /** @param {RollcallError} error @param {unknown} [several] it was about several ids @returns {unknown} whether the others may be had */
  const doubts = ({ code }, several) => (doubt = several && code === "invalid_field");

  /** @param {string} key @param {string} code why it cannot be had */
  function block(key, code) {
    blocked.set(key, want.get(key));
    const [roomId] = idsOf([key], "room");
    if (PASSING.test(code)) {
      setTimeout(() => {
        blocked.delete(key);
        go();
      }, 500 + fullJitter(attempt++, RETRY_MAX_MS));
    } else if (roomId !== undefined && want.has(key)) deliver({ type: "_refused", roomId, code });
  }

  function tellScope() {
    deliver({
      type: "_scope",
      everyone: !!have?.has("everyone"),
      count: want.has("count"),
      users: idsOf(want.keys(), "user"),
      rooms: idsOf(want.keys(), "room"),
    });
  }

  /** The requests that bring it nearer to what is wanted, and what each of them is about. @param {Wanted} heard @returns {[Message, string[]][]} */
  function steps(heard) {
    /** @type {[Message, string[]][]} */
    const requests = [];
    const open = [...new Set([...want.keys(), ...heard.keys()])].filter((key) => {
      const value = want.get(key);
      return value !== heard.get(key) && !(blocked.has(key) && value === blocked.get(key));
    });
    const everyone = want.has("everyone");
    const users = (/** @type {boolean} */ wanted) =>
      open.filter((key) => key.startsWith("user ") && want.has(key) === wanted).slice(0, doubt ? 1 : IDS_MAX);
    const [more, less] = [users(true), users(false)];
    // This ends all of the others, so it goes alone. To watch somebody ends it, too.
    if (open.includes("everyone") && (everyone || !more.length)) {
      return [[{ type: "subscribe", presence: everyone ? "everyone" : "none" }, ["everyone"]]];
    }
    const hearsAll = everyone && heard.has("everyone");
    if (more.length && !hearsAll) requests.push([{ type: "watch", userIds: idsOf(more, "user") }, more]);
    if (less.length) requests.push([{ type: "unwatch", userIds: idsOf(less, "user") }, less]);
    for (const key of open) {
      const value = want.get(key);
      const [roomId] = idsOf([key], "room");
      if (key === "count" && !hearsAll) requests.push([{ type: value ? "watch_count" : "unwatch_count" }, [key]]);
      if (key === "paused") requests.push([{ type: value ? "pause" : "resume" }, [key]]);
      if (observes) continue;
      if (key === "idle") requests.push([{ type: "user_activity", idle: value }, [key]]);
      if (roomId !== undefined) requests.push([{ type: value ? "join_room" : "leave_room", roomId, presence: value }, [key]]);
    }
    return requests;
  }

  function go() {
    const heard = have;
    // One round after the other: what is under way decides what is left.
    if (!heard || underWay) return;
    const round = steps(heard);
    underWay = round.length;
    for (const [message, keys] of round) {
      const values = keys.map((key) => want.get(key));
      ask(message, (error) => {
        if (heard !== have) return;
        // It may have happened, and nobody knows.
        if (error?.code === "timeout") return retry();
        // Whoever is not in a room has left it.
        if (error && error.code !== "not_in_room") {
          failed(error);
          if (!doubts(error, keys[1])) keys.forEach((key) => block(key, error.code));
        } else {
          const wasEveryone = heard.has("everyone");
          const { type } = message;
          if (type === "subscribe") for (const key of heard.keys()) if (!/^(room |idle)/.test(key)) heard.delete(key);
          if (type === "watch") heard.delete("everyone");
          // There is a place now for a room that was too many.
          if (type === "leave_room") blocked.clear();
          keys.forEach((key, i) => (values[i] === undefined ? heard.delete(key) : heard.set(key, values[i])));
          if (type === "subscribe" || wasEveryone !== heard.has("everyone")) tellScope();
        }
        if (!--underWay) go();
      }, true);
    }
  }

  return {
    doubts,

    /** @param {Wanted} wanted */
    want(wanted) {
      want = wanted;
      for (const key of blocked.keys()) if (!want.has(key)) blocked.delete(key);
      go();
    },

    /** What a join says of it. The rest is asked for when the client is in. */
    joinFields() {
      const keys = [...want.keys()];
      const presence = want.has("everyone") ? "everyone" : idsOf(keys, "user").length ? "watch" : "none";
      // What was refused on the last socket must not keep the client out of this one.
      const rooms = idsOf(keys.filter((key) => want.get(key) === "everyone" && !blocked.has(key)), "room");
      return observes ? { presence } : { presence, rooms: rooms.slice(0, doubt ? 0 : IDS_MAX) };
    },

    /** The client is in, as this join has said. @param {Message} join */
    begin({ presence, rooms = [] }) {
      blocked.clear();
      have = new Map(rooms.map((/** @type {string} */ id) => ["room " + id, "everyone"]));
      if (presence === "everyone") have.set(presence, true);
      tellScope();
      go();
    },

    /** The socket is gone. */
    end() {
      have = undefined;
      underWay = attempt = 0;
    },

    /** The socket does not hear this any more, or not as a whole. @param {string} key @param {string} code why */
    lost(key, code) {
      have?.delete(key);
      block(key, code);
    },
  };
}
