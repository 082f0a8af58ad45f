// Real nodes and a private Redis, which end with the process that runs the tests of one file.

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { createServer } from "node:net";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { until } from "./wait.js";

const BINARY = process.env.ROLLCALL_BINARY ?? fileURLToPath(new URL("../../../../target/debug/rollcall", import.meta.url));
if (!existsSync(BINARY)) throw new Error(`there is no ${BINARY}: build the service (cargo build), or set ROLLCALL_BINARY`);

/** Short, so that tests do not wait; long enough for a machine that has more to do. */
const SETTINGS = {
  HOST: "127.0.0.1",
  PORT: "0",
  ROLLCALL__PRESENCE__GRACE_MS: "2000",
  ROLLCALL__PRESENCE__LEASE_MS: "4000",
  ROLLCALL__PRESENCE__BEAT_MS: "300",
  ROLLCALL__PRESENCE__SWEEP_MS: "200",
  ROLLCALL__DRAIN__RECONNECT_SPREAD_MS: "500",
};

/** @type {Set<import("node:child_process").ChildProcess>} */
const children = new Set();
process.on("exit", () => children.forEach((child) => child.kill("SIGKILL")));

/**
 * Starts a program, and waits for a line that it writes.
 * @param {string} program @param {string[]} args @param {Record<string, string>} env @param {RegExp} line
 * @returns {Promise<{ child: import("node:child_process").ChildProcess, found: RegExpExecArray }>}
 */
async function start(program, args, env, line) {
  const child = spawn(program, args, { env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
  children.add(child);
  // The process may end while they run, and takes them along.
  for (const each of [child, child.stdout, child.stderr]) /** @type {any} */ (each).unref();
  /** @type {string[]} */
  const lines = [];
  /** @type {RegExpExecArray | null} */
  let found = null;
  let hasEnded = false;
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on("line", (text) => {
      if (!found) lines.push(text);
      found ??= line.exec(text);
    });
  }
  child.on("error", (error) => lines.push(String(error)));
  child.on("close", () => {
    hasEnded = true;
    children.delete(child);
  });
  await until(`a line of ${program}`, () => {
    if (hasEnded && !found) throw new Error(`${program} has ended:\n${lines.join("\n")}`);
    return found;
  });
  return { child, found: /** @type {any} */ (found) };
}

/** Ends a process and waits for that. @param {import("node:child_process").ChildProcess} child @param {NodeJS.Signals} signal */
async function end(child, signal) {
  child.kill(signal);
  await until("the end of a process", () => child.exitCode !== null || child.signalCode !== null);
}

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await until("a port", () => server.listening);
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** A private Redis, which may be killed. It keeps nothing. */
export async function startRedis() {
  for (let tries = 5; ; tries--) {
    const port = await freePort();
    try {
      const args = ["--bind", "127.0.0.1", "--port", `${port}`, "--save", "", "--appendonly", "no"];
      const { child } = await start("redis-server", args, {}, /Ready to accept connections/);
      return { url: `redis://127.0.0.1:${port}`, port, kill: () => end(child, "SIGKILL") };
    } catch (error) {
      // Somebody else took the port meanwhile.
      if (!tries) throw error;
    }
  }
}

/** A node, ready. @param {Record<string, string>} [settings] environment variables */
export async function startNode(settings) {
  const node = await launchNode(settings);
  await until("a ready node", async () => (await fetch(`${node.url}/readyz`)).ok);
  return node;
}

/** A node that may not know yet who is online. @param {Record<string, string>} [settings] environment variables */
export async function launchNode(settings = {}) {
  const { child, found } = await start(BINARY, [], { ...SETTINGS, ...settings }, /listening on http:\/\/127\.0\.0\.1:(\d+)/);
  const port = Number(found[1]);
  const url = `http://127.0.0.1:${port}`;
  return {
    url,
    port,
    /** Asks it to end: it tells its clients to go elsewhere. */
    drain: () => end(child, "SIGTERM"),
    kill: () => end(child, "SIGKILL"),
    /** The users that are online, as the service says. @param {HeadersInit} [headers] @returns {Promise<any[]>} */
    async online(headers) {
      const answer = await fetch(`${url}/api/online-users?limit=10000`, { headers });
      return /** @type {any} */ (await answer.json()).data;
    },
  };
}
