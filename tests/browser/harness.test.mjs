// What the other tests stand on: real nodes behind the load balancer, a Redis that is away, and the browser.

import assert from "node:assert/strict";
import { test } from "node:test";
import { noteTexts, sees, shoot, startBrowser, violations } from "./support/browser.mjs";
import { startService } from "./support/service.mjs";
import { until } from "./support/wait.mjs";

const browser = await startBrowser();

/** A page of the service's own origin, which has joined with a bare WebSocket. */
async function joined(visitor, service, userId) {
  const page = await visitor.open(`${service.url}/healthz`);
  await page.evaluate((id) => {
    document.title = id;
    document.body.textContent = "";
    const connect = () => {
      const socket = new WebSocket(`${location.origin.replace("http", "ws")}/ws?userId=${id}`);
      socket.onmessage = () => (document.body.textContent = "here");
      socket.onclose = () => {
        document.body.textContent = "away";
        setTimeout(connect, 50 + 50 * Math.random());
      };
    };
    connect();
  }, userId);
  await sees(page, "body", "here");
  return page;
}

test("two visitors are two users, and a killed node takes nobody along", async (t) => {
  const service = await startService(t);
  const ada = await joined(await browser.visitor(t), service, "ada");
  const bob = await joined(await browser.visitor(t), service, "bob");
  await until("both are online", async () => String(await service.online()) === "ada,bob");
  const notes = await noteTexts(ada, "body");
  const index = await service.nodeOf("ada");
  await service.kill(index);
  await until("a new connection", async () => String(await notes()) === "here,away,here");
  assert.notEqual(await service.nodeOf("ada"), index);
  assert.deepEqual(await service.online(), ["ada", "bob"]);
  await service.start(index);
  assert.deepEqual(bob.problems, []);
});

test("a service without its Redis says so, and comes back", async (t) => {
  const service = await startService(t);
  await joined(await browser.visitor(t), service, "ada");
  await service.redis.freeze();
  await until("a degraded service", () => service.isDegraded());
  assert.deepEqual(await service.online(), ["ada"]);
  service.redis.thaw();
  await until("a service that is well", async () => !(await service.isDegraded()));
});

test("what a screen reader cannot read is found, and so is an error of a page", async (t) => {
  const page = await (await browser.visitor(t)).open("about:blank");
  await page.evaluate(() => {
    document.documentElement.lang = "en";
    document.title = "A page";
    document.body.innerHTML = "<main><h1>A page</h1><input></main>";
    setTimeout(() => {
      throw new Error("of the page");
    });
  });
  assert.deepEqual(
    (await violations(page)).map((violation) => violation.split(":")[0]),
    ["label"],
  );
  await until("an error", () => page.problems.some((problem) => problem.includes("of the page")));
  await shoot(page, "harness");
});
