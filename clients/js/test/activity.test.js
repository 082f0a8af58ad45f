// A page: its visibility, what is done to it, and its network. The events are made here, the node is real.

import assert from "node:assert/strict";
import { before, test } from "node:test";
import { connected, isIn } from "./support/client.js";
import { startProxy } from "./support/proxy.js";
import { startNode } from "./support/service.js";
import { until } from "./support/wait.js";

const page = Object.assign(new EventTarget(), { hidden: false });
const world = new EventTarget();
Object.assign(globalThis, {
  document: page,
  addEventListener: world.addEventListener.bind(world),
  removeEventListener: world.removeEventListener.bind(world),
});

const hide = (/** @type {boolean} */ hidden) => {
  page.hidden = hidden;
  page.dispatchEvent(new Event("visibilitychange"));
};

/** @type {Awaited<ReturnType<typeof startNode>>} */
let node;

before(async () => {
  node = await startNode();
});

/** A client that looks at the user of another. @param {string} userId */
async function watcherOf(userId) {
  const watcher = await connected({ url: node.url, userId: `watches ${userId}`, activity: false, pauseHidden: false });
  watcher.watch(userId);
  return watcher;
}

test("whoever does nothing is away, and back with the first input", async () => {
  const watcher = await watcherOf("idler");
  const client = await connected({ url: node.url, userId: "idler", idleAfterMs: 200 });
  await until("away", () => watcher.presence("idler").status === "away");
  page.dispatchEvent(new Event("keydown"));
  await until("back", () => watcher.presence("idler").status === "online");
  // The next input is far away, so it ends again.
  await until("away again", () => watcher.presence("idler").status === "away");
  client.close();
  watcher.close();
});

test("a hidden page is away and hears nothing, and is shown what it missed", async () => {
  const watcher = await watcherOf("hidden");
  const client = await connected({ url: node.url, userId: "hidden", hiddenAfterMs: 50, everyone: true });
  await until("online", () => watcher.presence("hidden").status === "online");
  hide(true);
  await until("away", () => watcher.presence("hidden").status === "away");
  const comes = await connected({ url: node.url, userId: "comes", activity: false, pauseHidden: false });
  // The answer shows that all events before it would have come.
  await client.check("comes");
  await client.check("comes");
  assert.equal(client.presence("comes").status, "online");
  const goes = await connected({ url: node.url, userId: "unheard", activity: false, pauseHidden: false });
  await client.check("nobody");
  assert.equal(client.presence("unheard").status, "offline");
  hide(false);
  await until("what was missed", () => client.presence("unheard").status === "online");
  await until("back", () => watcher.presence("hidden").status === "online");
  [client, watcher, comes, goes].forEach((each) => each.close());
});

test("a page that is hidden for a moment says nothing", async () => {
  const client = await connected({ url: node.url, userId: "flips", hiddenAfterMs: 60_000, everyone: true });
  hide(true);
  hide(false);
  const comes = await connected({ url: node.url, userId: "heard", activity: false });
  await until("an event", () => client.presence("heard").status === "online");
  client.close();
  comes.close();
});

test("when the network comes back, the client tries at once", async () => {
  const proxy = await startProxy(node.port);
  const client = await connected({ url: proxy.url, userId: "network", reconnectMaxMs: 3_600_000 });
  proxy.refuse();
  // Without the event, the next tries would be hours away.
  for (let tries = 1; tries <= 12; tries++) {
    proxy.cut();
    await until("another try", () => {
      world.dispatchEvent(new Event("online"));
      return proxy.accepted() > tries;
    });
  }
  proxy.heal();
  world.dispatchEvent(new Event("online"));
  await isIn(client, "connected");
  client.close();
});

test("when the network changes, the connection is tested at once", async () => {
  const proxy = await startProxy(node.port);
  const client = await connected({ url: proxy.url, userId: "test", heartbeatMs: 3_600_000, answerMs: 500 });
  // Something must have come since the last test.
  await client.check("test");
  proxy.silence();
  world.dispatchEvent(new Event("offline"));
  await isIn(client, "waiting");
  proxy.heal();
  await isIn(client, "connected");
  client.close();
});

test("a closed client listens to nothing", async () => {
  const counts = { add: 0, remove: 0 };
  const { addEventListener, removeEventListener } = page;
  page.addEventListener = (...args) => (counts.add++, addEventListener.apply(page, args));
  page.removeEventListener = (...args) => (counts.remove++, removeEventListener.apply(page, args));
  const client = await connected({ url: node.url, userId: "leaves" });
  client.close();
  assert.equal(counts.add, counts.remove);
  Object.assign(page, { addEventListener, removeEventListener });
});
