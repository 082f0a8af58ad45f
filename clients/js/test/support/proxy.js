// A TCP proxy that breaks what goes through it.

import { connect, createServer } from "node:net";
import { until } from "./wait.js";

/** Stands before a node. @param {number} port of the node */
export async function startProxy(port) {
  /** @type {Set<import("node:net").Socket[]>} */
  const pairs = new Set();
  /** @type {"open" | "silent" | "refusing"} */
  let mode = "open";
  let delayMs = 0;
  let target = port;
  let accepted = 0;
  /** What has been held back while nothing was let through. @type {(() => void)[]} */
  let held = [];

  /** @param {import("node:net").Socket} from @param {import("node:net").Socket} to */
  function forward(from, to) {
    from.on("data", (bytes) => {
      const pass = () => void (to.destroyed || to.write(bytes));
      const go = () => (mode === "silent" ? held.push(pass) : pass());
      if (delayMs) setTimeout(go, delayMs);
      else go();
    });
    // Also an end is not heard of in a silent network.
    from.on("close", () => (mode === "silent" ? held.push(() => to.destroy()) : to.destroy()));
    from.on("error", () => {});
  }

  const server = createServer((socket) => {
    accepted++;
    if (mode === "refusing") return socket.destroy();
    const upstream = connect(target, "127.0.0.1");
    const pair = [socket.unref(), upstream.unref()];
    pairs.add(pair);
    socket.on("close", () => pairs.delete(pair));
    forward(socket, upstream);
    forward(upstream, socket);
  }).listen(0, "127.0.0.1");
  await until("a proxy", () => server.listening);
  const cut = () => pairs.forEach((pair) => pair.forEach((socket) => socket.resetAndDestroy()));
  server.unref();
  return {
    url: `http://127.0.0.1:${/** @type {import("node:net").AddressInfo} */ (server.address()).port}`,
    /** Connections so far, and now. */
    accepted: () => accepted,
    open: () => pairs.size,
    cut,
    /** Nothing passes, and nobody is told. What was sent passes later. */
    silence: () => void (mode = "silent"),
    refuse: () => void (mode = "refusing"),
    /** Each piece takes so long. @param {number} ms */
    delay: (ms) => void (delayMs = ms),
    heal() {
      mode = "open";
      delayMs = 0;
      held.splice(0).forEach((pass) => pass());
    },
    /** New connections go to this port. @param {number} to */
    turnTo: (to) => void (target = to),
  };
}
