// Measures the page at `/` as a browser loads it for the first time: what comes over the wire, and when something can be seen.
// `scripts/page-facts` runs it. Prints one line for each fact, the median of all loads.

import { test } from "node:test";
import { startBrowser } from "./support/browser.mjs";
import { startService } from "./support/service.mjs";
import { until } from "./support/wait.mjs";

const LOADS = 9;
const PEOPLE = 100;

const browser = await startBrowser();

/** Runs in the page before its own scripts: notes when there is a first row, what was painted, and what moved. */
function observe() {
  const facts = { list: 0, painted: 0, moved: 0 };
  Object.assign(globalThis, { facts });
  new MutationObserver(() => {
    if (facts.list === 0 && document.querySelector("#people-rows tr")) facts.list = performance.now();
  }).observe(document, { subtree: true, childList: true });
  const each = (/** @type {string} */ type, /** @type {(entry: any) => void} */ take) =>
    new PerformanceObserver((list) => list.getEntries().forEach(take)).observe({ type, buffered: true });
  each("paint", ({ name, startTime }) => name === "first-contentful-paint" && (facts.painted = startTime));
  each("layout-shift", ({ value }) => (facts.moved += value));
}

/** One first visit. @param {import("node:test").TestContext} t @param {string} url */
async function visit(t, url) {
  const page = await (await browser.visitor(t)).open("about:blank");
  const wire = await page.createCDPSession();
  const loaded = { requests: 0, bytes: 0 };
  wire.on("Network.requestWillBeSent", () => void (loaded.requests += 1));
  wire.on("Network.loadingFinished", ({ encodedDataLength }) => void (loaded.bytes += encodedDataLength));
  await wire.send("Network.enable");
  await page.evaluateOnNewDocument(observe);
  await page.goto(url);
  await until("a list", () => page.evaluate(() => globalThis.facts.list > 0 && globalThis.facts.painted > 0));
  return { ...loaded, ...(await page.evaluate(() => globalThis.facts)) };
}

const median = (/** @type {number[]} */ values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];

test("facts about the page", async (t) => {
  const service = await startService(t);
  const crowd = await (await browser.visitor(t)).open(`${service.url}/healthz`);
  await crowd.evaluate((n) => {
    const url = `${location.origin.replace("http", "ws")}/ws`;
    for (let i = 0; i < n; i++) new WebSocket(`${url}?userId=user-${i}&presence=none`);
  }, PEOPLE);
  await until("a crowd", async () => (await service.online()).length === PEOPLE);
  const visits = [];
  for (let i = 0; i < LOADS; i++) visits.push(await visit(t, service.nodeUrls[0]));
  const of = (/** @type {keyof visits[0]} */ fact) => median(visits.map((visit) => visit[fact]));
  console.log(`requests                 ${of("requests")}`);
  console.log(`bytes over the wire      ${of("bytes")}`);
  console.log(`first paint              ${of("painted").toFixed(0)} ms`);
  console.log(`first list, ${PEOPLE} people  ${of("list").toFixed(0)} ms`);
  console.log(`layout shift             ${of("moved").toFixed(3)}`);
});
