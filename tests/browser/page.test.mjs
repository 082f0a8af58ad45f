// The page at `/`, as its visitors see it.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { DESKTOP, PHONE, focused, noteTexts, sees, shoot, startBrowser, texts, violations } from "./support/browser.mjs";
import { ROOT } from "./support/process.mjs";
import { startService } from "./support/service.mjs";
import { until } from "./support/wait.mjs";

const browser = await startBrowser();

const NAMES = "#people-rows button.name > bdi:first-child";
const NEWS = "#news-rows li > span:last-child";

/** Fills a field, whatever was in it. */
async function fill(page, selector, text) {
  const field = await page.waitForSelector(selector, { visible: true });
  await field.evaluate((element) => void (element.value = ""));
  await field.type(text);
}

/** Presses a button as the keyboard does: what comes above it meanwhile does not move it away. */
async function click(page, selector) {
  const button = await page.waitForSelector(`${selector}:not([disabled])`, { visible: true });
  await button.press("Enter");
}

/** Joins under a name, which is also the user id. */
async function joinAs(page, name) {
  await fill(page, "#join-name", name);
  await click(page, "#join-form button.main");
  await page.waitForSelector("#joined", { visible: true });
}

/** Somebody at a machine of their own who has joined. */
async function joined(t, url, name, options) {
  const page = await (await browser.visitor(t)).open(url, options);
  await joinAs(page, name);
  return page;
}

/** Waits until a text is in what an element shows. */
async function shows(page, selector, text) {
  let seen = "";
  try {
    await until(selector, async () => (seen = (await texts(page, selector)).join("\n")).includes(text));
  } catch {
    throw new Error(`${selector} has ${JSON.stringify(seen)}, and not ${JSON.stringify(text)}`);
  }
}

const isHidden = (page, selector) => page.$eval(selector, (element) => element.hidden);

test("visitors see one another, and a second tab is the same person", async (t) => {
  const service = await startService(t);
  const ann = await joined(t, service.url, "Ann");
  const guest = await (await browser.visitor(t)).open(service.url);
  await sees(guest, NAMES, ["Ann"]);
  await sees(guest, "#people-count", "1");

  const machine = await browser.visitor(t);
  const bob = await machine.open(service.url);
  await joinAs(bob, "Bob");
  for (const page of [ann, bob, guest]) await sees(page, NAMES, ["Ann", "Bob"]);
  await shows(guest, NEWS, "Bob came");

  const notes = await noteTexts(guest, "#news-rows");
  const opened = new Promise((resolve) => bob.once("popup", resolve));
  await click(bob, "#second-tab");
  const second = await opened;
  await second.waitForSelector("#joined", { visible: true });
  await sees(second, "#you-name", "Bob");
  await shows(second, "#tabs", "this tab");
  await until("both tabs are listed", async () => (await texts(second, "#tabs li")).length === 2);
  await sees(guest, NAMES, ["Ann", "Bob"]);

  // The first tab goes, and Bob stays. Then he leaves with the second one.
  await bob.close();
  await click(second, "#leave");
  for (const page of [ann, guest, second]) await sees(page, NAMES, ["Ann"]);
  await shows(guest, NEWS, "Bob went (left)");
  assert.equal((await notes()).at(-1).split("Bob came").length, 2, "a second tab is no arrival");
  for (const page of [ann, guest]) assert.deepEqual(page.problems, []);
});

test("a reload is seen by nobody, and the visitor is who they were, with status and room", async (t) => {
  const service = await startService(t);
  const ann = await joined(t, service.url, "Ann");
  const bob = await joined(t, service.url, "Bob");
  for (const page of [ann, bob]) {
    await fill(page, "#room-id", "kitchen");
    await click(page, "#room-form button");
    await page.waitForSelector("#room-open", { visible: true });
  }
  await sees(ann, "#room-members bdi:first-child", ["Ann", "Bob"]);
  await bob.select("#status", "busy");
  await fill(bob, "#activity", "cooking");
  await click(bob, "#status-form button");
  await shows(ann, "#people-rows", "Busy: cooking");
  await shows(ann, "#room-members", "Busy: cooking");

  const people = await noteTexts(ann, "#people-rows");
  const members = await noteTexts(ann, "#room-members");
  await bob.reload();
  await sees(bob, "#you-name", "Bob");
  await shows(bob, "#you-seen", "Busy: cooking");
  await sees(bob, "#room-members bdi:first-child", ["Ann", "Bob"]);
  await sees(bob, NAMES, ["Ann", "Bob"]);
  for (const seen of [...(await people()), ...(await members())]) {
    assert.ok(seen.includes("Bob") && seen.includes("Busy: cooking"), seen);
  }
  const news = await texts(ann, NEWS);
  assert.deepEqual(news.filter((text) => text.includes("Bob went")), []);
  // Back and forward are no departures either.
  await bob.goto(`${service.url}/docs`);
  await bob.goBack();
  await sees(bob, "#you-name", "Bob");
  await sees(bob, NAMES, ["Ann", "Bob"]);
  for (const seen of await people()) assert.ok(seen.includes("Bob"), seen);
});

test("a room shows who types", async (t) => {
  const service = await startService(t);
  const ann = await joined(t, service.url, "Ann");
  const bob = await joined(t, service.url, "Bob", { size: PHONE });
  for (const page of [ann, bob]) {
    await fill(page, "#room-id", "kitchen");
    await click(page, "#room-form button");
    await sees(page, "#room-name", "kitchen");
  }
  await sees(bob, "#room-members bdi:first-child", ["Ann", "Bob"]);
  await fill(ann, "#room-typing", "a secret");
  await sees(bob, "#room-typists", "Ann types…");
  await ann.keyboard.press("Enter");
  await sees(bob, "#room-typists", "");
  assert.ok(!(await bob.content()).includes("a secret"));
  await shoot(bob, "page-room");
  await click(ann, "#room-leave");
  await sees(bob, "#room-members bdi:first-child", ["Bob"]);
});

test("a killed node takes nobody along, and its visitor comes back by themselves", async (t) => {
  const service = await startService(t);
  const ann = await joined(t, service.url, "Ann");
  const bob = await joined(t, service.url, "Bob");
  await sees(ann, NAMES, ["Ann", "Bob"]);
  const node = await texts(ann, "#you-node");
  const people = await noteTexts(ann, "#people-rows");
  await service.kill(await service.nodeOf("Ann"));
  await until("another node", async () => `${await texts(ann, "#you-node")}` !== `${node}`);
  await sees(ann, "#connection", "Connected");
  await sees(ann, NAMES, ["Ann", "Bob"]);
  await sees(bob, NAMES, ["Ann", "Bob"]);
  for (const seen of await people()) assert.ok(seen.includes("Ann") && seen.includes("Bob"), seen);
  assert.deepEqual((await texts(bob, NEWS)).filter((text) => text.includes("went")), []);
  await sees(ann, "#banners", "");
});

test("without Redis the page says so, shows nobody as gone, and is well again", async (t) => {
  const service = await startService(t);
  const ann = await joined(t, service.url, "Ann");
  const bob = await joined(t, service.url, "Bob");
  await sees(ann, NAMES, ["Ann", "Bob"]);
  const people = await noteTexts(ann, "#people-rows");
  await service.redis.freeze();
  await shows(ann, "#banners", "degraded");
  await sees(ann, "#connection", "Degraded");
  assert.match(`${await texts(ann, "#banners")}`, /surely right at .*\d/);
  assert.deepEqual(await violations(ann), []);
  await shoot(ann, "page-degraded");
  // Who leaves meanwhile is not known to be gone.
  await bob.close();
  await sees(ann, NAMES, ["Ann", "Bob"]);
  const meanwhile = await people();
  service.redis.thaw();
  await sees(ann, "#banners", "");
  for (const seen of meanwhile) assert.ok(seen.includes("Ann") && seen.includes("Bob"), seen);
  assert.deepEqual(ann.problems, []);
});

test("when no node is there, the page says so and shows what was known last", async (t) => {
  const service = await startService(t, { nodes: 1 });
  const ann = await joined(t, service.url, "Ann");
  const people = await noteTexts(ann, "#people-rows");
  await service.kill(0);
  await shows(ann, "#banners", "The connection to the service is broken.");
  await shows(ann, "#banners", "at the latest after 5 s");
  await sees(ann, NAMES, ["Ann"]);
  assert.deepEqual(await violations(ann), []);
  await service.start(0);
  await sees(ann, "#connection", "Connected");
  await sees(ann, "#banners", "");
  for (const seen of await people()) assert.ok(seen.includes("Ann"), seen);
});

test("who is disconnected by the server is told so, and comes back when they want", async (t) => {
  const service = await startService(t, { nodes: 1 });
  const ann = await joined(t, service.url, "Ann");
  await sees(ann, NAMES, ["Ann"]);
  await fetch(`${service.nodeUrls[0]}/api/users/Ann/sockets`, { method: "DELETE" });
  await shows(ann, "#banners", "The application's server has disconnected you.");
  await sees(ann, "#connection", "Ended");
  assert.deepEqual(await violations(ann), []);
  await click(ann, "#banners button");
  await sees(ann, "#connection", "Connected");
  await sees(ann, "#banners", "");
  await sees(ann, NAMES, ["Ann"]);
});

test("a user id that the service refuses changes nothing, and the next one is taken", async (t) => {
  const service = await startService(t, { nodes: 1 });
  const page = await joined(t, service.url, "Ann");
  const guest = await (await browser.visitor(t)).open(service.url);
  await sees(guest, NAMES, ["Ann"]);
  await fill(guest, "#join-name", "€".repeat(50));
  await click(guest, "#join-form button.main");
  await sees(guest, "#you-problem", "The service does not accept this name or user id.");
  await sees(guest, NAMES, ["Ann"]);
  await joinAs(guest, "Bob");
  await sees(guest, "#you-problem", "");
  for (const each of [guest, page]) await sees(each, NAMES, ["Ann", "Bob"]);
  // Who hides is offline for others, and knows it.
  await guest.select("#status", "invisible");
  await click(guest, "#status-form button");
  await sees(guest, "#you-seen", "Offline (you are invisible)");
  for (const each of [guest, page]) await sees(each, NAMES, ["Ann"]);
});

test("a name is a text, whatever it says", async (t) => {
  const service = await startService(t);
  const ann = await joined(t, service.url, "Ann");
  const name = "<img src=x onerror=alert(1)>";
  const room = "<script>alert(2)</script>";
  const eve = await joined(t, service.url, name);
  for (const page of [ann, eve]) {
    await fill(page, "#room-id", room);
    await click(page, "#room-form button");
  }
  await fill(eve, "#activity", "<svg onload=alert(3)>");
  await click(eve, "#status-form button");
  await sees(ann, NAMES, [name, "Ann"]);
  await shows(ann, "#people-rows", "<svg onload=alert(3)>");
  await shows(ann, NEWS, `${name} came`);
  await sees(ann, "#room-name", room);
  await sees(ann, "#room-members li > bdi:first-child", [name, "Ann"]);
  await fill(eve, "#room-typing", "x");
  await sees(ann, "#room-typists", `${name} types…`);
  // Text that turns its surroundings around stays within its own bounds.
  await fill(eve, "#new-name", "\u202Eevil\u202C \u0000<b>");
  await click(eve, "#name-form button");
  await shows(ann, "#people-rows", "<b>");
  for (const page of [ann, eve]) {
    assert.deepEqual(page.problems, []);
    assert.deepEqual(await page.evaluate(() => document.querySelectorAll("img, script:not([src]), b, main svg[onload]").length), 0);
  }
});

test("operators see the nodes and why somebody is online; others are told that they may not", async (t) => {
  const service = await startService(t);
  const url = service.nodeUrls[0];
  const ann = await joined(t, url, "Ann");
  await until("three nodes", async () => (await texts(ann, "#node-rows tr")).length === 3);
  await until("they answer", async () => (await texts(ann, "#node-rows td:last-child")).every((text) => text === "answers"));
  await shows(ann, "#node-facts", "Redis");
  await until("charts", async () => (await texts(ann, "#charts figure")).length === 7);
  await click(ann, "#people-rows button.name");
  await shows(ann, "#explanation-summary", "Online: 1 socket on 1 node.");
  await shows(ann, "#explanation-sockets", "wanted, confirmed");
  assert.deepEqual(await violations(ann), []);
  await shoot(ann, "page-operator");
  await service.kill(1);
  await until("a node that is lost", async () => (await texts(ann, "#node-rows td:last-child")).some((text) => text !== "answers"));

  const guest = await (await browser.visitor(t)).open(service.url);
  await shows(guest, "#operator-note", "not to be had here");
  assert.ok(await isHidden(guest, "#operator"));
  await fill(guest, "#explain-id", "Ann");
  await click(guest, "#explain-form button");
  await shows(guest, "#explain-problem", "Only operators may ask this");
  await sees(guest, NAMES, ["Ann"]);
});

const SECRET = "a secret of the tests, of thirty-two bytes";
const JWT = { ROLLCALL__AUTH__MODE: "jwt", ROLLCALL__AUTH__SECRET: SECRET };

/** A token as the service makes it for development. */
async function token(...claims) {
  const binary = process.env.ROLLCALL_BINARY ?? join(ROOT, "target/debug/rollcall");
  const { stdout } = await promisify(execFile)(binary, ["token", ...claims], { env: { ...process.env, ...JWT } });
  return stdout.trim();
}

test("with tokens, the page asks for one, keeps it in memory alone, and asks again when it has ended", async (t) => {
  const service = await startService(t, { settings: JWT });
  const machine = await browser.visitor(t);
  const page = await machine.open(service.url);
  await page.waitForSelector("#token-form", { visible: true });
  assert.ok(await isHidden(page, "#join-form"));
  assert.deepEqual(await violations(page), []);
  await shoot(page, "page-token");

  await fill(page, "#token", "no.token.atall");
  await click(page, "#token-form button");
  await shows(page, "#you-problem", "does not accept this token");

  const short = await token("--user", "ann", "--expires-in", "30");
  await fill(page, "#token", short);
  await click(page, "#token-form button");
  await page.waitForSelector("#joined", { visible: true });
  await sees(page, NAMES, ["ann"]);
  await sees(page, "#you-problem", "");
  const kept = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie, location.href, history.length]));
  assert.ok(!kept.includes(short), kept);
  assert.equal(await page.$eval("#token", (element) => element.value), "");

  // The token ends: the page asks for another, and what it knew stays.
  await page.waitForSelector("#token-form", { visible: true });
  await shows(page, "#you-problem", "Bring a new one");
  await sees(page, NAMES, ["ann"]);
  await fill(page, "#token", await token("--user", "ann"));
  await click(page, "#token-form button");
  await page.waitForSelector("#joined", { visible: true });
  await sees(page, "#connection", "Connected");

  // A token that may only look: nobody is online through it.
  const guest = await (await browser.visitor(t)).open(service.url);
  await fill(guest, "#token", await token("--user", "eve", "--scope", "presence:read", "--scope", "observe"));
  await click(guest, "#token-form button");
  await sees(guest, NAMES, ["ann"]);
  await sees(guest, "#connection", "Connected");
  await sees(guest, "#you-problem", "This token lets you look, and not join. Another one may.");

  // A reload forgets the token.
  await page.reload();
  await page.waitForSelector("#token-form", { visible: true });
  assert.deepEqual(page.problems, []);
});

test("a token that lets nobody in is said to be one, and another is taken", async (t) => {
  const service = await startService(t, { nodes: 1, settings: JWT });
  const page = await (await browser.visitor(t)).open(service.url);
  for (const scope of ["presence:read", "presence:write", "observe"]) {
    await fill(page, "#token", await token("--user", "ann", "--scope", scope));
    await click(page, "#token-form button");
    await sees(page, "#you-problem", "The token does not allow this.");
    await sees(page, "#connection", "Token needed");
    assert.ok(!(await isHidden(page, "#token-form")), scope);
    await sees(page, "#banners", "");
  }
  await fill(page, "#token", await token("--user", "ann"));
  await click(page, "#token-form button");
  await page.waitForSelector("#joined", { visible: true });
  await sees(page, "#you-problem", "");
  await sees(page, NAMES, ["ann"]);
  assert.deepEqual(page.problems, []);
});

test("what is no key is said to be none, and the next one is taken", async (t) => {
  const service = await startService(t, { nodes: 1, settings: JWT });
  const page = await (await browser.visitor(t)).open(service.nodeUrls[0]);
  await fill(page, "#key", "“key”");
  await click(page, "#key-form button");
  await sees(page, "#operator-note", "This is no API key.");
  await fill(page, "#key", await token("--user", "ann", "--scope", "admin"));
  await click(page, "#key-form button");
  await page.waitForSelector("#operator", { visible: true });
  assert.equal(await focused(page), "service");
  assert.deepEqual(page.problems, []);
});

test("a room that is entered before the connection is back is entered then", async (t) => {
  const service = await startService(t, { nodes: 1 });
  const ann = await joined(t, service.nodeUrls[0], "Ann");
  await service.disconnect("Ann");
  await sees(ann, "#connection", "Ended");
  await service.kill(0);
  await click(ann, "#banners button");
  await shows(ann, "#banners", "The connection to the service is broken.");
  await fill(ann, "#room-id", "kitchen");
  await click(ann, "#room-form button");
  await service.start(0);
  await sees(ann, "#room-count", "has 1 person");
});

test("a join that is refused leaves nothing behind", async (t) => {
  const service = await startService(t, { nodes: 1 });
  const page = await (await browser.visitor(t)).open(service.url);
  await page.waitForSelector("#join-form", { visible: true });
  await sees(page, "#people-count", "0");
  const devtools = await page.createCDPSession();
  const listeners = async () => {
    await devtools.send("HeapProfiler.collectGarbage");
    return (await page.metrics()).JSEventListeners ?? 0;
  };
  const refused = async () => {
    await fill(page, "#join-name", "€".repeat(50));
    await click(page, "#join-form button.main");
    await sees(page, "#you-problem", "The service does not accept this name or user id.");
    await page.waitForSelector("#join-form button:not([disabled])");
  };
  await refused();
  const before = await listeners();
  for (let i = 0; i < 5; i++) await refused();
  await until("no more listeners", async () => (await listeners()) <= before);
});

test("who came while the connection was broken is not said to have been there before", async (t) => {
  const service = await startService(t, { nodes: 2 });
  const guest = await (await browser.visitor(t)).open(service.nodeUrls[0]);
  await joined(t, service.nodeUrls[1], "Ann");
  await sees(guest, NAMES, ["Ann"]);
  await service.kill(0);
  await shows(guest, "#banners", "The connection to the service is broken.");
  const cameAt = Date.now();
  await joined(t, service.nodeUrls[1], "Bob");
  await service.start(0);
  await sees(guest, NAMES, ["Ann", "Bob"]);
  const since = await guest.$$eval("#people-rows .time", (cells) =>
    cells.map((cell) => ({ text: cell.textContent, time: cell.querySelector("time")?.dateTime ?? "" })),
  );
  assert.doesNotMatch(since[0].text ?? "", /before/);
  assert.match(since[1].text ?? "", /^before /);
  assert.ok(Date.parse(since[1].time) >= cameAt, JSON.stringify(since));
});

/** Lets the page believe that its tab goes into the background, or comes back. */
const setHidden = (page, isHidden) =>
  page.evaluate((value) => {
    Object.defineProperties(document, {
      hidden: { value, configurable: true },
      visibilityState: { value: value ? "hidden" : "visible", configurable: true },
    });
    document.dispatchEvent(new Event("visibilitychange"));
  }, isHidden);

test("who came and went while nobody looked is there when somebody looks again", async (t) => {
  const service = await startService(t);
  const ann = await joined(t, service.url, "Ann");
  const eve = await joined(t, service.url, "Eve");
  await sees(ann, NAMES, ["Ann", "Eve"]);
  const sent = [];
  const wire = await ann.createCDPSession();
  await wire.send("Network.enable");
  wire.on("Network.webSocketFrameSent", ({ response }) => sent.push(response.payloadData));

  await setHidden(ann, true);
  await until("the page hears nothing any more", async () => sent.some((text) => text.includes('"pause"')));
  const bob = await joined(t, service.url, "Bob");
  await click(eve, "#leave");
  await sees(bob, NAMES, ["Ann", "Bob"]);
  await setHidden(ann, false);
  await sees(ann, NAMES, ["Ann", "Bob"]);
  await shows(ann, "#people-rows tr:nth-child(2)", "Online");
  await shows(ann, "#people-rows tr:nth-child(2)", "before");
  await shows(ann, NEWS, "Bob came (told later)");
  await shows(ann, NEWS, "Eve went (told later)");
  assert.deepEqual(ann.problems, []);
});

test("who uses a keyboard keeps their place, whatever comes and goes", async (t) => {
  const service = await startService(t, { nodes: 1 });
  const bob = await joined(t, service.url, "Bob");
  const ann = await (await browser.visitor(t)).open(service.url);
  await fill(ann, "#join-name", "Ann");
  await ann.keyboard.press("Enter");
  await ann.waitForSelector("#joined", { visible: true });
  assert.equal(await focused(ann), "you");
  await fill(ann, "#room-id", "kitchen");
  await ann.keyboard.press("Enter");
  await ann.waitForSelector("#room-open", { visible: true });
  assert.equal(await focused(ann), "room");
  await click(ann, "#room-leave");
  await ann.waitForSelector("#room-form", { visible: true });
  assert.equal(await focused(ann), "room");
  // The person goes on whose name has the focus.
  await sees(ann, NAMES, ["Ann", "Bob"]);
  await ann.focus("#people-rows tr:last-child button");
  await bob.close();
  await sees(ann, NAMES, ["Ann"]);
  assert.equal(await ann.$eval("#people-rows button", (button) => button === document.activeElement), true);
  await service.disconnect("Ann");
  await click(ann, "#banners button");
  await sees(ann, "#banners", "");
  assert.equal(await focused(ann), "people");
  await click(ann, "#leave");
  await ann.waitForSelector("#join-form", { visible: true });
  assert.equal(await focused(ann), "you");
});

test("a user id that a browser cannot ask for is said to be one", async (t) => {
  const service = await startService(t, { nodes: 1 });
  const page = await joined(t, service.nodeUrls[0], "..");
  await click(page, "#people-rows button.name");
  await sees(page, "#explain-problem", "A browser cannot ask for this user id.");
  await fill(page, "#explain-id", "a/..");
  await click(page, "#explain-form button");
  await shows(page, "#explanation-summary", "Offline");
});

test("long words and forced colours leave the list readable", async (t) => {
  const service = await startService(t, { nodes: 1 });
  const ann = await joined(t, service.url, "W".repeat(80), { size: { width: 320, height: 640 } });
  await ann.select("#status", "dnd");
  await fill(ann, "#activity", "T".repeat(80));
  await click(ann, "#status-form button");
  await shows(ann, "#people-rows", "Do not disturb: TTT");
  const height = await ann.$eval("#people-rows tr", (row) => row.getBoundingClientRect().height);
  assert.ok(height < 640, `a person has ${height} pixels`);
  const overflow = () => ann.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.equal(await overflow(), 0);
  await ann.evaluate(() => (document.documentElement.style.fontSize = "200%"));
  assert.equal(await overflow(), 0, "texts of twice the size");
  const devtools = await ann.createCDPSession();
  await devtools.send("Emulation.setEmulatedMedia", { features: [{ name: "forced-colors", value: "active" }] });
  const adjusts = (/** @type {string} */ selector) => ann.$eval(selector, (element) => getComputedStyle(element).forcedColorAdjust);
  assert.equal(await adjusts("#people-rows .dot"), "none");
  assert.deepEqual(await violations(ann), []);
});

test("a crowd is shown in part, and found by its names", async (t) => {
  const service = await startService(t, { nodes: 1, settings: { ROLLCALL__LIMITS__JOINS_PER_SECOND: "10000" } });
  const crowd = await (await browser.visitor(t)).open(`${service.url}/healthz`);
  await crowd.evaluate(() => {
    const url = `${location.origin.replace("http", "ws")}/ws?presence=none&userId=user-`;
    globalThis.sockets = Array.from({ length: 150 }, (_, i) => new WebSocket(url + String(i).padStart(3, "0")));
  });
  const page = await (await browser.visitor(t)).open(service.url);
  await sees(page, "#people-count", "150");
  await sees(page, "#people-note", "The first 100 of 150.");
  assert.equal((await texts(page, NAMES)).length, 100);
  await fill(page, "#people-filter", "user-14");
  await until("those who fit", async () => (await texts(page, NAMES)).length === 10);
  await fill(page, "#people-filter", "nobody");
  await sees(page, "#people-note", "Nobody online has that in the name or the id.");
  await page.$eval("#people-filter", (element) => {
    element.value = "";
    element.dispatchEvent(new Event("input"));
  });
  await click(page, "#people-more");
  await until("all of them", async () => (await texts(page, NAMES)).length === 150);
  assert.ok(await page.$eval("#people-rows tr:last-child", (row) => row.contains(document.activeElement)), "the focus is where the button was");
});

test("everything is there for a screen reader, a keyboard, a phone, dark and light", async (t) => {
  const service = await startService(t);
  const ann = await joined(t, service.url, "Ann");
  await fill(ann, "#room-id", "kitchen");
  await click(ann, "#room-form button");
  await ann.waitForSelector("#room-open", { visible: true });
  for (const value of ["light", "dark"]) {
    await ann.emulateMediaFeatures([{ name: "prefers-color-scheme", value }]);
    for (const size of [{ width: 360, height: 740 }, DESKTOP]) {
      await ann.setViewport(size);
      assert.deepEqual(await violations(ann), [], `${value} ${size.width}`);
      const overflow = await ann.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.equal(overflow, 0, `nothing is wider than ${size.width}`);
    }
    await shoot(ann, `page-${value}`);
  }
  // A visitor joins with the keyboard alone.
  const guest = await (await browser.visitor(t)).open(service.url);
  await guest.waitForSelector("#join-name", { visible: true });
  await guest.keyboard.press("Tab");
  assert.equal(await guest.evaluate(() => document.activeElement?.className), "skip");
  for (let steps = 0; steps < 20 && (await guest.evaluate(() => document.activeElement?.id)) !== "join-name"; steps++) {
    await guest.keyboard.press("Tab");
  }
  await guest.keyboard.type("Bob");
  await guest.keyboard.press("Enter");
  await sees(guest, "#you-name", "Bob");
  await sees(ann, NAMES, ["Ann", "Bob"]);
  // What changed is said once, and not for each change.
  await shows(ann, "#announcement", "Bob came.");
});
