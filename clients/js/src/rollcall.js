// The client, as an application sees it.

import { makeActivity } from "./activity.js";
import { now } from "./clock.js";
import { makeSession } from "./session.js";
import { makeStatement } from "./statement.js";
import { makeStore, presenceOf } from "./store.js";
import { makeWishes } from "./wishes.js";

/**
 * @typedef {import("./error.js").RollcallError} RollcallError
 * @typedef {import("./requests.js").Done} Done
 * @typedef {import("./types.js").Message} Message
 * @typedef {import("./types.js").Options} Options
 * @typedef {import("./types.js").OwnStatus} OwnStatus
 * @typedef {import("./types.js").Presence} Presence
 * @typedef {import("./types.js").Profile} Profile
 * @typedef {import("./types.js").Release} Release
 * @typedef {import("./types.js").Room} Room
 * @typedef {import("./types.js").RoomInterest} RoomInterest
 * @typedef {import("./types.js").Snapshot} Snapshot
 * @typedef {import("./types.js").StatusChoice} StatusChoice
 * @typedef {import("./types.js").TypingTarget} TypingTarget
 * @typedef {import("./types.js").User} User
 * @typedef {object} Parts what tabs that share a connection are made of
 * @property {import("./connection.js").Settled} options
 * @property {import("./store.js").Store} store
 * @property {(message: Message) => void} take applies a message here
 * @property {(deliver: (message: Message) => void) => import("./session.js").Session} makeSession
 */

/** Whoever goes on typing says so again after this time. It ends by itself 5 s after it was last said. */
const TYPING_EVERY_MS = 2500;

const DEFAULTS = {
  idleAfterMs: 300_000,
  hiddenAfterMs: 10_000,
  heartbeatMs: 10_000,
  answerMs: 5000,
  reconnectMaxMs: 30_000,
  activity: true,
  pauseHidden: true,
};

/** `https://host` is `wss://host/ws`. @param {string} [url] */
function socketUrl(url = "/") {
  const parsed = new URL(url, globalThis.location?.href);
  parsed.protocol = parsed.protocol.replace("http", "ws");
  if (parsed.pathname === "/") parsed.pathname = "/ws";
  return parsed.href;
}

export class Rollcall {
  #store = makeStore();
  #wishes = makeWishes((wanted) => this.#link.want(wanted));
  #link;
  #activity;
  /** How the page is: `idle`, `paused`. @type {Map<string, Release>} */
  #states = new Map();
  /** When this was last said to type, by target. @type {Map<string, number>} */
  #typedAt = new Map();

  /** Does not connect yet. @param {Options} [options] */
  constructor(options = {}) {
    const settled = { ...DEFAULTS, ...options, url: socketUrl(options.url) };
    const { everyone, pauseHidden, onError } = settled;
    const store = this.#store;
    const statement = makeStatement(settled);
    const take = (/** @type {Message} */ message) => {
      statement.take(message);
      store.take(message);
    };
    /** @type {Parts["makeSession"]} */
    const session = (deliver) => makeSession(settled, statement, deliver, (error) => onError?.(error), store.isDegraded);
    this.#link = settled.tabs?.({ options: settled, store, take, makeSession: session }) ?? session(take);
    this.#activity = makeActivity(settled, {
      idle: (idle) => this.setIdle(idle),
      hidden: (hidden) => this.#set("paused", (hidden && pauseHidden) || undefined),
      active: () => this.#link.say({ type: "user_activity" }),
      woke: () => this.#link.wake(),
    });
    if (everyone) this.watchEveryone();
  }

  /** Begins to connect, or begins again after it has stopped. */
  connect() {
    this.#activity.start();
    this.#link.start();
  }

  /** Says goodbye: the user is offline at once, unless another of their sockets is there. What was wished stays wished. */
  close() {
    this.#activity.stop();
    this.#link.stop(1000);
  }

  /** Calls the listener after each change. Returns what ends that. @param {() => void} listener */
  subscribe = (listener) => this.#store.subscribe(listener);

  /** All that is known. The same object until something changes. */
  getSnapshot = () => this.#store.snapshot();

  /** What is known of a user. The same object until it changes. @param {string} userId @returns {Presence} */
  presence(userId) {
    return this.#store.presence(userId);
  }

  /** What is known of a room. The same object until it changes. @param {string} roomId @returns {Room} */
  room(roomId) {
    return this.#store.room(roomId);
  }

  /** Who types there. The same array until it changes. @param {TypingTarget} target @returns {readonly string[]} */
  typing(target) {
    return this.#store.typists.in(target);
  }

  /** Hears of everyone, until it is released. @returns {Release} */
  watchEveryone() {
    return this.#wishes.add(["everyone"]);
  }

  /** Hears of these users, until it is released. @param {string | string[]} userIds @returns {Release} */
  watch(userIds) {
    return this.#wishes.add([userIds].flat().map((id) => "user " + id));
  }

  /** Hears how many users are online, until it is released. @returns {Release} */
  watchCount() {
    return this.#wishes.add(["count"]);
  }

  /** Is in the room, until it is released. @param {string} roomId @param {RoomInterest} [presence] @returns {Release} */
  joinRoom(roomId, presence = "everyone") {
    return this.#wishes.add(["room " + roomId], presence);
  }

  /** Chooses a status, on all sockets of the user. @param {StatusChoice["status"] | StatusChoice} choice @returns {Promise<OwnStatus>} */
  async setStatus(choice) {
    await this.request({ ...(typeof choice === "string" ? { status: choice } : choice), type: "set_status" });
    // The answer has been applied by now.
    return /** @type {OwnStatus} */ (this.getSnapshot().own);
  }

  /** Changes these fields of the profile. `null` takes one away. @param {Profile} fields @returns {Promise<User>} */
  async updateProfile(fields) {
    return (await this.request({ ...fields, type: "update_presence" })).user;
  }

  /** Call it with each key: it is said as often as needed. @param {TypingTarget} target */
  startTyping(target) {
    const key = JSON.stringify(target);
    // Without a time, this is no number, and no smaller one.
    if (now() - /** @type {number} */ (this.#typedAt.get(key)) < TYPING_EVERY_MS) return;
    this.#typedAt.set(key, now());
    this.#link.say({ ...target, type: "typing_start" });
  }

  /** The user has stopped, or has sent the message. @param {TypingTarget} target */
  stopTyping(target) {
    if (this.#typedAt.delete(JSON.stringify(target))) this.#link.say({ ...target, type: "typing_stop" });
  }

  /** For a program without a page: whether nobody is there. @param {boolean} idle */
  setIdle(idle) {
    this.#set("idle", idle);
  }

  /** Asks once how a user is. @param {string} userId @returns {Promise<Presence>} */
  async check(userId) {
    return presenceOf(await this.request({ type: "check_user_online", userId }));
  }

  /** Sends any request of docs/protocol.md. Rejects with a `RollcallError`. @param {Message} message @returns {Promise<Message>} */
  request(message) {
    return new Promise((resolve, reject) => {
      this.#link.ask(message, (error, answer) => (error ? reject(error) : resolve(answer)));
    });
  }

  /** @param {string} state @param {boolean} [value] */
  #set(state, value) {
    this.#states.get(state)?.();
    this.#states.delete(state);
    if (value !== undefined) this.#states.set(state, this.#wishes.add([state], value));
  }
}
