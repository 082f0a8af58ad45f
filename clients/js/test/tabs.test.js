// Tabs that share a connection: real messages between them, a real node.

import assert from "node:assert/strict";
import { before, test } from "node:test";
import { sharedTabs } from "@rollcall/client/tabs";
import { connect, connected, ids, isIn } from "./support/client.js";
import { makeLocks } from "./support/locks.js";
import { startProxy } from "./support/proxy.js";
import { startNode } from "./support/service.js";
import { until } from "./support/wait.js";

/** @type {Awaited<ReturnType<typeof startNode>>} */
let node;

before(async () => {
  node = await startNode();
});

/** @param {string} url @param {string} userId */
function browser(url, userId) {
  const locks = makeLocks();
  return () => {
    const tab = locks.ofTab();
    const client = connect({ url, userId, tabs: sharedTabs(tab) });
    return Object.assign(client, { end: tab.end });
  };
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
