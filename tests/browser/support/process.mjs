// Programs that never outlive the process that runs the tests of one file, however it ends.

import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, openSync, closeSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { until } from "./wait.mjs";

export const ROOT = fileURLToPath(new URL("../../..", import.meta.url));

const outputs = join(ROOT, "target/browser");
mkdirSync(outputs, { recursive: true });
/** A directory of this process. It stays if a test fails, because the logs of all programs are there. */
export const DIRECTORY = mkdtempSync(join(outputs, "run-"));

/** @type {Set<OwnedProcess>} */
const running = new Set();
process.on("exit", (code) => {
  for (const each of running) each.signal("SIGKILL");
  if (code === 0) rmSync(DIRECTORY, { recursive: true, force: true });
  else console.error(`the logs are in ${DIRECTORY}`);
});
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.once(signal, () => process.exit(1));

/**
 * What a program runs in. `exit` listeners do not run if the tests are killed. So a guard waits for the end of a pipe, whose other
 * end only the tests hold, and then kills the program.
 */
const GUARDED = `
  exec 3<&0
  (trap "" INT TERM HUP; read -r _ <&3 || kill -KILL $$) </dev/null >/dev/null 2>&1 &
  exec "$@" 3<&- </dev/null
`;

/** A running program. */
export class OwnedProcess {
  #child;
  #log;
  /** @type {Promise<void>} */
  #closed;

  /** @param {string} name of its log @param {string} program @param {string[]} args @param {Record<string, string>} [environment] */
  constructor(name, program, args, environment = {}) {
    this.name = name;
    this.#log = join(DIRECTORY, `${name}.log`);
    const output = openSync(this.#log, "a");
    // Debian keeps haproxy where the PATH of a normal user does not look.
    const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin`, ...environment };
    this.#child = spawn("sh", ["-c", GUARDED, "guarded", program, ...args], { env, stdio: ["pipe", output, output] });
    closeSync(output);
    running.add(this);
    this.#closed = new Promise((resolve) => {
      this.#child.on("error", resolve);
      this.#child.on("exit", resolve);
    }).then(() => {
      running.delete(this);
      // Dismisses the guard: the pid is free for others from here on.
      this.#child.stdin.on("error", () => {});
      this.#child.stdin.end("\n");
    });
  }

  /** All that it has written. */
  get log() {
    return readFileSync(this.#log, "utf8");
  }

  get hasEnded() {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  /** @param {NodeJS.Signals} signal */
  signal(signal) {
    if (!this.hasEnded) this.#child.kill(signal);
  }

  /** Stops it, and returns once nothing of it runs. `SIGCONT` lets it go on. */
  async freeze() {
    this.signal("SIGSTOP");
    const state = () => readFileSync(`/proc/${this.#child.pid}/stat`, "utf8").replace(/.*\) /s, "")[0];
    await until(`a stop of ${this.name}`, () => state() === "T");
  }

  /** Ends it, and waits for that. @param {NodeJS.Signals} [signal] */
  async end(signal = "SIGKILL") {
    this.signal(signal);
    await until(`the end of ${this.name}`, () => this.hasEnded);
    await this.#closed;
  }

  /** Waits until it can be used. @param {() => boolean | Promise<boolean>} condition */
  async ready(condition) {
    await until(`${this.name} is ready`, async () => {
      if (this.hasEnded) throw new Error(`${this.name} has ended:\n${this.log}`);
      return condition();
    });
  }
}

/** Ports below those that the kernel gives to outgoing connections: a killed program finds its port free. @type {Set<number>} */
const reserved = new Set();

/** A free port of 127.0.0.1, which this process gives to nobody else. */
export async function reservePort() {
  for (let tries = 1000; tries > 0; tries--) {
    const port = 12_000 + Math.floor(Math.random() * 20_000);
    if (!reserved.has(port) && (await isFree(port))) {
      reserved.add(port);
      return port;
    }
  }
  throw new Error("there is no free port between 12000 and 32000");
}

/** @param {number} port @returns {Promise<boolean>} */
function isFree(port) {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}
