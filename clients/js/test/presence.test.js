// What a client hears, on a real node: lists in pages, watched users, numbers, rooms, typing, statuses, profiles.

import assert from "node:assert/strict";
import { before, test } from "node:test";
import { connect, connected, ids, isIn } from "./support/client.js";
import { startFake } from "./support/fake.js";
import { startProxy } from "./support/proxy.js";
import { startNode } from "./support/service.js";
import { until } from "./support/wait.js";

/** @type {Awaited<ReturnType<typeof startNode>>} */
let node;

before(async () => {
  node = await startNode({ ROLLCALL__LIMITS__PAGE_DEFAULT: "5", ROLLCALL__LIMITS__REQUESTS_PER_SECOND: "100" });
});

/** @param {string} prefix @param {number} n @param {object} [more] */
const crowd = (prefix, n, more) =>
  Promise.all(Array.from({ length: n }, (_, i) => connected({ url: node.url, userId: prefix + String(i).padStart(2, "0"), ...more })));

test("a list comes in pages, and its users are those of the service", async () => {
  const users = await crowd("page", 17);
  const client = await connected({ url: node.url, userId: "reader", everyone: true });
  await until("all pages", () => client.getSnapshot().complete);
  assert.deepEqual(client.getSnapshot().users, await node.online());
  assert.equal(client.getSnapshot().count, 18);
  const before = client.getSnapshot().users;
  // Nothing changes: whoever reads again gets the same objects.
  await client.check("page03");
  assert.equal(client.getSnapshot().users, before);
  users[3].close();
  await until("a departure", () => client.getSnapshot().count === 17);
  assert.equal(client.presence("page03").status, "offline");
  assert.deepEqual(client.getSnapshot().users, await node.online());
  [client, ...users].forEach((each) => each.close());
});

test("a list that begins anew while its pages come is followed to its end", async () => {
  const users = await crowd("anew", 12);
  const client = await connected({ url: node.url, userId: "again", everyone: true });
  // Each answer begins a new list, and pages of the one before still come.
  await Promise.all(Array.from({ length: 5 }, () => client.request({ type: "subscribe", presence: "everyone" })));
  await until("all pages", () => client.getSnapshot().complete && client.getSnapshot().count === 13);
  assert.deepEqual(client.getSnapshot().users, await node.online());
  [client, ...users].forEach((each) => each.close());
});

test("only watched users are known, and all others are unknown", async () => {
  const [one, two] = await crowd("watched", 2);
  const client = await connected({ url: node.url, userId: "watcher" });
  assert.equal(client.presence("watched00").status, "unknown");
  const release = client.watch(["watched00", "absent"]);
  await until("the answer", () => client.presence("absent").status === "offline");
  assert.equal(client.presence("watched00").status, "online");
  assert.equal(client.presence("watched01").status, "unknown");
  assert.equal(client.getSnapshot().count, undefined);
  const second = client.watch("watched00");
  await one.setStatus({ status: "dnd", text: "asleep" });
  await until("the status", () => client.presence("watched00").status === "dnd");
  assert.equal(client.presence("watched00").user?.statusText, "asleep");
  one.close();
  await until("the departure", () => client.presence("watched00").status === "offline");
  release();
  release();
  await until("one is forgotten", () => client.presence("absent").status === "unknown");
  assert.equal(client.presence("watched00").status, "offline");
  second();
  await until("the other, too", () => client.presence("watched00").status === "unknown");
  client.close();
  two.close();
});

test("from everyone to some, and back", async () => {
  const users = await crowd("some", 7);
  const client = await connected({ url: node.url, userId: "changes" });
  client.watch("some01");
  await until("one", () => ids(client) === "some01");
  const release = client.watchEveryone();
  await until("everyone", () => client.getSnapshot().complete);
  assert.equal(client.getSnapshot().count, 8);
  assert.equal(client.presence("nobody").status, "offline");
  release();
  await until("one again", () => ids(client) === "some01");
  assert.equal(client.getSnapshot().complete, false);
  assert.equal(client.presence("nobody").status, "unknown");
  users[1].close();
  await until("its departure", () => client.presence("some01").status === "offline");
  [client, ...users].forEach((each) => each.close());
});

test("more users are watched than one request may name", async () => {
  const [user] = await crowd("many", 1);
  const client = await connected({ url: node.url, userId: "many" });
  client.watch(["many00", ...Array.from({ length: 130 }, (_, i) => `${"ü".repeat(60)}${i}`)]);
  await until("the last", () => client.presence(`${"ü".repeat(60)}129`).status === "offline");
  assert.equal(client.presence("many00").status, "online");
  client.close();
  user.close();
});

test("the number is heard beside anything else", async () => {
  const client = await connected({ url: node.url, userId: "counts" });
  const release = client.watchCount();
  await until("the number", () => client.getSnapshot().count === 1);
  const users = await crowd("counted", 3);
  await until("a greater number", () => client.getSnapshot().count === 4);
  release();
  await until("no number", () => client.getSnapshot().count === undefined);
  [client, ...users].forEach((each) => each.close());
});

test("a room shows who is there, in pages, and is entered again after a break", async () => {
  const users = await crowd("room", 8);
  users.forEach((user) => user.joinRoom("kitchen", "none"));
  const proxy = await startProxy(node.port);
  const client = await connected({ url: proxy.url, userId: "cook" });
  assert.equal(client.room("kitchen").joined, false);
  const release = client.joinRoom("kitchen");
  await until("all", () => client.room("kitchen").count === 9 && client.room("kitchen").complete);
  assert.deepEqual(client.room("kitchen").users.map(({ id }) => id), ["cook", ...users.map((_, i) => `room0${i}`)]);
  proxy.refuse();
  proxy.cut();
  await isIn(client, "waiting");
  assert.equal(client.room("kitchen").users.length, 9);
  users[0].close();
  await until("a departure", async () => !(await node.online()).some(({ id }) => id === "room00"));
  proxy.heal();
  await until("the room again", () => client.room("kitchen").count === 8);
  release();
  await until("outside", () => !client.room("kitchen").joined);
  [client, ...users].forEach((each) => each.close());
});

test("a room may tell its number alone", async () => {
  const users = await crowd("hall", 3);
  const client = await connected({ url: node.url, userId: "porter" });
  const count = client.joinRoom("hall", "count");
  users.forEach((user) => user.joinRoom("hall"));
  await until("the number", () => client.room("hall").count === 4);
  assert.deepEqual(client.room("hall").users, []);
  const everyone = client.joinRoom("hall");
  await until("everyone", () => client.room("hall").users.length === 4);
  everyone();
  await until("the number again", () => client.room("hall").users.length === 0);
  assert.equal(client.room("hall").joined, true);
  count();
  await until("outside", () => !client.room("hall").joined);
  [client, ...users].forEach((each) => each.close());
});

test("a client hears who types, and forgets it when they leave", async () => {
  const [writer, reader] = await crowd("types", 2);
  const release = writer.joinRoom("chat");
  reader.joinRoom("chat");
  await until("both", () => reader.room("chat").count === 2 && writer.room("chat").joined);
  writer.startTyping({ roomId: "chat" });
  writer.startTyping({ roomId: "chat" });
  writer.startTyping({ toUserId: "types01" });
  await until("typing", () => reader.typing({ roomId: "chat" }).length && reader.typing({ toUserId: "types00" }).length);
  assert.deepEqual(reader.typing({ roomId: "chat" }), ["types00"]);
  assert.equal(reader.typing({ roomId: "chat" }), reader.typing({ roomId: "chat" }));
  writer.stopTyping({ toUserId: "types01" });
  await until("an end", () => !reader.typing({ toUserId: "types00" }).length);
  release();
  await until("another end", () => !reader.typing({ roomId: "chat" }).length);
  assert.deepEqual(writer.errors, []);
  writer.close();
  reader.close();
});

test("who hides is seen by nobody, and knows it themselves", async () => {
  const hidden = await connected({ url: node.url, userId: "hides", everyone: true, profile: { name: "Hidden" } });
  const other = await connected({ url: node.url, userId: "looks", everyone: true });
  await until("both", () => ids(hidden) === "hides,looks" && ids(other) === "hides,looks");
  assert.deepEqual(await hidden.setStatus("invisible"), {
    chosen: "invisible",
    effective: "invisible",
    statusText: undefined,
    expiresAt: undefined,
  });
  await until("one", () => ids(hidden) === "looks" && ids(other) === "looks");
  assert.equal(hidden.getSnapshot().count, 1);
  await hidden.setStatus({ status: "busy", text: "back" });
  await until("both again", () => ids(other) === "hides,looks");
  assert.deepEqual(hidden.getSnapshot().users, await node.online());
  assert.deepEqual(other.getSnapshot().users, await node.online());
  hidden.close();
  other.close();
});

test("a status and a profile are stated again after a break", async () => {
  const proxy = await startProxy(node.port);
  const client = await connected({ url: proxy.url, userId: "states", profile: { name: "Old", avatar: "a.png" }, status: "away" });
  await client.updateProfile({ name: "New", avatar: null });
  await client.setStatus({ status: "busy", text: "in a call", expiresInMs: 600_000 });
  proxy.refuse();
  proxy.cut();
  // Without a grace, everything about the user is forgotten.
  await until("offline", async () => !(await node.online()).length);
  proxy.heal();
  await isIn(client, "connected");
  assert.deepEqual(await node.online(), [{ id: "states", name: "New", status: "busy", statusText: "in a call" }]);
  assert.ok(client.getSnapshot().own?.expiresAt);
  client.close();
});

test("a refused wish says why, and the others hold", async () => {
  const client = await connected({ url: node.url, userId: "wishes" });
  const bad = client.joinRoom("\u0001");
  client.joinRoom("good");
  await until("the good room", () => client.room("good").joined);
  await until("the refusal", () => client.room("\u0001").error);
  assert.equal(client.room("\u0001").error, "invalid_field");
  assert.equal(client.room("\u0001").joined, false);
  bad();
  client.close();
});

test("an id that cannot be watched takes nothing from the others", async () => {
  const users = await crowd("there", 3);
  const client = await connected({ url: node.url, userId: "watcher" });
  for (const id of ["there00", "", "there01", "\u0001", "there02"]) client.watch(id);
  await until("all who can be", () => users.every((_, i) => client.presence(`there0${i}`).status === "online"));
  assert.equal(client.presence("").status, "unknown");
  assert.ok(client.errors.includes("invalid_field"));
  [client, ...users].forEach((each) => each.close());
});

test("a room that cannot be entered keeps the client out of nothing else, and not of the next connection", async () => {
  const proxy = await startProxy(node.port);
  const client = connect({ url: proxy.url, userId: "homeless" });
  client.joinRoom("");
  client.joinRoom("home");
  await until("the other room", () => client.room("home").joined && client.room("").error === "invalid_field");
  /** @type {string[]} */
  const states = [];
  client.subscribe(() => states.push(client.getSnapshot().connection));
  const before = proxy.accepted();
  proxy.cut();
  await until("the next connection", () => proxy.accepted() > before && client.getSnapshot().connection === "connected");
  await until("both answers", () => client.room("home").joined && client.room("").error === "invalid_field");
  assert.equal(proxy.accepted(), before + 1, "the first join is let in");
  assert.ok(!states.includes("stopped"));
  client.close();
});

test("a wish of one moment costs nothing", async () => {
  const proxy = await startProxy(node.port);
  const client = await connected({ url: proxy.url, userId: "moment" });
  /** @type {string[]} */
  const types = [];
  client.subscribe(() => types.push(client.presence("x").status));
  client.watch("x")();
  client.joinRoom("r")();
  await client.check("x");
  assert.deepEqual(types, []);
  assert.equal(client.room("r").joined, false);
  client.close();
});

test("a listener that throws takes nothing from the others", async () => {
  const client = await connected({ url: node.url, userId: "throws" });
  /** @type {unknown[]} */
  const thrown = [];
  const catches = (/** @type {unknown} */ error) => thrown.push(error);
  const others = process.listeners("uncaughtException");
  process.removeAllListeners("uncaughtException").on("uncaughtException", catches);
  const fault = new Error("mine");
  const off = client.subscribe(() => {
    throw fault;
  });
  let told = 0;
  client.subscribe(() => told++);
  client.watch("throws");
  await until("the others", () => told && thrown.length);
  assert.equal(thrown[0], fault);
  off();
  process.removeAllListeners("uncaughtException");
  others.forEach((other) => process.on("uncaughtException", other));
  client.close();
});

test("what is no message of the service is not taken for one", async () => {
  const url = await startFake((socket) => {
    socket.send("hello");
    socket.send("null");
    socket.send('{"type":"of a later version"}');
    socket.send('{"type":"watching"}');
    socket.on("message", (data) => {
      const { ref } = JSON.parse(String(data));
      socket.send(JSON.stringify({ type: "welcome", userId: "x", ref }));
    });
  });
  const client = connect({ url, userId: "x" });
  await isIn(client, "connected");
  assert.deepEqual(client.errors, ["invalid_message", "invalid_message"]);
  client.close();
});
