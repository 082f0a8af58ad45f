// Checks the types, that dist/ is fresh, and runs the tests. Ends with the summary of node's test runner.
//
//     node scripts/test.js [arguments of node --test]
//
// Needs the service's binary: ROLLCALL_BINARY, or target/debug/rollcall.

import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";

const cwd = fileURLToPath(new URL("..", import.meta.url));

/** @param {string[]} args */
function run(...args) {
  const { status, error } = spawnSync(process.execPath, args, { cwd, stdio: "inherit" });
  if (error) throw error;
  if (status !== 0) process.exit(status ?? 1);
}

run("node_modules/typescript/bin/tsc", "-p", ".");
run("scripts/build.js", "--check");
const given = process.argv.slice(2);
const files = given.length ? given : readdirSync(new URL("../test", import.meta.url)).filter((name) => name.endsWith(".test.js")).map((name) => `test/${name}`);
// Node 20 has a WebSocket, and does not show it.
const flags = "WebSocket" in globalThis ? [] : ["--experimental-websocket", "--disable-warning=ExperimentalWarning"];
// They wait more than they work, and each file has nodes of its own.
run(...flags, "--test", "--test-concurrency=2", "--test-reporter=spec", ...files);
