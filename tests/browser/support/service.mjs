// The real thing: a private Redis, nodes, and the load balancer of deploy/ before them.
//
//     const service = await startService(t);           // ends with the test
//     const page = service.url;                        // of the load balancer
//     await service.kill(await service.nodeOf("ada")); // kill -9
//     await service.start(0);                          // the first node again, on its port
//     await service.redis.freeze();                    // Redis is away; `thaw()` lets it go on

import { execFile } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { DIRECTORY, OwnedProcess, ROOT, reservePort } from "./process.mjs";
import { until } from "./wait.mjs";

const run = promisify(execFile);
export const BINARY = process.env.ROLLCALL_BINARY ?? join(ROOT, "target/debug/rollcall");

/** The deadline of one request. */
const ANSWER_MS = 10_000;

/** As a service is set up, with beats so short that tests do not wait. The grace is long: a loaded machine loads a page slowly. */
const SETTINGS = {
  HOST: "127.0.0.1",
  ROLLCALL__SERVER__WORKERS: "1",
  ROLLCALL__SERVER__TRUSTED_PROXIES: "127.0.0.1",
  ROLLCALL__PRESENCE__GRACE_MS: "15000",
  ROLLCALL__PRESENCE__LEASE_MS: "20000",
  ROLLCALL__PRESENCE__BEAT_MS: "500",
  ROLLCALL__PRESENCE__SWEEP_MS: "500",
  ROLLCALL__DRAIN__RECONNECT_SPREAD_MS: "500",
};

let started = 0;

/**
 * Starts a service, and ends it with the test.
 * @param {import("node:test").TestContext} t
 * @param {{ nodes?: number, settings?: Record<string, string> }} [options] settings are environment variables of the nodes
 */
export async function startService(t, { nodes: count = 3, settings = {} } = {}) {
  if (!existsSync(BINARY)) throw new Error(`there is no ${BINARY}: build the service (cargo build), or set ROLLCALL_BINARY`);
  const name = `service${++started}`;
  /** @type {OwnedProcess[]} */
  const programs = [];
  t.after(() => Promise.all(programs.map((program) => program.end())));
  const own = (/** @type {OwnedProcess} */ program) => (programs.push(program), program);

  const redis = await startRedis(own, name);
  const ports = await Promise.all(Array.from({ length: count }, reservePort));
  const nodes = ports.map((port, index) => ({
    url: `http://127.0.0.1:${port}`,
    environment: { ...SETTINGS, REDIS_URL: redis.url, PORT: `${port}`, ROLLCALL__SERVER__NAME: `node${index + 1}`, ...settings },
    /** @type {OwnedProcess | undefined} */
    program: undefined,
  }));
  const start = async (/** @type {number} */ index) => {
    const node = nodes[index];
    node.program = own(new OwnedProcess(`${name}-node${index + 1}`, BINARY, [], node.environment));
    await node.program.ready(() => answers(`${node.url}/readyz`));
  };
  await Promise.all(nodes.map((_, index) => start(index)));
  const url = await startBalancer(own, name, ports);

  return {
    /** Of the load balancer. */
    url,
    /** Of each node, for what the load balancer does not pass on. */
    nodeUrls: nodes.map((node) => node.url),
    redis,
    /** Starts a killed node again, on its port, and waits until it is ready. */
    start,
    /** Kills a node with SIGKILL. @param {number} index */
    kill: (index) => /** @type {OwnedProcess} */ (nodes[index].program).end("SIGKILL"),
    /** Asks a node to end: it tells its clients to go elsewhere. @param {number} index */
    drain: (index) => /** @type {OwnedProcess} */ (nodes[index].program).end("SIGTERM"),
    /** The ids of the users who are online, as the service says. @returns {Promise<string[]>} */
    async online() {
      const { data } = await getJson(`${url}/api/online-users?limit=10000`);
      return data.map(({ id }) => id);
    },
    /** Disconnects a user, as the application's server does. @param {string} userId */
    disconnect: (userId) => getJson(`${nodes[0].url}/api/users/${encodeURIComponent(userId)}/sockets`, { method: "DELETE" }),
    /** Whether what it says may be out of date. */
    async isDegraded() {
      const { degraded } = await getJson(`${url}/api/online-users?countOnly=true`);
      return degraded === true;
    },
    /** The index of the node that has the socket of this user. @param {string} userId @returns {Promise<number>} */
    nodeOf: (userId) =>
      until(`a socket of ${userId}`, async () => {
        for (const [index, node] of nodes.entries()) {
          if (node.program?.hasEnded) continue;
          const { data } = await getJson(`${node.url}/api/users/${encodeURIComponent(userId)}/explain`);
          if (data.sockets.some(({ nodeId, state }) => nodeId === data.here.nodeId && state !== "grace")) return { index };
        }
        return undefined;
      }).then(({ index }) => index),
  };
}

/** @typedef {Awaited<ReturnType<typeof startService>>} Service */

/** @param {(program: OwnedProcess) => OwnedProcess} own @param {string} name */
async function startRedis(own, name) {
  const port = await reservePort();
  const ask = async (/** @type {string[]} */ ...words) => {
    const { stdout } = await run("redis-cli", ["-p", `${port}`, ...words], { timeout: ANSWER_MS });
    return stdout.trim();
  };
  const args = ["--bind", "127.0.0.1", "--port", `${port}`, "--save", "", "--appendonly", "no", "--dir", DIRECTORY];
  const program = own(new OwnedProcess(`${name}-redis`, "redis-server", args));
  await program.ready(() => ask("PING").then((answer) => answer === "PONG", () => false));
  // As of a service that has run for long. On an empty Redis, the first node waits for a lease (docs/redis.md).
  const [seconds, micros] = (await ask("TIME")).split("\n");
  const epoch = `${Number(seconds) * 1_000_000 + Number(micros)}`;
  const runId = /run_id:(\w+)/.exec(await ask("INFO", "server"))?.[1] ?? "";
  await ask("SET", "online:revision", epoch);
  await ask("HSET", "online:epoch", "run_id", runId, "epoch", epoch, "holdUntil", "0");
  return {
    url: `redis://127.0.0.1:${port}`,
    /** What redis-cli answers. */
    ask,
    /** Nobody gets an answer from here on. */
    freeze: () => program.freeze(),
    thaw: () => program.signal("SIGCONT"),
  };
}

/** @param {(program: OwnedProcess) => OwnedProcess} own @param {string} name @param {number[]} nodePorts @returns {Promise<string>} its URL */
async function startBalancer(own, name, nodePorts) {
  const port = await reservePort();
  const { stdout } = await run(join(ROOT, "scripts/render-haproxy"), [port, ...nodePorts].map(String), { timeout: ANSWER_MS });
  const file = join(DIRECTORY, `${name}-haproxy.cfg`);
  writeFileSync(file, stdout);
  const url = `http://127.0.0.1:${port}`;
  const program = own(new OwnedProcess(`${name}-haproxy`, "haproxy", ["-db", "-f", file]));
  await program.ready(() => answers(`${url}/load-balancer`));
  return url;
}

/** @param {string} url */
const answers = (url) => fetch(url, { signal: AbortSignal.timeout(ANSWER_MS) }).then(({ ok }) => ok, () => false);

/** @param {string} url @param {RequestInit} [options] @returns {Promise<any>} */
export async function getJson(url, options) {
  const answer = await fetch(url, { ...options, signal: AbortSignal.timeout(ANSWER_MS) });
  if (!answer.ok) throw new Error(`${url}: ${answer.status} ${await answer.text()}`);
  return answer.json();
}
