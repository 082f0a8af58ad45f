// What every example must do, whatever it is made of. Each shows the users in `#users li`, and how it is in `#state`.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { serve } from "../../../examples/serve.mjs";
import { noteTexts, sees, shoot, startBrowser, texts, violations } from "./browser.mjs";
import { startService } from "./service.mjs";
import { until } from "./wait.mjs";

const USERS = "#users li";
const STATE = "#state";
const DEGRADED = "The service has a problem. The list may be out of date.";

/** Runs when it is parsed as HTML. */
const HOSTILE = "<img src=x onerror=alert(1)>";

/**
 * The tests of an example.
 * @param {object} example
 * @param {string} example.path its folder in examples/
 * @param {(name: string, userId: string) => string} example.line what it shows of a user who is online
 * @param {boolean} [example.isTold] a page that is there when Redis goes away is told so. One that comes later always is
 * @param {boolean} [example.isPartial] a page that comes while Redis is away may not show everybody
 */
export async function behavesAsAnExample({ path, line, isTold, isPartial }) {
  const browser = await startBrowser();
  /** @type {Awaited<ReturnType<typeof serve>>} */
  let pages;
  before(async () => void (pages = await serve()));
  after(() => pages.close());

  /** Three nodes, which let in the pages of the examples alone. @param {import("node:test").TestContext} t */
  async function setUp(t) {
    const service = await startService(t, { settings: { ROLLCALL__SERVER__CORS_ALLOWED_ORIGINS: pages.origin } });
    const url = (/** @type {string} */ userId, name = `The ${userId}`) =>
      `${pages.origin}/examples/${path}/?${new URLSearchParams({ userId, name, service: service.url })}`;
    return {
      service,
      url,
      /** Somebody at a machine of their own, who sees the example. */
      enter: async (/** @type {string} */ userId, /** @type {string} */ name) =>
        (await browser.visitor(t)).open(url(userId, name)),
    };
  }

  /** Waits until a page shows these users. @param {import("puppeteer-core").Page} page @param {string[]} userIds */
  const shows = (page, ...userIds) => sees(page, USERS, userIds.map((id) => line(`The ${id}`, id)));

  /**
   * What a page showed since, up to somebody's coming: what was told before that has been shown by then.
   * @param {import("puppeteer-core").Page} page @param {() => Promise<string[]>} notes @param {(userId: string) => Promise<any>} enter
   */
  async function shownUntilZoeCame(page, notes, enter) {
    await enter("zoe");
    await until("zoe", async () => (await notes()).at(-1)?.includes("zoe"));
    return notes();
  }

  test("two tabs are one user, also after one of them is closed", async (t) => {
    const { enter, url } = await setUp(t);
    const bob = await enter("bob");
    const visitor = await browser.visitor(t);
    const first = await visitor.open(url("ada"));
    await shows(bob, "ada", "bob");
    const second = await visitor.open(url("ada"));
    for (const page of [first, second]) await shows(page, "ada", "bob");
    const notes = await noteTexts(bob, "#users");
    await second.close();
    assert.equal((await shownUntilZoeCame(bob, notes, enter)).length, 2, "the list, and the list with zoe");
    await shows(bob, "ada", "bob", "zoe");
    await shows(first, "ada", "bob", "zoe");
    assert.deepEqual([...first.problems, ...bob.problems], []);
  });

  test("a reload is nobody's event", async (t) => {
    const { enter } = await setUp(t);
    const [ada, bob] = [await enter("ada"), await enter("bob")];
    await shows(bob, "ada", "bob");
    const notes = await noteTexts(bob, "#users");
    for (let i = 0; i < 3; i++) {
      await ada.reload();
      await shows(ada, "ada", "bob");
    }
    assert.equal((await shownUntilZoeCame(bob, notes, enter)).length, 2, "the list, and the list with zoe");
  });

  test("who is on a node that is killed comes back elsewhere, and nobody sees it", async (t) => {
    const { enter, service } = await setUp(t);
    const [ada, bob] = [await enter("ada"), await enter("bob")];
    for (const page of [ada, bob]) await shows(page, "ada", "bob");
    const killed = await service.nodeOf("ada");
    const notes = await Promise.all([ada, bob].map((page) => noteTexts(page, "#users")));
    await service.kill(killed);
    assert.notEqual(await service.nodeOf("ada"), killed);
    assert.notEqual(await service.nodeOf("bob"), killed);
    assert.equal((await shownUntilZoeCame(bob, notes[1], enter)).length, 2, "the list, and the list with zoe");
    for (const page of [ada, bob]) await shows(page, "ada", "bob", "zoe");
    assert.equal((await notes[0]()).length, 2);
    assert.deepEqual(await service.online(), ["ada", "bob", "zoe"]);
  });

  test("while Redis is away, nobody is shown as gone", async (t) => {
    const { enter, service } = await setUp(t);
    const [ada, bob] = [await enter("ada"), await enter("bob")];
    for (const page of [ada, bob]) await shows(page, "ada", "bob");
    const well = await texts(ada, STATE);
    const notes = await noteTexts(ada, "#users");
    await service.redis.freeze();
    await until("a degraded service", () => service.isDegraded());
    if (isTold) for (const page of [ada, bob]) await sees(page, STATE, DEGRADED);
    await bob.reload();
    await sees(bob, STATE, DEGRADED);
    if (!isPartial) await shows(bob, "ada", "bob");
    service.redis.thaw();
    await until("a service that is well", async () => !(await service.isDegraded()));
    await sees(ada, STATE, well);
    assert.equal((await shownUntilZoeCame(ada, notes, enter)).length, 2, "the list, and the list with zoe");
    await shows(bob, "ada", "bob", "zoe");
  });

  test("who is disconnected by the application's server is told so", async (t) => {
    const { enter, service } = await setUp(t);
    const [ada, bob] = [await enter("ada"), await enter("bob")];
    for (const page of [ada, bob]) await shows(page, "ada", "bob");
    await service.disconnect("ada");
    await until("the end", async () => String(await texts(ada, STATE)).startsWith("The connection has ended"));
    await shows(bob, "bob");
  });

  test("a name that looks like HTML is text", async (t) => {
    const { enter, url } = await setUp(t);
    const [mallory, bob] = [await enter(HOSTILE, HOSTILE), await enter("bob")];
    const lines = [line(HOSTILE, HOSTILE), line("The bob", "bob")];
    for (const page of [mallory, bob]) {
      await sees(page, USERS, lines);
      assert.equal(await page.$("img"), null);
      assert.deepEqual(page.problems, []);
    }
    assert.ok(url(HOSTILE).includes("%3Cimg"));
  });

  test("axe-core finds nothing, and the page fits on a phone", async (t) => {
    const { enter } = await setUp(t);
    const [ada] = [await enter("ada"), await enter("bob")];
    await shows(ada, "ada", "bob");
    await sees(ada, "h1", (await ada.title()).replace(/, .*/, ""));
    assert.deepEqual(await violations(ada), []);
    await shoot(ada, path);
    await ada.setViewport({ width: 320, height: 640 });
    assert.ok(await ada.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "nothing is cut off");
  });

  return { browser, setUp, shows };
}
