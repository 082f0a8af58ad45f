// Tokens that are good, end, are renewed, or are refused.

import assert from "node:assert/strict";
import { before, test } from "node:test";
import { connect, connected, isIn } from "./support/client.js";
import { answer, startFake } from "./support/fake.js";
import { startProxy } from "./support/proxy.js";
import { startNode } from "./support/service.js";
import { token, TOKENS } from "./support/tokens.js";
import { until } from "./support/wait.js";

/** @type {Awaited<ReturnType<typeof startNode>>} */
let node;

before(async () => {
  node = await startNode(TOKENS);
});

test("the token says who the client is", async () => {
  const client = await connected({ url: node.url, getToken: () => token("42", 3600), everyone: true });
  assert.equal(client.getSnapshot().userId, "42");
  await until("the list", () => client.presence("42").status === "online");
  client.close();
});

test("a token is renewed before it ends, on the same connection", async () => {
  const proxy = await startProxy(node.port);
  let fetched = 0;
  const getToken = async () => {
    fetched++;
    // Sometimes, the application's server is away.
    if (fetched === 3) throw new Error("away");
    return token("renews", 5);
  };
  const client = await connected({ url: proxy.url, userId: "renews", getToken });
  await until("four tokens", () => fetched >= 5);
  await client.check("renews");
  assert.equal(proxy.accepted(), 1);
  client.close();
});

test("a token that has ended is replaced, and nobody notices", async () => {
  const watcher = await connected({ url: node.url, getToken: () => token("watcher", 3600) });
  watcher.watch("ends");
  const proxy = await startProxy(node.port);
  let fetched = 0;
  // The second one, which would renew, never comes.
  const getToken = () => (++fetched === 2 ? new Promise(() => {}) : token("ends", 3));
  const client = await connected({ url: proxy.url, getToken: /** @type {any} */ (getToken) });
  await until("online", () => watcher.presence("ends").status === "online");
  const seen = new Set();
  watcher.subscribe(() => seen.add(watcher.presence("ends").status));
  await until("another connection", () => proxy.accepted() > 1);
  await isIn(client, "connected");
  assert.ok(!seen.has("offline"));
  client.close();
  watcher.close();
});

test("a refused token is tried once more, and not in a loop", async () => {
  const proxy = await startProxy(node.port);
  let fetched = 0;
  const client = connect({ url: proxy.url, getToken: () => `no token, ${fetched++}` });
  await isIn(client, "stopped");
  assert.equal(client.getSnapshot().error, "closed_4401");
  assert.equal(fetched, 2);
  assert.equal(proxy.accepted(), 2);
});

test("a client whose user is not logged in stops", async () => {
  const client = connect({ url: node.url, getToken: () => null });
  await isIn(client, "stopped");
  assert.equal(client.getSnapshot().error, "no_token");
});

test("an application that gives the same token again is not asked without end", async () => {
  const lenient = await startNode({ ...TOKENS, ROLLCALL__AUTH__LEEWAY_MS: "3000" });
  let asked = 0;
  const same = token("same", 2);
  const client = await connected({ url: lenient.url, getToken: () => (asked++, same) });
  // The service takes it for another three seconds.
  await isIn(client, "stopped");
  assert.equal(client.getSnapshot().error, "closed_4401");
  // One for each second, and three for the connections.
  assert.ok(asked < 12, `${asked}`);
});

test("a token that cannot be had is asked for again", async () => {
  let fetched = 0;
  const getToken = () => {
    if (++fetched < 3) throw new Error("away");
    return token("later", 3600);
  };
  const client = await connected({ url: node.url, getToken });
  assert.deepEqual(client.errors, ["cannot_connect", "cannot_connect"]);
  client.close();
});

test("a token that never comes does not hold the client up for ever", async () => {
  let fetched = 0;
  const getToken = () => (++fetched === 1 ? new Promise(() => {}) : token("slow", 3600));
  const client = await connected({ url: node.url, getToken: /** @type {any} */ (getToken), answerMs: 500 });
  assert.equal(fetched, 2);
  client.close();
});

test("what a token does not allow is refused, and the client goes on", async () => {
  const client = await connected({ url: node.url, getToken: () => token("silent", 3600, { scope: "presence:write" }) });
  client.watchCount();
  client.watch("42");
  await until("two refusals", () => client.errors.length === 2);
  assert.deepEqual(client.errors, ["forbidden", "forbidden"]);
  assert.equal(client.presence("42").status, "unknown");
  await client.setStatus("busy");
  client.close();
});

test("a client without a token is told", async () => {
  const client = connect({ url: node.url, userId: "42" });
  await until("the reason", () => client.errors.includes("unauthenticated"));
  client.close();
});

/** The token is not checked, and there is a time when that is tried again. */
const KEYS_ARE_AWAY = { type: "authentication_error", code: "keys_unavailable", message: "", retryAfterMs: 400 };

/** Checks that each delay is what the service says, and half of what the client may add. @param {number[]} times */
function areSpread(times) {
  const least = [900, 1400, 2400];
  // A timer may end a little early by another clock.
  const isSpread = least.every((ms, i) => times[i + 1] - times[i] > ms - 10);
  assert.ok(isSpread, `${times.map((time) => time - times[0])}`);
}

test("clients whose tokens cannot be checked do not come back together", async (t) => {
  t.mock.method(Math, "random", () => 0.5);
  /** @type {number[]} */
  const times = [];
  const url = await startFake((socket) => {
    times.push(performance.now());
    answer(socket, KEYS_ARE_AWAY);
  });
  const client = connect({ url, getToken: () => "token", reconnectMaxMs: 10_000 });
  await until("four connections", () => times.length >= 4);
  client.close();
  areSpread(times);
});

test("clients whose new tokens cannot be checked do not ask together", async (t) => {
  t.mock.method(Math, "random", () => 0.5);
  /** @type {number[]} */
  const times = [];
  const url = await startFake((socket) => {
    socket.on("message", (data) => {
      const { type, ref, token } = JSON.parse(String(data));
      const isFirst = token === "token 1";
      if (type === "authenticate" && !isFirst) times.push(performance.now());
      const timestamp = new Date().toISOString();
      const accepted = { type: "authenticated", expiresAt: new Date(Date.now() + 2000).toISOString() };
      const reply = type !== "authenticate" ? { type: "welcome", userId: "1", timestamp } : isFirst ? accepted : KEYS_ARE_AWAY;
      socket.send(JSON.stringify({ ...reply, ref }));
    });
  });
  let fetched = 0;
  const client = connect({ url, getToken: () => `token ${++fetched}`, reconnectMaxMs: 10_000 });
  await until("four new tokens", () => times.length >= 4);
  client.close();
  areSpread(times);
});
