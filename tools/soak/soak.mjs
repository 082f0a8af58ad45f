// Churn, rooms and faults on three nodes, for hours; see scripts/soak. Memory, files and keys must not grow. When all clients are gone,
// nothing of them may be left.
//
// The first node is never restarted, so its memory and files are those of one process. The others are killed, drained and paused. So is
// Redis: it is paused, and its subscriptions are cut.

import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { createWriteStream, mkdirSync } from "node:fs";
import net from "node:net";
import path from "node:path";

const [binary, modules, directory, hours] = process.argv.slice(2);
const { WebSocket } = createRequire(path.join(modules, "/"))("ws");

const CLIENTS = 300;
const USERS = 200;
const ROOMS = 40;
const SAMPLE_EVERY_MS = 10_000;
const FAULT_EVERY_MS = 60_000;
/** A life of a socket: from a moment to some minutes. */
const LIFE_MS = [200, 180_000];
/** With fewer samples, quarters say nothing. */
const SAMPLES_MIN = 8;
/** The last users of a node that was just killed go with its lease (10 s), and their sockets with its sweep. */
const EMPTY_WITHIN_MS = 60_000;

const children = new Set();
const random = (n) => Math.floor(Math.random() * n);
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const end = Date.now() + Number(hours) * 3_600_000;

function freePort() {
  return new Promise((resolve) => {
    const server = net.createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

function start(command, args, env = {}) {
  const child = spawn(command, args, { env: { PATH: process.env.PATH, ...env }, stdio: ["ignore", "ignore", "inherit"] });
  children.add(child);
  child.on("exit", (code, signal) => {
    children.delete(child);
    // Whoever is to end is marked first.
    if (child.mayEnd) return;
    console.error(`FAILS ${command} ended by itself: ${signal ?? code}`);
    process.exit(1);
  });
  return child;
}

class Node {
  constructor(number, port, redis) {
    Object.assign(this, { number, port, redis, url: `127.0.0.1:${port}` });
    this.start();
  }

  start() {
    this.process = start(binary, ["serve"], {
      PORT: String(this.port),
      REDIS_URL: this.redis,
      ROLLCALL__SERVER__NAME: `node${this.number}`,
      ROLLCALL__TELEMETRY__LOG_FILTER: "error",
      // Full within minutes: the log of transitions must not look like something that grows.
      ROLLCALL__PRESENCE__LOG_LENGTH: "1000",
    });
  }

  async restart(signal) {
    const old = this.process;
    const exited = new Promise((resolve) => old.once("exit", resolve));
    old.mayEnd = true;
    old.kill(signal);
    await exited;
    this.start();
  }

  async metrics() {
    const text = await (await fetch(`http://${this.url}/metrics`, { signal: AbortSignal.timeout(5_000) })).text();
    const metric = (name) => Number(text.match(new RegExp(`^${name} (\\S+)$`, "m"))?.[1]);
    return {
      memory: metric("process_resident_memory_bytes"),
      files: metric("process_open_fds"),
      sockets: metric("rollcall_sockets"),
      users: metric("rollcall_users"),
      ghosts: metric("rollcall_ghosts_mended_total"),
    };
  }
}

/** One client that comes, is somewhere for a while, and goes in one of several ways. */
async function live(nodes) {
  while (Date.now() < end) {
    const node = nodes[random(nodes.length)];
    const socket = new WebSocket(`ws://${node.url}/ws?userId=user-${random(USERS)}&presence=${["everyone", "count", "none"][random(3)]}`);
    const closed = new Promise((resolve) => {
      socket.on("close", resolve);
      socket.on("error", resolve);
    });
    socket.on("open", () => socket.send(JSON.stringify({ type: "join_room", roomId: `room-${random(ROOMS)}` })));
    const life = random(4) ? LIFE_MS[0] + random(5_000) : random(LIFE_MS[1]);
    await Promise.race([closed, sleep(Math.min(life, Math.max(0, end - Date.now())))]);
    if (random(3)) socket.close(1000);
    else socket.terminate();
    await sleep(random(1_000));
  }
}

/** What happens to the other nodes, to the first one, and to Redis. */
async function trouble(nodes, redis) {
  const pause = async (child, ms) => {
    child.kill("SIGSTOP");
    await sleep(ms);
    child.kill("SIGCONT");
  };
  const faults = {
    "a node is killed": (other) => other.restart("SIGKILL"),
    "a node is drained": (other) => other.restart("SIGTERM"),
    "a node is paused": (other) => pause(other.process, 15_000),
    "the subscriptions are cut": () => redis.ask("CLIENT KILL TYPE pubsub"),
    "the first node is paused": () => pause(nodes[0].process, 15_000),
    "Redis is paused": () => pause(redis.process, 5_000),
  };
  for (let n = 0; Date.now() + FAULT_EVERY_MS < end; n += 1) {
    await sleep(FAULT_EVERY_MS);
    const [what, happen] = Object.entries(faults)[n % Object.keys(faults).length];
    console.log(`${new Date().toISOString()} ${what}`);
    await happen(nodes[1 + random(2)]);
  }
}

class Redis {
  constructor(port) {
    this.port = port;
    this.process = start("redis-server", ["--port", String(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
  }

  /** The reply to one command that is answered with a number or a text. */
  ask(command) {
    return new Promise((resolve, reject) => {
      let reply = "";
      const socket = net.connect(this.port, "127.0.0.1", () => socket.write(`${command}\r\n`));
      socket.setEncoding("utf8").setTimeout(10_000, () => socket.destroy(new Error(`Redis does not answer: ${command}`)));
      socket.on("error", reject);
      socket.on("data", (data) => {
        reply += data;
        const [, kind, first, rest] = reply.match(/^(.)([^\r]*)\r\n([^]*)$/) ?? [];
        // A text is as long as its first line says, and ends with a line.
        if (kind === undefined || (kind === "$" && rest.length < Number(first) + 2)) return;
        socket.destroy();
        if (kind === "-") reject(new Error(first));
        else resolve(kind === "$" ? rest : first);
      });
    });
  }

  async usage() {
    return {
      keys: Number(await this.ask("DBSIZE")),
      redisMemory: Number((await this.ask("INFO memory")).match(/^used_memory:(\d+)/m)[1]),
    };
  }

  /** What is left of clients. */
  async remains() {
    const names = ["online:users:set", "online:users:hidden", "online:rooms:set"];
    return Object.fromEntries(await Promise.all(names.map(async (name) => [name, Number(await this.ask(`SCARD ${name}`))])));
  }
}

/** Whether everybody is gone, everywhere, a while after the last client went. */
async function isEmpty(nodes, redis) {
  const until = Date.now() + EMPTY_WITHIN_MS;
  for (;;) {
    const remains = await redis.remains();
    for (const node of nodes) {
      const { users, sockets } = await node.metrics().catch(() => ({}));
      Object.assign(remains, { [`users of node${node.number}`]: users, [`sockets of node${node.number}`]: sockets });
    }
    const left = Object.entries(remains).filter(([, n]) => n !== 0);
    if (left.length === 0 || Date.now() > until) {
      console.log(left.length === 0 ? "empty after the last client" : `LEFT  ${left.map(([name, n]) => `${name}: ${n}`).join(", ")}`);
      return left.length === 0;
    }
    await sleep(500);
  }
}

const median = (numbers) => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)];

/** Whether the last quarter has more than the second one, beyond what may be. */
function judge(samples, name, allowed) {
  const quarter = Math.floor(samples.length / 4);
  const values = samples.map((sample) => sample[name]);
  const [before, after] = [median(values.slice(quarter, 2 * quarter)), median(values.slice(-quarter))];
  // Also if there is no number.
  const grows = !(after - before <= allowed(before));
  console.log(`${grows ? "GROWS" : "flat "} ${name}: ${before} in the second quarter, ${after} in the last one`);
  return !grows;
}

async function main() {
  mkdirSync(directory, { recursive: true });
  const redis = new Redis(await freePort());
  while ((await redis.ask("DBSIZE").catch(() => undefined)) === undefined) await sleep(100);
  const ports = [await freePort(), await freePort(), await freePort()];
  const nodes = ports.map((port, index) => new Node(index + 1, port, `redis://127.0.0.1:${redis.port}`));
  for (const node of nodes) {
    while (!(await fetch(`http://${node.url}/readyz`).catch(() => ({}))).ok) await sleep(200);
  }
  const csv = createWriteStream(path.join(directory, "soak.csv"));
  const began = Date.now();
  const clients = Array.from({ length: CLIENTS }, () => live(nodes));
  const faults = trouble(nodes, redis);
  const samples = [];
  while (Date.now() < end) {
    await sleep(SAMPLE_EVERY_MS);
    // Who is paused does not answer.
    const sample = await Promise.all([nodes[0].metrics(), redis.usage()]).catch(() => undefined);
    if (!sample) continue;
    const row = { seconds: Math.round((Date.now() - began) / 1000), ...sample[0], ...sample[1] };
    if (samples.push(row) === 1) csv.write(`${Object.keys(row).join(",")}\n`);
    csv.write(`${Object.values(row).join(",")}\n`);
  }
  await Promise.all([...clients, faults]);
  csv.end();
  console.log(`${samples.length} samples in ${path.join(directory, "soak.csv")}`);
  if (samples.length < SAMPLES_MIN) {
    console.log(`FAILS with fewer than ${SAMPLES_MIN} samples, nothing can be said`);
    return false;
  }
  const { ghosts } = samples.at(-1);
  console.log(`${ghosts === 0 ? "none " : "FAILS"} ghosts mended: ${ghosts}`);
  const verdicts = [
    judge(samples, "memory", (before) => 2_000_000 + 0.05 * before),
    judge(samples, "files", (before) => 10 + 0.1 * before),
    judge(samples, "keys", (before) => 20 + 0.1 * before),
    judge(samples, "redisMemory", (before) => 1_000_000 + 0.1 * before),
    ghosts === 0,
    await isEmpty(nodes, redis),
  ];
  return verdicts.every(Boolean);
}

process.on("exit", () => children.forEach((child) => child.kill("SIGKILL")));
for (const [signal, number] of [["SIGHUP", 1], ["SIGINT", 2], ["SIGTERM", 15]]) process.on(signal, () => process.exit(128 + number));
const isFlat = await main();
for (const child of children) child.mayEnd = true;
process.exit(isFlat ? 0 : 1);
