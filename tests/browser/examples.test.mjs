// examples/index.html and examples/serve.mjs

import assert from "node:assert/strict";
import { request } from "node:http";
import { after, before, test } from "node:test";
import { serve } from "../../examples/serve.mjs";
import { sees, shoot, startBrowser, violations } from "./support/browser.mjs";
import { startService } from "./support/service.mjs";

const browser = await startBrowser();
/** @type {Awaited<ReturnType<typeof serve>>} */
let pages;
before(async () => void (pages = await serve()));
after(() => pages.close());

test("the start page asks who one is, and leads to an example", async (t) => {
  const service = await startService(t, { nodes: 1 });
  const page = await (await browser.visitor(t)).open(pages.origin);
  await sees(page, "h1", "Examples of Rollcall");
  assert.deepEqual(await violations(page), []);
  await shoot(page, "examples");
  await page.locator("[name=userId]").fill("ada");
  await page.locator("[name=name]").fill("Ada");
  await page.locator("[name=service]").fill(service.url);
  await page.locator("button").click();
  await sees(page, "#users li", "Ada: online");
  assert.deepEqual(page.problems, []);
});

test("an example asks who one is if nobody has said it", async (t) => {
  const visitor = await browser.visitor(t);
  for (const path of ["html", "react", "chat-room", "chat-status"]) {
    const page = await visitor.open(`${pages.origin}/examples/${path}/`);
    await sees(page, "h1", "Examples of Rollcall");
  }
});

test("only the examples and the client are served", async () => {
  const statusOf = (/** @type {string} */ path) =>
    new Promise((resolve, reject) => {
      // The path is sent as it is: `fetch` would tidy it up.
      request(pages.origin, { path }, (answer) => resolve(answer.resume().statusCode)).on("error", reject).end();
    });
  for (const path of ["/examples/", "/examples/style.css", "/clients/js/dist/rollcall.js"]) {
    assert.equal(await statusOf(path), 200, path);
  }
  const outside = ["/src/http/page/docs.html", "/clients/js/src/index.js", "/.git/config", "/examples/package.json", "/examples/html"];
  const tricks = ["/examples/../src/http/page/docs.html", "/examples/..%2fsrc/http/page/docs.html", "/examples/%00.html", "/%", "//x"];
  for (const path of [...outside, ...tricks]) assert.equal(await statusOf(path), 404, path);
});
