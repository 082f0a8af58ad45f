// examples/backend

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { serve } from "../../examples/serve.mjs";
import { sees, startBrowser } from "./support/browser.mjs";
import { BINARY, startService } from "./support/service.mjs";
import { until } from "./support/wait.mjs";

const run = promisify(execFile);
const MAIN = fileURLToPath(new URL("../../examples/backend/main.mjs", import.meta.url));
const DEADLINE_MS = 60_000;

const browser = await startBrowser();

/** A backend of this service, with this key. What it writes, and its exit code. */
function backendOf(service, key) {
  const env = { ...process.env, ROLLCALL_URL: service.nodeUrls[0], ROLLCALL_API_KEY: key };
  return async (/** @type {string[]} */ ...args) => {
    const done = run(process.execPath, [MAIN, ...args], { env, timeout: DEADLINE_MS });
    return done.then(
      ({ stdout, stderr }) => ({ code: 0, stdout, stderr }),
      ({ code, stdout, stderr }) => ({ code, stdout, stderr }),
    );
  };
}

/** A key, and its entry in the settings. */
async function makeKey() {
  const { stdout, stderr } = await run(BINARY, ["api-key", "--name", "backend", "--scope", "admin"], { timeout: DEADLINE_MS });
  return { key: stdout.trim(), entry: stderr.trim().split("\n").at(-1) ?? "" };
}

test("a backend says who is online, and disconnects a user from any node", async (t) => {
  const { key, entry } = await makeKey();
  const service = await startService(t, { settings: { ROLLCALL__AUTH__API_KEYS: entry, ROLLCALL__LIMITS__PAGE_DEFAULT: "3" } });
  const pages = await serve();
  t.after(() => pages.close());
  const backend = backendOf(service, key);
  assert.deepEqual(await backend("online"), { code: 0, stdout: "", stderr: "" });
  const enter = async (/** @type {string} */ userId) => {
    const query = new URLSearchParams({ userId, service: service.url });
    return (await browser.visitor(t)).open(`${pages.origin}/examples/html/?${query}`);
  };
  // More than a page has.
  const users = ["a/b", "ada", "bob", "zoe"];
  const [strange] = await Promise.all(users.map(enter));
  for (const user of users) await service.nodeOf(user);
  await until("all users", async () => (await backend("online")).stdout === users.map((user) => `${user} online\n`).join(""));
  assert.deepEqual(await backend("disconnect", "a/b"), { code: 0, stdout: "Sockets closed: 1\n", stderr: "" });
  await sees(strange, "#state", "The connection has ended (closed_4003). Load this page again.");
  await until("a departure", async () => !(await backend("online")).stdout.includes("a/b"));
  assert.deepEqual(await backend("disconnect", "a/b"), { code: 0, stdout: "Sockets closed: 0\n", stderr: "" });
});

test("a backend that is refused says why", async (t) => {
  const { entry } = await makeKey();
  const settings = { ROLLCALL__AUTH__MODE: "jwt", ROLLCALL__AUTH__SECRET: "x".repeat(32), ROLLCALL__AUTH__API_KEYS: entry };
  const service = await startService(t, { nodes: 1, settings });
  for (const [key, code] of [["", "token_missing"], ["rck_wrong", "token_invalid"]]) {
    for (const args of [["online"], ["disconnect", "ada"]]) {
      const refused = await backendOf(service, key)(...args);
      assert.equal(refused.code, 1);
      assert.match(refused.stderr, new RegExp(`^Rollcall: .+ \\(${code}\\)\n$`));
    }
  }
  assert.equal((await backendOf(service, "")("disconnect")).code, 2);
  await service.kill(0);
  const lost = await backendOf(service, "")("online");
  assert.equal(lost.code, 1);
  assert.match(lost.stderr, /^Rollcall: connect ECONNREFUSED/);
});
