// Debian's Chromium, without a window.
//
//     const browser = await startBrowser();            // ends with the file
//     const ada = await browser.visitor(t);            // somebody at a machine of their own; leaves with the test
//     const page = await ada.open(url);                // a window; `ada.open(url, { size: PHONE })`
//     await sees(page, "#users li", ["ada", "bob"]);   // these texts, in this order
//     assert.deepEqual(await violations(page), []);    // what axe-core finds
//     await shoot(page, "html");                       // only if ROLLCALL_SCREENSHOTS names a directory

import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after } from "node:test";
import puppeteer from "puppeteer-core";
import { DIRECTORY } from "./process.mjs";
import { DEADLINE_MS, until, within } from "./wait.mjs";

export const PHONE = { width: 390, height: 844 };
export const DESKTOP = { width: 1280, height: 800 };

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** @typedef {import("puppeteer-core").Page & { problems: string[] }} Page with what went wrong in it: errors and dialogs */

/** Starts a browser, and ends it with the file. It has a process of its own, so a second call is a second machine. */
export async function startBrowser() {
  const userDataDir = mkdtempSync(join(DIRECTORY, "chromium-"));
  const browser = await puppeteer.launch({
    userDataDir,
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    // Chromium ends when the pipe does: it does not outlive the tests.
    pipe: true,
    timeout: DEADLINE_MS,
    protocolTimeout: DEADLINE_MS,
    // Chromium refuses to run as root with its sandbox.
    args: ["--no-proxy-server", ...(process.getuid?.() === 0 ? ["--no-sandbox"] : [])],
  });
  process.on("exit", () => {
    browser.process()?.kill("SIGKILL");
    rmSync(userDataDir, { recursive: true, force: true });
  });
  after(() => within("the end of the browser", browser.close()));
  return {
    /** Has cookies and storage of their own. @param {import("node:test").TestContext} t */
    async visitor(t) {
      const context = await browser.createBrowserContext();
      t.after(() => within("the leave of a visitor", context.close()));
      return {
        /** Opens a window, which is never hidden by others. @param {string} url @param {{ size?: { width: number, height: number } }} [options] @returns {Promise<Page>} */
        async open(url, { size = DESKTOP } = {}) {
          const page = Object.assign(await context.newPage({ type: "window" }), { problems: /** @type {string[]} */ ([]) });
          page.setDefaultTimeout(DEADLINE_MS);
          page.on("pageerror", (error) => page.problems.push(`${error}`));
          page.on("dialog", (dialog) => {
            page.problems.push(`dialog: ${dialog.message()}`);
            void dialog.dismiss();
          });
          await page.setViewport(size);
          await page.goto(url);
          return page;
        },
      };
    },
  };
}

/** The texts of these elements, without the space around them. @param {import("puppeteer-core").Page} page @param {string} selector */
export const texts = (page, selector) =>
  page.evaluate((each) => [...document.querySelectorAll(each)].map((element) => element.textContent?.trim() ?? ""), selector);

/**
 * Waits until these elements have exactly these texts.
 * @param {import("puppeteer-core").Page} page @param {string} selector @param {string[] | string} expected
 */
export async function sees(page, selector, expected) {
  /** @type {string[]} */
  let seen = [];
  const wanted = JSON.stringify([expected].flat());
  try {
    // A page that loads has no elements to ask for.
    await until(selector, async () => {
      seen = await texts(page, selector).catch(() => []);
      return JSON.stringify(seen) === wanted;
    });
  } catch {
    throw new Error(`${selector} has ${JSON.stringify(seen)}, and not ${wanted}`);
  }
}

/**
 * Notes each text that this element has from now on, in the order of their coming. The returned function says which.
 * @param {import("puppeteer-core").Page} page @param {string} selector @returns {Promise<() => Promise<string[]>>}
 */
export async function noteTexts(page, selector) {
  const notes = await page.evaluateHandle((each) => {
    const read = () => document.querySelector(each)?.textContent?.trim() ?? "";
    const texts = [read()];
    const note = () => void (texts.at(-1) === read() || texts.push(read()));
    new MutationObserver(note).observe(document.body, { subtree: true, childList: true, characterData: true });
    return texts;
  }, selector);
  return () => notes.evaluate((list) => [...list]);
}

/** The id of what has the focus. @param {import("puppeteer-core").Page} page */
export const focused = (page) => page.evaluate(() => document.activeElement?.id);

/** What axe-core finds, one text for each element. @param {import("puppeteer-core").Page} page @returns {Promise<string[]>} */
export async function violations(page) {
  // What fades in has less contrast until it is there.
  await page.evaluate(() => Promise.allSettled(document.getAnimations().map(({ finished }) => finished)).then(() => {}));
  await page.evaluate(AXE);
  const found = await page.evaluate(() => globalThis.axe.run());
  return found.violations.flatMap(({ id, help, nodes }) => nodes.map(({ html }) => `${id}: ${help}: ${html}`));
}

/** Keeps how a page looks, on a phone and on a desktop. @param {import("puppeteer-core").Page} page @param {string} name */
export async function shoot(page, name) {
  const directory = process.env.ROLLCALL_SCREENSHOTS;
  if (!directory) return;
  mkdirSync(directory, { recursive: true });
  const before = page.viewport();
  for (const [size, viewport] of Object.entries({ phone: PHONE, desktop: DESKTOP })) {
    await page.setViewport(viewport);
    await page.screenshot({ path: /** @type {`${string}.png`} */ (join(directory, `${name}-${size}.png`)), fullPage: true });
  }
  await page.setViewport(before);
}
