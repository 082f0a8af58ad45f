// Tabs that share a connection: real messages between them, a real node.

import assert from "node:assert/strict";
import { before, test } from "node:test";
import { Rollcall } from "@rollcall/client";
import { sharedTabs } from "@rollcall/client/tabs";
import { connect, connected, isIn, makeClient } from "./support/client.js";
import { makeLocks } from "./support/locks.js";
import { startProxy } from "./support/proxy.js";
import { startNode } from "./support/service.js";
import { token, TOKENS } from "./support/tokens.js";
import { until } from "./support/wait.js";

/** @type {Awaited<ReturnType<typeof startNode>>} */
let node;

before(async () => {
  node = await startNode();
});

/** @param {string} url @param {string} userId */
function browser(url, userId) {
  const locks = makeLocks();

  /** @param {Partial<import("@rollcall/client").Options>} [options] */
  function make(options) {
    const tab = locks.ofTab();
    const client = makeClient({ url, userId, tabs: sharedTabs(tab), ...options });
    const connect = () => {
      const { BroadcastChannel } = globalThis;
      // It is looked for when the tab starts.
      Object.assign(globalThis, { BroadcastChannel: tab.BroadcastChannel });
      Rollcall.prototype.connect.call(client);
      Object.assign(globalThis, { BroadcastChannel });
    };
    return Object.assign(client, { connect, end: tab.end, sleep: tab.sleep, wake: tab.wake });
  }

  /** @param {Partial<import("@rollcall/client").Options>} [options] */
  function open(options) {
    const tab = make(options);
    tab.connect();
    return tab;
  }

  return Object.assign(open, { make, requests: locks.requests });
}

test("tabs share one connection, and each knows what it wants", async () => {
  const proxy = await startProxy(node.port);
  const open = browser(proxy.url, "shares");
  const other = await connected({ url: node.url, userId: "other" });
  const tabs = [open(), open(), open()];
  for (const tab of tabs) await isIn(tab, "connected");
  tabs[1].watch("other");
  tabs[2].joinRoom("room");
  await until("a watched user", () => tabs[1].presence("other").status === "online");
  await until("a room", () => tabs[2].room("room").joined);
  assert.equal((await tabs[2].setStatus("busy")).chosen, "busy");
  await until("a status in all tabs", () => tabs.every((tab) => tab.getSnapshot().own?.chosen === "busy"));
  await assert.rejects(tabs[1].request({ type: "dance" }), { code: "unknown_type" });
  assert.equal(proxy.accepted(), 1);
  // A tab that comes late knows what the others know.
  const late = open();
  late.watch("other");
  await until("the same", () => late.presence("other").status === "online" && late.getSnapshot().own?.chosen === "busy");
  assert.equal(proxy.accepted(), 1);
  [...tabs, late, other].forEach((each) => each.close());
  await until("offline", async () => !(await node.online()).length);
});

test("when the leading tab closes, another goes on, and nobody notices", async () => {
  const proxy = await startProxy(node.port);
  const open = browser(proxy.url, "goes on");
  const watcher = await connected({ url: node.url, userId: "watcher" });
  watcher.watch("goes on");
  const first = open();
  await isIn(first, "connected");
  const second = open();
  second.watchEveryone();
  await until("the list", () => second.getSnapshot().complete);
  await second.updateProfile({ name: "Ada" });
  await until("online", () => watcher.presence("goes on").user?.name === "Ada");
  const seen = new Set();
  watcher.subscribe(() => seen.add(watcher.presence("goes on").user?.name));
  first.close();
  assert.equal(first.getSnapshot().connection, "stopped");
  await until("a second connection", () => proxy.accepted() === 2);
  await isIn(second, "connected");
  // The new leader's own list comes after its join.
  const online = JSON.stringify(await node.online());
  await until("the list", () => JSON.stringify(second.getSnapshot().users) === online);
  assert.deepEqual([...seen], []);
  second.close();
  await until("a goodbye", () => watcher.presence("goes on").status === "offline");
  watcher.close();
});

test("a profile that one tab changes is the same in all tabs", async () => {
  const open = browser(node.url, "profile");
  const [lead, follows] = [open(), open()];
  lead.watchEveryone();
  for (const tab of [lead, follows]) await until("the list", () => tab.getSnapshot().complete);
  const names = (/** @type {typeof lead} */ tab) => tab.getSnapshot().users.map(({ name }) => name).join();
  for (const [name, tab] of /** @type {const} */ ([["Ada", follows], ["Bea", lead], ["Cia", follows]])) {
    assert.equal((await tab.updateProfile({ name })).name, name);
    // Whoever has the answer sees it in the store, too.
    assert.equal(names(tab), name);
    await until("the other tab", () => names(lead) === name && names(follows) === name);
  }
  assert.equal((await follows.setStatus("dnd")).chosen, "dnd");
  assert.equal(follows.getSnapshot().users[0].status, "dnd");
  lead.close();
  follows.close();
});

test("a tab that dies wants nothing any more", async () => {
  const open = browser(node.url, "dies");
  const lead = open();
  await isIn(lead, "connected");
  const dies = open();
  dies.joinRoom("grave");
  await until("the room", () => lead.room("grave").joined);
  dies.end();
  await until("outside", () => !lead.room("grave").joined);
  dies.close();
  lead.close();
});

test("a leading tab that dies is replaced", async () => {
  const open = browser(node.url, "replaced");
  const lead = open();
  const next = open();
  await isIn(next, "connected");
  lead.end();
  // What is left of it in this process must not speak any more.
  lead.close();
  await isIn(next, "connected");
  assert.equal((await next.check("replaced")).status, "online");
  next.close();
});

test("a leading tab that sleeps is replaced, and follows when it wakes", async () => {
  const proxy = await startProxy(node.port);
  const open = browser(proxy.url, "sleeps");
  const lead = open();
  await isIn(lead, "connected");
  const next = open();
  next.watchEveryone();
  await until("the list", () => next.getSnapshot().complete);
  lead.sleep();
  await assert.rejects(next.check("sleeps"), { code: "disconnected" });
  await isIn(next, "connected");
  const comes = await connected({ url: node.url, userId: "comes" });
  await until("who comes", () => next.presence("comes").status === "online");
  // What it heard in its sleep is not heard by the others any more.
  comes.close();
  await until("a departure", () => next.presence("comes").status === "offline");
  lead.wake();
  await until("one connection", () => proxy.open() === 1);
  await until("the same", () => JSON.stringify(lead.getSnapshot()) === JSON.stringify(next.getSnapshot()));
  assert.equal(next.presence("comes").status, "offline");
  assert.equal((await lead.check("sleeps")).status, "online");
  assert.equal(proxy.accepted(), 2);
  lead.close();
  next.close();
});

test("tabs that only look notice that the leading tab sleeps", async () => {
  const proxy = await startProxy(node.port);
  const open = browser(proxy.url, "looks on");
  const lead = open();
  await isIn(lead, "connected");
  const looks = open();
  looks.watch("arrives");
  await until("an answer", () => looks.presence("arrives").status === "offline");
  lead.sleep();
  const arrives = await connected({ url: node.url, userId: "arrives" });
  await until("who arrives", () => looks.presence("arrives").status === "online");
  lead.wake();
  await until("one connection", () => proxy.open() === 1);
  [arrives, lead, looks].forEach((each) => each.close());
});

for (const first of /** @type {const} */ (["locks", "messages"])) {
  test(`a leading tab that wakes and hears of ${first} first takes nobody along`, async () => {
    const proxy = await startProxy(node.port);
    const open = browser(proxy.url, `wakes ${first}`);
    const sleeps = open();
    await isIn(sleeps, "connected");
    sleeps.sleep();
    // It does not know these yet. It hears of them when it wakes.
    const others = [open(), open()];
    others.forEach((tab) => tab.watch("late"));
    await Promise.allSettled(others.map((tab) => tab.check("late")));
    for (const tab of others) await until("an answer", () => tab.presence("late").status === "offline");
    sleeps.wake(first);
    await until("one connection", () => proxy.open() === 1);
    const late = await connected({ url: node.url, userId: "late" });
    for (const tab of others) await until("who is late", () => tab.presence("late").status === "online");
    await until("the same", () => JSON.stringify(sleeps.getSnapshot()) === JSON.stringify(others[0].getSnapshot()));
    assert.equal((await sleeps.check("late")).status, "online");
    assert.equal(proxy.accepted(), 2);
    // Each tab holds its own lock, and has one place among those who lead or would lead. The leader waits for the locks of the others.
    await until("no requests that are left over", () => open.requests() === 3 + 3 + 2);
    [late, sleeps, ...others].forEach((each) => each.close());
  });
}

test("a request waits for the connection, and begins none", async () => {
  const proxy = await startProxy(node.port);
  const open = browser(proxy.url, "asks early");
  const [lead, follows, never] = [open.make(), open.make(), open.make({ answerMs: 300 })];
  const early = lead.check("asks early");
  lead.connect();
  assert.equal((await early).status, "online");
  const second = follows.setStatus("busy");
  follows.connect();
  assert.equal((await second).chosen, "busy");
  assert.equal((await lead.check("asks early")).status, "busy");
  const many = await Promise.allSettled(Array.from({ length: 300 }, () => never.check("asks early")));
  const codes = many.map((result) => /** @type {PromiseRejectedResult} */ (result).reason.code);
  assert.deepEqual(new Set(codes), new Set(["too_many_requests", "disconnected"]));
  assert.equal(codes.filter((code) => code === "disconnected").length, 256);
  assert.equal(never.getSnapshot().connection, "idle");
  assert.equal(proxy.accepted(), 1);
  lead.close();
  follows.close();
});

test("a request of a tab that has closed does not touch the others", async () => {
  const proxy = await startProxy(node.port);
  const open = browser(proxy.url, "asks late");
  const lead = open();
  await isIn(lead, "connected");
  const closed = open();
  await isIn(closed, "connected");
  closed.close();
  await assert.rejects(closed.check("asks late"), { code: "disconnected" });
  assert.equal(lead.getSnapshot().connection, "connected");
  assert.equal(closed.getSnapshot().connection, "stopped");
  assert.equal(proxy.accepted(), 1);
  lead.close();
});

test("only tabs that are the same share a connection", async () => {
  const proxy = await startProxy(node.port);
  const open = browser(proxy.url, "same");
  const joins = open();
  const observes = [open({ observe: true }), open({ observe: true }), open({ observe: true, userId: undefined })];
  const tabs = [joins, ...observes, open({ observe: true, userId: undefined })];
  for (const tab of tabs) await isIn(tab, "connected");
  assert.equal(joins.getSnapshot().userId, "same");
  assert.ok(observes.every((tab) => tab.getSnapshot().userId === undefined));
  assert.equal(proxy.accepted(), 3);
  tabs.forEach((tab) => tab.close());
});

test("tabs whose users only their tokens know do not share a connection", async () => {
  const strict = await startNode(TOKENS);
  const proxy = await startProxy(strict.port);
  const open = browser(proxy.url, "");
  const tabs = ["Ada", "Bea"].map((user) => open({ userId: undefined, getToken: () => token(user, 3600) }));
  const scope = "presence:read observe";
  const observes = ["Ada", "Bea"].map((user) => open({ userId: undefined, observe: true, getToken: () => token(user, 3600, { scope }) }));
  for (const tab of [...tabs, ...observes]) await isIn(tab, "connected");
  assert.deepEqual(tabs.map((tab) => tab.getSnapshot().userId), ["Ada", "Bea"]);
  assert.equal(proxy.accepted(), 4);
  [...tabs, ...observes].forEach((tab) => tab.close());
});

test("a tab that closes and opens again at once follows as before", async () => {
  const open = browser(node.url, "again");
  const [lead, follows] = [open(), open()];
  follows.watchEveryone();
  await until("the list", () => follows.getSnapshot().complete);
  const shown = [];
  for (let i = 0; i < 5; i++) {
    follows.close();
    await lead.updateProfile({ name: `${i}` });
    follows.connect();
    await until("the same", () => JSON.stringify(lead.getSnapshot()) === JSON.stringify(follows.getSnapshot()));
    shown.push(follows.getSnapshot().users[0].name);
  }
  assert.deepEqual(shown, ["0", "1", "2", "3", "4"]);
  lead.close();
  follows.close();
});

test("the end of the leading tab does not stop the others", async () => {
  const open = browser(node.url, "others");
  const tabs = [open(), open(), open()];
  for (const tab of tabs) await isIn(tab, "connected");
  const states = new Set();
  for (const tab of tabs.slice(1)) tab.subscribe(() => states.add(tab.getSnapshot().connection));
  tabs[0].close();
  await until("another connection", () => states.has("connecting"));
  for (const tab of tabs.slice(1)) await isIn(tab, "connected");
  assert.ok(!states.has("stopped"), [...states].join());
  tabs.forEach((tab) => tab.close());
});

test("the user is idle when nobody is at any tab", async () => {
  const watcher = await connected({ url: node.url, userId: "looks" });
  watcher.watch("idles");
  const open = browser(node.url, "idles");
  const [first, second] = [open(), open()];
  await isIn(second, "connected");
  first.setIdle(true);
  second.setIdle(false);
  await until("online", () => watcher.presence("idles").status === "online");
  second.setIdle(true);
  await until("away", () => watcher.presence("idles").status === "away");
  first.setIdle(false);
  await until("back", () => watcher.presence("idles").status === "online");
  [first, second, watcher].forEach((each) => each.close());
});

test("tabs to which the browser refuses locks have a connection each", async () => {
  const proxy = await startProxy(node.port);
  const refusing = { request: () => Promise.reject(new DOMException("The document may not have locks", "SecurityError")) };
  const tabs = [1, 2].map(() => makeClient({ url: proxy.url, userId: "refused", tabs: sharedTabs({ locks: refusing }) }));
  for (const tab of tabs) tab.connect();
  for (const tab of tabs) await isIn(tab, "connected");
  assert.equal((await tabs[1].setStatus("busy")).chosen, "busy");
  await until("a status in both", () => tabs.every((tab) => tab.getSnapshot().own?.chosen === "busy"));
  assert.equal(proxy.accepted(), 2);
  tabs.forEach((tab) => tab.close());
  await until("offline", async () => !(await node.online()).length);
});

test("without locks, each tab has a connection of its own", async () => {
  const proxy = await startProxy(node.port);
  const tabs = sharedTabs({ locks: undefined });
  if (globalThis.navigator?.locks) return;
  const [first, second] = [connect({ url: proxy.url, userId: "own", tabs }), connect({ url: proxy.url, userId: "own", tabs })];
  await isIn(first, "connected");
  await isIn(second, "connected");
  assert.equal(proxy.accepted(), 2);
  first.close();
  second.close();
});
