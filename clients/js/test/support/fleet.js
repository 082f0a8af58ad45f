// Two nodes on one Redis, all of which may be lost and replaced.

import { startProxy } from "./proxy.js";
import { launchNode, startNode, startRedis } from "./service.js";
import { until } from "./wait.js";

/** @param {Record<string, string>} settings */
export async function startFleet(settings) {
  let redis = await startRedis();
  // Nodes know one address of Redis, whichever is behind it.
  const way = await startProxy(redis.port);
  const own = { ...settings, REDIS_URL: way.url.replace("http", "redis") };
  const nodes = [await startNode(own), await startNode(own)];

  /** Another node takes the place of this one. @param {number} place @param {"drain" | "kill"} end */
  async function replace(place, end) {
    const old = nodes[place];
    nodes[place] = await launchNode(own);
    return old[end]();
  }

  return {
    nodes,
    replace,
    /** Nodes cannot reach Redis, and do not hear why. */
    cutRedis: () => way.silence(),
    /** Redis has lost everything, and is away until it is healed. */
    async loseRedis() {
      way.refuse();
      way.cut();
      await redis.kill();
      redis = await startRedis();
      way.turnTo(redis.port);
    },
    healRedis: () => way.heal(),
    ready: () => until("ready nodes", async () => (await Promise.all(nodes.map(({ url }) => fetch(`${url}/readyz`)))).every(({ ok }) => ok)),
  };
}
