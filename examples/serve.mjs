// A small server for these examples, for this machine alone.
//
//     node examples/serve.mjs          http://127.0.0.1:3000
//     node examples/serve.mjs 3001     on another port

import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, sep } from "node:path";
import { argv } from "node:process";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** Nothing else of the checkout is served. */
const SERVED = ["examples", join("clients", "js", "dist")].map((directory) => join(ROOT, directory) + sep);

const TYPES = {
  ".css": "text/css; charset=utf-8",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
};

/** The file that a URL means, if it is one of ours. @param {string} url */
async function fileOf(url) {
  const path = decodeURIComponent(new URL(url, "http://localhost").pathname);
  const file = join(ROOT, path, path.endsWith("/") ? "index.html" : "");
  const isOurs = SERVED.some((directory) => file.startsWith(directory)) && extname(file) in TYPES;
  return isOurs && (await stat(file)).isFile() ? file : undefined;
}

/** Listens, and returns the origin of its pages. @param {number} [port] 0 takes a free one */
export async function serve(port = 0) {
  const server = createServer(async (request, response) => {
    if (request.url === "/") return response.writeHead(302, { Location: "/examples/" }).end();
    // What is no URL, or no file, is not found.
    const file = await fileOf(request.url ?? "").catch(() => undefined);
    if (!file) return response.writeHead(404, { "Content-Type": "text/plain" }).end("not found\n");
    response.writeHead(200, { "Content-Type": TYPES[extname(file)], "Cache-Control": "no-cache" });
    createReadStream(file).on("error", () => response.destroy()).pipe(response);
  });
  await new Promise((resolve, reject) => server.once("error", reject).listen(port, "127.0.0.1", () => resolve(undefined)));
  return { origin: `http://127.0.0.1:${server.address().port}`, close: () => server.close() };
}

if (argv[1] === fileURLToPath(import.meta.url)) {
  const { origin } = await serve(Number(argv[2] ?? 3000));
  console.log(`The examples are at ${origin}/examples/`);
}
