// Connections that break in all ways, on real nodes behind a proxy.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { before, mock, test } from "node:test";
import WebSocket, { WebSocketServer } from "ws";
import { connect, connected, ids, isIn } from "./support/client.js";
import { answer, startFake } from "./support/fake.js";
import { startProxy } from "./support/proxy.js";
import { startNode, startRedis } from "./support/service.js";
import { until } from "./support/wait.js";

/** @type {Awaited<ReturnType<typeof startRedis>>} */
let redis;
/** @type {Awaited<ReturnType<typeof startNode>>} */
let node;

before(async () => {
  redis = await startRedis();
  node = await startNode({ REDIS_URL: redis.url });
});

test("a connection that is cut comes back, and shows who came and went meanwhile", async () => {
  const proxy = await startProxy(node.port);
  const cut = await connected({ url: proxy.url, userId: "cut", everyone: true });
  const goes = await connected({ url: node.url, userId: "goes" });
  await until("both", () => ids(cut) === "cut,goes");
  proxy.refuse();
  proxy.cut();
  await isIn(cut, "waiting");
  // What was last known is shown, and not taken for gone.
  assert.equal(ids(cut), "cut,goes");
  goes.close();
  const stays = await connected({ url: node.url, userId: "stays" });
  await until("the service's list", async () => !(await node.online()).some(({ id }) => id === "goes"));
  proxy.heal();
  await until("the new list", () => ids(cut) === "cut,stays");
  stays.close();
  cut.close();
});

test("a connection that is silent is given up, though nobody says so", async () => {
  const proxy = await startProxy(node.port);
  const client = await connected({ url: proxy.url, userId: "silent" });
  proxy.silence();
  await isIn(client, "waiting");
  proxy.heal();
  await isIn(client, "connected");
  assert.ok(proxy.accepted() > 1);
  client.close();
});

test("a connection that is slow is kept", async () => {
  const proxy = await startProxy(node.port);
  proxy.delay(100);
  const client = await connected({ url: proxy.url, userId: "slow" });
  for (let i = 0; i < 10; i++) assert.equal((await client.check("slow")).status, "online");
  assert.equal(proxy.accepted(), 1);
  client.close();
});

test("a handshake that is never answered is given up", async () => {
  const proxy = await startProxy(node.port);
  proxy.silence();
  const client = connect({ url: proxy.url, userId: "handshake", answerMs: 300 });
  await until("a second try", () => proxy.accepted() > 1);
  proxy.heal();
  await isIn(client, "connected");
  client.close();
});

test("a drain sends the client to another node, and nobody notices", async () => {
  const other = await startNode({ REDIS_URL: redis.url });
  const proxy = await startProxy(other.port);
  const watcher = await connected({ url: node.url, userId: "watcher" });
  watcher.watch("moves");
  const client = await connected({ url: proxy.url, userId: "moves" });
  await until("online", () => watcher.presence("moves").status === "online");
  const seen = new Set();
  watcher.subscribe(() => seen.add(watcher.presence("moves").status));
  proxy.turnTo(node.port);
  await other.drain();
  await until("a second connection", () => proxy.accepted() > 1);
  await isIn(client, "connected");
  assert.equal((await watcher.check("moves")).status, "online");
  assert.ok(!seen.has("offline"));
  watcher.close();
  client.close();
});

test("the service says how long to wait after a drain", async () => {
  /** @type {number[]} */
  const times = [];
  const url = await startFake((socket) => {
    times.push(performance.now());
    socket.close(1001, '{"reconnectAfterMs":400}');
  });
  // Without what the service says, there would be no delay at all.
  const random = mock.method(Math, "random", () => 0);
  const client = connect({ url, userId: "told" });
  await until("three connections", () => times.length >= 3);
  // A timer may end a little early by another clock.
  assert.ok(times[1] - times[0] > 390 && times[2] - times[1] > 390, `${times}`);
  client.close();
  random.mock.restore();
});

test("the delays begin anew after a drain of a connection that was good", async (t) => {
  const FAILURES = 8;
  /** @type {import("ws").WebSocket[]} */
  const sockets = [];
  let passedMs = 0;
  const url = await startFake((socket) => {
    sockets.push(socket);
    // After some that fail: a good one, one more that fails, and one that holds.
    if (sockets.length === FAILURES + 1) answer(socket, { type: "welcome" });
    else if (sockets.length < FAILURES + 3) socket.close(1011);
  });
  const now = performance.now.bind(performance);
  t.mock.method(performance, "now", () => now() + passedMs);
  t.mock.method(Math, "random", () => (sockets.length <= FAILURES ? 0 : 0.9));
  const client = connect({ url, userId: "anew", reconnectMaxMs: 120_000, answerMs: 60_000, heartbeatMs: 60_000 });
  await isIn(client, "connected");
  passedMs = 6000;
  sockets[FAILURES].close(1001, '{"reconnectAfterMs":1}');
  // With the delays of before, it would come after almost two minutes.
  await until("a connection after that", () => sockets.length === FAILURES + 3);
  client.close();
});

test("what a repetition would not mend stops the client", async () => {
  const client = await connected({ url: node.url, userId: "large" });
  await assert.rejects(client.request({ type: "x".repeat(20_000) }), { code: "disconnected" });
  await isIn(client, "stopped");
  assert.equal(client.getSnapshot().error, "closed_1009");
  client.connect();
  await isIn(client, "connected");
  assert.equal(client.getSnapshot().error, undefined);
  client.close();
});

test("whom the application's server disconnects does not come back by itself", async () => {
  const client = await connected({ url: node.url, userId: "out" });
  const answer = await fetch(`${node.url}/api/users/out/sockets`, { method: "DELETE" });
  assert.ok(answer.ok);
  await isIn(client, "stopped");
  assert.equal(client.getSnapshot().error, "closed_4003");
});

test("too many requests are spread, and all are answered", async () => {
  const client = await connected({ url: node.url, userId: "busy" });
  const answers = await Promise.all(Array.from({ length: 75 }, (_, i) => client.request({ type: "check_user_online", userId: `n${i}` })));
  assert.ok(answers.every(({ online }, i) => online === false && answers[i].userId === `n${i}`));
  assert.deepEqual(client.errors, []);
  client.close();
});

test("so many requests that the service would not read them all are spread", async () => {
  const client = await connected({ url: node.url, userId: "much" });
  // To look at somebody who is online is bounded by nothing else.
  const answers = await Promise.all(Array.from({ length: 256 }, () => client.check("much")));
  assert.ok(answers.every(({ status }) => status === "online"));
  assert.deepEqual(client.errors, []);
  client.close();
});

test("what was wanted of a connection that broke is not asked for on the next one", async () => {
  const slow = await startNode({ ROLLCALL__LIMITS__REQUEST_BURST: "3", ROLLCALL__LIMITS__REQUESTS_PER_SECOND: "1" });
  const proxy = await startProxy(slow.port);
  const client = await connected({ url: proxy.url, userId: "fickle", onError: () => {} });
  const answers = Promise.allSettled([1, 2, 3, 4].map(() => client.check("nobody")));
  // The service wants a pause, so this waits.
  const release = client.joinRoom("stale");
  await Promise.race([answers, client.check("fickle").catch(() => {})]);
  release();
  proxy.cut();
  await answers;
  await isIn(client, "connected");
  assert.equal((await client.request({ type: "get_room_count", roomId: "stale" })).onlineCount, 0);
  assert.equal(proxy.accepted(), 2);
  client.close();
});

test("a handshake that is refused is tried again", async () => {
  let refused = 0;
  const server = createServer().unref();
  const sockets = new WebSocketServer({ noServer: true });
  server.on("upgrade", (request, socket, head) => {
    if (++refused < 4) return socket.end("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n");
    sockets.handleUpgrade(request, socket, head, (client) => client.send('{"type":"welcome","ref":1}'));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  // A handshake may take long. This one does not.
  const client = connect({ url: `http://127.0.0.1:${port}`, userId: "early", answerMs: 600_000 });
  await isIn(client, "connected");
  client.close();
  server.close();
});

test("a request without a connection is refused in the end, and the queue is bounded", async () => {
  const proxy = await startProxy(node.port);
  proxy.refuse();
  const client = connect({ url: proxy.url, userId: "nowhere", answerMs: 100 });
  await assert.rejects(client.setStatus("busy"), { code: "disconnected" });
  const many = await Promise.allSettled(Array.from({ length: 300 }, () => client.check("x")));
  const codes = many.map((result) => /** @type {PromiseRejectedResult} */ (result).reason.code);
  assert.equal(codes.filter((code) => code === "too_many_requests").length, 300 - 256);
  client.close();
});

test("the WebSocket of another library will do", async () => {
  const client = await connected({ url: node.url, userId: "ws", everyone: true, WebSocket: /** @type {any} */ (WebSocket) });
  await until("the list", () => client.getSnapshot().complete);
  assert.match(ids(client), /ws/);
  client.close();
});

test("a client that is no user can only listen", async () => {
  const listener = await connected({ url: node.url, observe: true, everyone: true });
  const seen = await connected({ url: node.url, userId: "seen" });
  await until("a user", () => listener.presence("seen").status === "online");
  assert.ok((await node.online()).length === listener.getSnapshot().users.length);
  seen.close();
  await until("nobody", () => listener.presence("seen").status === "offline");
  listener.close();
});
