// Builds what is shipped, from src/: three modules, each in one file and minified, and their types.
//
//     node scripts/build.js            writes dist/ (the modules are in the repository, the types are not)
//     node scripts/build.js --check    fails if a module in dist/ is not what src/ gives

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { minify } from "terser";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** What each module is made of. Those beside the core import it, so that it is loaded once. */
const MODULES = {
  "rollcall.js": "src/index.js",
  "tabs.js": "src/tabs.js",
  "react.js": "src/react/index.js",
};

/**
 * Names that only the parts of the core use among themselves: they are shortened. Neither applications, the protocol, tabs.js nor
 * the platform know them.
 */
const INTERNAL =
  /^(opened|heard|closed|joinFields|begin|lost|watched|counting|people|roster|shown|typists|facts|woke|fields|failed|isDegraded|retry|good|timer|here|byId|lists|inList|curious|askNow|doubts|done|active)$/;

/** The core may have so many bytes when it is compressed. */
const CORE_MAX_BYTES = 6144;

const BANNER = "/* Rollcall, MIT OR Apache-2.0 */\n";

/** The core is a file of its own, wherever it is imported from. */
const coreApart = {
  name: "core apart",
  setup(/** @type {import("esbuild").PluginBuild} */ { onResolve }) {
    onResolve({ filter: /\/index\.js$/ }, ({ kind }) =>
      kind === "entry-point" ? undefined : { path: "./rollcall.js", external: true },
    );
  },
};

/** @param {string} entry */
async function bundled(entry) {
  const { outputFiles } = await build({
    absWorkingDir: ROOT,
    entryPoints: [entry],
    bundle: true,
    write: false,
    format: "esm",
    target: "es2022",
    external: ["react"],
    plugins: [coreApart],
  });
  const { code } = await minify(outputFiles[0].text, {
    module: true,
    ecma: 2020,
    compress: { passes: 4, unsafe_arrows: true, hoist_funs: true, lhs_constants: false, keep_fargs: false, pure_getters: true },
    mangle: entry === MODULES["rollcall.js"] ? { properties: { regex: INTERNAL, builtins: true } } : true,
  });
  return BANNER + code + "\n";
}

/** @returns {Promise<[string, string][]>} each module's name and text */
const modules = () =>
  Promise.all(Object.entries(MODULES).map(async ([name, entry]) => /** @type {[string, string]} */ ([name, await bundled(entry)])));

const DIST = join(ROOT, "dist");

/** @param {string} name */
const present = (name) => existsSync(join(DIST, name)) && readFileSync(join(DIST, name), "utf8");

function buildTypes() {
  rmSync(join(DIST, "types"), { recursive: true, force: true });
  const compiler = join(ROOT, "node_modules/typescript/bin/tsc");
  const types = ["--noEmit", "false", "--declaration", "--emitDeclarationOnly", "--outDir", "dist/types"];
  execFileSync(process.execPath, [compiler, "-p", ROOT, ...types], { cwd: ROOT, stdio: "inherit" });
}

async function main() {
  const isCheck = process.argv.includes("--check");
  mkdirSync(DIST, { recursive: true });
  for (const [name, text] of await modules()) {
    const bytes = gzipSync(text, { level: 9 }).length;
    if (name === "rollcall.js" && bytes > CORE_MAX_BYTES) throw new Error(`dist/${name} has ${bytes} bytes (gzip): ${CORE_MAX_BYTES} at most`);
    // Whoever reads the same file now must not find half of it.
    if (present(name) === text) continue;
    if (isCheck) throw new Error(`dist/${name} is old: run \`npm run build\``);
    writeFileSync(join(DIST, name), text);
  }
  if (!isCheck) buildTypes();
}

await main();
