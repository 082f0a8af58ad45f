// Churn, rooms and faults on three nodes, for hours; see scripts/soak. Memory, files and keys must not grow.
//
// The first node is never restarted, so its memory and files are those of one process. The others are killed, drained and paused.

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
  child.on("exit", () => children.delete(child));
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
    });
  }

  async restart(signal) {
    const old = this.process;
    const exited = new Promise((resolve) => old.once("exit", resolve));
    old.kill(signal);
    await exited;
    this.start();
  }

  async metrics() {
    const text = await (await fetch(`http://${this.url}/metrics`)).text();
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

/** What happens to the other nodes, and to all of them. */
async function trouble(nodes) {
  for (let n = 0; Date.now() + FAULT_EVERY_MS < end; n += 1) {
    await sleep(FAULT_EVERY_MS);
    const other = nodes[1 + random(2)];
    const what = ["SIGKILL", "SIGTERM", "pause", "pause the first"][n % 4];
    console.log(`${new Date().toISOString()} ${what} ${other.number}`);
    if (what.startsWith("pause")) {
      const paused = what === "pause" ? other : nodes[0];
      paused.process.kill("SIGSTOP");
      await sleep(15_000);
      paused.process.kill("SIGCONT");
    } else {
      await other.restart(what);
    }
  }
}

async function keysIn(port) {
  return new Promise((resolve, reject) => {
    const socket = net.connect(port, "127.0.0.1", () => socket.write("DBSIZE\r\n"));
    socket.on("data", (data) => {
      resolve(Number(data.toString().slice(1)));
      socket.destroy();
    });
    socket.on("error", reject);
  });
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
  const redisPort = await freePort();
  start("redis-server", ["--port", String(redisPort), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
  await sleep(500);
  const ports = [await freePort(), await freePort(), await freePort()];
  const nodes = ports.map((port, index) => new Node(index + 1, port, `redis://127.0.0.1:${redisPort}`));
  for (const node of nodes) {
    for (;;) {
      if ((await fetch(`http://${node.url}/readyz`).catch(() => ({}))).ok) break;
      await sleep(200);
    }
  }
  const csv = createWriteStream(path.join(directory, "soak.csv"));
  csv.write("seconds,memory,files,sockets,users,ghosts,keys\n");
  const began = Date.now();
  const clients = Array.from({ length: CLIENTS }, () => live(nodes));
  const faults = trouble(nodes);
  const samples = [];
  while (Date.now() < end) {
    await sleep(SAMPLE_EVERY_MS);
    // A node that is paused does not answer.
    const metrics = await nodes[0].metrics().catch(() => undefined);
    if (!metrics) continue;
    const sample = { ...metrics, keys: await keysIn(redisPort) };
    samples.push(sample);
    csv.write(`${Math.round((Date.now() - began) / 1000)},${Object.values(sample).join(",")}\n`);
  }
  await Promise.all([...clients, faults]);
  csv.end();
  const { ghosts } = samples.at(-1);
  console.log(`${samples.length} samples in ${path.join(directory, "soak.csv")}; ${ghosts} ghosts mended`);
  const verdicts = [
    judge(samples, "memory", (before) => 2_000_000 + 0.05 * before),
    judge(samples, "files", (before) => 10 + 0.1 * before),
    judge(samples, "keys", (before) => 20 + 0.1 * before),
    ghosts === 0,
  ];
  return verdicts.every(Boolean);
}

const stop = () => children.forEach((child) => child.kill("SIGKILL"));
process.on("SIGINT", () => process.exit(130));
process.on("exit", stop);
const isFlat = await main();
process.exit(isFlat ? 0 : 1);
