// After any sequence of wishes and faults, what a client knows is what the service says.
//
// A run follows from its seed, but for the timing. `ROLLCALL_SEED=7 node scripts/test.js test/model.test.js` repeats one. Seeds that
// have found something are kept in SEEDS.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { inspect } from "node:util";
import { sharedTabs } from "@rollcall/client/tabs";
import { QUICK } from "./support/client.js";
import { startFleet } from "./support/fleet.js";
import { makeLocks } from "./support/locks.js";
import { document } from "./support/page.js";
import { startProxy } from "./support/proxy.js";
import { makeRandom } from "./support/random.js";

const { Rollcall } = await import("@rollcall/client");

/** @typedef {import("@rollcall/client").Release} Release */
/** @typedef {ReturnType<typeof makeSeat>} Seat */

const SEEDS = [28];
const STEPS = 200;
const ROOMS = ["attic", "cellar"];
const SETTINGS = { ROLLCALL__LIMITS__PAGE_DEFAULT: "3", ROLLCALL__REDIS__CALL_TIMEOUT_MS: "500" };
/** How long a fleet may take to agree with itself: holds after a loss of data are the longest part. */
const QUIET_MS = 90_000;

/** What a seat wants to hear: an own map from the wish to what ends it. @typedef {Map<string, Release>} Wishes */

/**
 * Somebody at a client, behind a network of their own.
 * @param {Awaited<ReturnType<typeof startFleet>>} fleet @param {string} userId
 */
const sit = async (fleet, userId) => makeSeat(await startProxy(fleet.nodes[0].port), userId);

/** @param {Awaited<ReturnType<typeof startProxy>>} network @param {string} userId @param {object} [more] options */
function makeSeat(network, userId, more) {
  /** What was said and heard last, for whoever looks for a fault. @type {string[]} */
  const talk = [];
  const note = (/** @type {string} */ text) => void (talk.push(`${new Date().toISOString().slice(14)} ${text}`) > 300 && talk.shift());
  class Noted extends WebSocket {
    /** @param {string} url */
    constructor(url) {
      super(url);
      this.addEventListener("message", ({ data }) => note(`< ${data}`));
      this.addEventListener("close", ({ code }) => note(`closed ${code}`));
    }
    /** @param {string} data */
    send(data) {
      note(`> ${data}`);
      super.send(data);
    }
  }
  const client = new Rollcall({ ...QUICK, url: network.url, userId, hiddenAfterMs: 20, WebSocket: Noted, onError: ({ code }) => note(`error ${code}`), ...more });
  after(() => client.close());
  let before = client.getSnapshot();
  client.subscribe(() => {
    // True at any moment, whatever happens.
    const now = client.getSnapshot();
    assert.notEqual(now, before);
    assert.equal(now, client.getSnapshot());
    const ids = now.users.map(({ id }) => id);
    assert.deepEqual(ids, [...new Set(ids)].sort());
    if (now.complete) assert.equal(now.count, ids.length);
    for (const id of ids) assert.notEqual(client.presence(id).status, "offline");
    before = now;
  });
  const seat = { userId, network, client, talk, place: 0, isHere: false, wishes: /** @type {Wishes} */ (new Map()), rooms: new Map() };
  return Object.assign(seat, { tabs: [seat] });
}

/** What may happen, each as often as it is named. */
const ACTS = `cut cut silence hear hear slow refuse accept accept move come come come leave status status profile idle hide show show
  watch watch watch everyone count room room room check page storm typing drain kill cutRedis healRedis healRedis loseRedis`.split(/\s+/);

/**
 * @param {ReturnType<typeof makeRandom>} random @param {Awaited<ReturnType<typeof startFleet>>} fleet @param {Seat[]} seats
 * @param {string[]} userIds
 */
function makeActs(random, fleet, seats, userIds) {
  /** @param {Promise<unknown>} answer which may be a refusal */
  const tried = (answer) => void answer.catch((error) => assert.equal(error.name, "RollcallError", error));
  /** Begins a wish, or ends it. @param {Wishes} wishes @param {string} key @param {() => Release} begin */
  function turn(wishes, key, begin) {
    const release = wishes.get(key);
    wishes.delete(key);
    if (release) release();
    else wishes.set(key, begin());
  }
  /** @param {boolean} hidden */
  function setHidden(hidden) {
    Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
    document.dispatchEvent(new window.Event("visibilitychange"));
  }
  /** Everybody behind a node goes to the new one. @param {"drain" | "kill"} end */
  async function replace(end) {
    const place = random.below(2);
    await fleet.replace(place, end);
    for (const seat of seats) if (seat.tabs[0].place === place) seat.network.turnTo(fleet.nodes[place].port);
  }

  return /** @type {Record<string, (seat: Seat) => void | Promise<void>>} */ ({
    cut: ({ network }) => network.cut(),
    silence: ({ network }) => network.silence(),
    hear: ({ network }) => network.heal(),
    slow: ({ network }) => network.delay(random.below(100)),
    refuse: ({ network }) => network.refuse(),
    accept: ({ network }) => network.heal(),
    move(seat) {
      seat.tabs[0].place = random.below(2);
      seat.network.turnTo(fleet.nodes[seat.tabs[0].place].port);
      seat.network.cut();
    },
    come(seat) {
      seat.isHere = true;
      seat.client.connect();
    },
    leave(seat) {
      seat.isHere = false;
      seat.client.close();
    },
    status({ client }) {
      const status = random.pick(/** @type {const} */ (["online", "away", "busy", "dnd", "invisible", "invisible"]));
      tried(client.setStatus({ status, text: random.pick([undefined, "a", "b"]), expiresInMs: random.pick([undefined, undefined, 1500]) }));
    },
    profile: ({ client }) => tried(client.updateProfile({ name: random.pick(["A", "B", null]) })),
    idle: ({ client }) => client.setIdle(random.below(2) === 0),
    hide: () => setHidden(true),
    show: () => setHidden(false),
    watch({ client, wishes }) {
      const id = random.pick([...userIds, "nobody"]);
      turn(wishes, `user ${id}`, () => client.watch(id));
    },
    everyone: ({ client, wishes }) => turn(wishes, "everyone", () => client.watchEveryone()),
    count: ({ client, wishes }) => turn(wishes, "count", () => client.watchCount()),
    room({ client, rooms }) {
      const id = random.pick(ROOMS);
      const interest = random.pick(/** @type {const} */ (["everyone", "everyone", "count", "none"]));
      turn(rooms, id, () => Object.assign(client.joinRoom(id, interest), { interest }));
    },
    check: ({ client }) => tried(client.check(random.pick(userIds))),
    page: ({ client }) => tried(client.request({ type: "get_online_users", limit: 2 })),
    storm({ client }) {
      for (let i = 0; i < 40; i++) tried(client.check("nobody"));
    },
    typing({ client, rooms }) {
      for (const roomId of rooms.keys()) client.startTyping({ roomId });
    },
    drain: () => replace("drain"),
    kill: () => replace("kill"),
    cutRedis: () => fleet.cutRedis(),
    healRedis: () => fleet.healRedis(),
    loseRedis: () => fleet.loseRedis(),
  });
}

/** What the service says, on each of its nodes. @param {Awaited<ReturnType<typeof startFleet>>} fleet */
async function truth({ nodes }) {
  /** @param {string} url @param {string} roomId */
  async function inRoom(url, roomId) {
    const { data } = /** @type {any} */ (await (await fetch(`${url}/api/chatroom/${roomId}/online-users?limit=10000`)).json());
    return data?.onlineUsers.map((/** @type {any} */ { userId }) => userId);
  }
  const told = [];
  for (const { url, online } of nodes) {
    const rooms = await Promise.all(ROOMS.map(async (roomId) => [roomId, await inRoom(url, roomId)]));
    told.push({ users: await online(), rooms: Object.fromEntries(rooms) });
  }
  assert.deepEqual(told[0], told[1], "the nodes agree");
  return told[0];
}

/** Fails unless the client knows the truth, as far as it wants to. @param {Seat} seat @param {Awaited<ReturnType<typeof truth>>} truth */
function compare({ userId, client, isHere, tabs }, { users, rooms: roomUsers }) {
  const { connection, users: known, complete, count, own, degraded } = client.getSnapshot();
  if (!isHere) return assert.match(connection, /idle|stopped/);
  assert.deepEqual([connection, degraded], ["connected", false]);
  // Nobody tells a socket of its own user's profile, if another socket has changed it.
  const picture = (/** @type {readonly any[]} */ list) => list.map((user) => (user.id === userId ? { ...user, name: undefined } : user));
  // Tabs that share a connection hear of what any of them wants.
  const here = tabs.filter((tab) => tab.isHere);
  const wishes = new Set(here.flatMap((tab) => [...tab.wishes.keys()]));
  const isWanted = (/** @type {string} */ id) => wishes.has("everyone") || wishes.has(`user ${id}`);
  assert.deepEqual(picture(known), picture(users.filter(({ id }) => isWanted(id))));
  assert.equal(complete, wishes.has("everyone"));
  assert.equal(count, wishes.has("everyone") || wishes.has("count") ? users.length : undefined);
  for (const id of ["nobody", userId, ...users.map(({ id }) => id)]) {
    const { status = "offline" } = users.find((user) => user.id === id) ?? {};
    assert.equal(client.presence(id).status, isWanted(id) ? status : "unknown", id);
  }
  assert.equal(own?.effective, users.find(({ id }) => id === userId)?.status ?? "invisible");
  for (const roomId of ROOMS) {
    const interests = here.map(({ rooms }) => rooms.get(roomId)?.interest);
    const interest = ["everyone", "count", "none"].find((each) => interests.includes(each));
    const room = client.room(roomId);
    assert.equal(room.joined, !!interest, room.error);
    if (!interest) continue;
    assert.deepEqual(room.users.map(({ id }) => id), interest === "everyone" ? roomUsers[roomId] : []);
    for (const user of room.users) assert.deepEqual(picture([user]), picture([users.find(({ id }) => id === user.id)]));
    if (interest !== "none") assert.equal(room.count, roomUsers[roomId].length);
  }
}

/** @param {number} seed */
async function run(seed) {
  const random = makeRandom(seed);
  const fleet = await startFleet(SETTINGS);
  const userIds = ["ann", "ben", "cem", "dot", "eva"];
  const locks = makeLocks();
  const seats = await Promise.all([...userIds.map((id) => sit(fleet, id)), sit(fleet, "ann")]);
  userIds.push("fay");
  const network = await startProxy(fleet.nodes[0].port);
  const tabs = [1, 2, 3].map(() => makeSeat(network, "fay", { tabs: sharedTabs(locks.ofTab()) }));
  for (const tab of tabs) seats.push(Object.assign(tab, { tabs }));
  const acts = makeActs(random, fleet, seats, userIds);
  for (const seat of seats) acts.come(seat);
  for (let step = 0; step < STEPS; step++) {
    await acts[random.pick(ACTS)](random.pick(seats));
    // The pace of the faults, and not a hope: what must hold is waited for below.
    await new Promise((resolve) => setTimeout(resolve, random.below(60)));
  }
  fleet.healRedis();
  seats.forEach(({ network }) => network.heal());
  acts.show(seats[0]);
  await fleet.ready();

  const end = Date.now() + QUIET_MS;
  /** @type {Seat} */
  let looked = seats[0];
  for (;;) {
    try {
      const now = await truth(fleet);
      for (const seat of seats) {
        looked = seat;
        compare(seat, now);
      }
      // All who are here and do not hide are online, and nobody else.
      const visible = seats.filter(({ client, isHere }) => isHere && client.getSnapshot().own?.effective !== "invisible");
      assert.deepEqual(now.users.map(({ id }) => id), [...new Set(visible.map(({ userId }) => userId))].sort());
      return;
    } catch (error) {
      if (Date.now() > end) {
        const { userId, wishes, rooms, tabs, client } = looked;
        const wanted = [...wishes.keys(), ...[...rooms].map(([id, { interest }]) => `${id}: ${interest}`)];
        const known = { snapshot: client.getSnapshot(), rooms: ROOMS.map((id) => tabs.map((tab) => tab.client.room(id))) };
        const story = inspect({ userId, tab: tabs.indexOf(looked), wanted, ...known, truth: await truth(fleet) }, { depth: 5 });
        throw new Error([story, ...tabs.flatMap((tab, i) => ["", `tab ${i}`, ...tab.talk])].join("\n"), { cause: error });
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

const seeds = process.env.ROLLCALL_SEED ? [Number(process.env.ROLLCALL_SEED)] : [...SEEDS, Date.now() % 2 ** 31];
for (const seed of seeds) test(`a client knows what the service says, ROLLCALL_SEED=${seed}`, () => run(seed));
