// What is shipped: the package, in a project that has nothing else of this repository.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { startNode } from "./support/service.js";

const run = promisify(execFile);
const ROOT = fileURLToPath(new URL("..", import.meta.url));
const COMPILER = join(ROOT, "node_modules/typescript/bin/tsc");

/** @type {string} */
let folder;
/** What npm says of the package. @type {{ filename: string, files: { path: string }[] }} */
let packed;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "rollcall-package-"));
  const { stdout } = await run("npm", ["pack", "--json", "--pack-destination", folder], { cwd: ROOT });
  // Whatever the build says comes before it.
  [packed] = JSON.parse(stdout.slice(stdout.indexOf("[\n")));
});
after(() => rm(folder, { recursive: true, force: true }));

test("the package has what an application needs, and says what it is", async () => {
  const names = packed.files.map(({ path }) => path);
  const needed = ["rollcall.js", "react.js", "tabs.js", "types/index.d.ts", "types/react/index.d.ts", "types/tabs.d.ts"];
  for (const name of needed) assert.ok(names.includes(`dist/${name}`), name);
  const others = names.filter((name) => !/^(dist\/[a-z/]+\.(js|d\.ts)|src\/[a-z/]+\.(js|ts)|LICENSE-(MIT|APACHE)|README\.md|package\.json)$/.test(name));
  assert.deepEqual(others, []);
  for (const name of ["LICENSE-MIT", "LICENSE-APACHE"]) {
    assert.equal(await readFile(join(ROOT, name), "utf8"), await readFile(join(ROOT, "../..", name), "utf8"));
  }
  const { dependencies } = JSON.parse(await readFile(join(ROOT, "package.json"), "utf8"));
  assert.equal(dependencies, undefined);
});

test("an empty project installs it, compiles it strictly, and runs it", async () => {
  const project = join(folder, "project");
  await cp(join(ROOT, "test/project"), project, { recursive: true });
  await writeFile(join(project, "package.json"), JSON.stringify({ name: "project", private: true, type: "module" }));
  const install = ["install", "--offline", "--no-audit", "--no-fund", "--ignore-scripts", "--legacy-peer-deps", `file:${join(folder, packed.filename)}`];
  await run("npm", install, { cwd: project });
  // React as an application has it. There may be no network here.
  await mkdir(join(project, "node_modules/@types"), { recursive: true });
  for (const name of ["@types/react", "csstype", "react"]) {
    await symlink(join(ROOT, "node_modules", name), join(project, "node_modules", name));
  }

  const application = await readFile(join(project, "application.tsx"), "utf8");
  for (const name of ["@rollcall/client", "@rollcall/client/react", "@rollcall/client/tabs"]) {
    for (const each of Object.keys(await import(name))) assert.ok(application.includes(each), `${each} is not used`);
  }
  const strict = ["--strict", "--noEmit", "--jsx", "react-jsx", "--target", "es2022", "--lib", "es2022,dom", "--module", "nodenext"];
  await run(process.execPath, [COMPILER, ...strict, "application.tsx"], { cwd: project }).catch(({ stdout }) => assert.fail(stdout));

  const node = await startNode();
  const flags = process.execArgv.filter((flag) => /websocket|warning/i.test(flag));
  const { stdout } = await run(process.execPath, [...flags, "run.js", node.url], { cwd: project });
  assert.equal(stdout, '[{"id":"1","name":"Project","status":"online"}] unknown_type\n');
});
