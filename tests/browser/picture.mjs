// Makes the picture of the README: the page at `/`, of a real service with people in it. `scripts/picture` runs it.

import { test } from "node:test";
import { startBrowser, texts } from "./support/browser.mjs";
import { startService } from "./support/service.mjs";
import { until } from "./support/wait.mjs";

/** Values in a chart before the picture is taken. */
const POINTS = 24;

const PEOPLE = [
  { name: "Amara Okafor", status: "busy", statusText: "in a call" },
  { name: "Björn Lindqvist" },
  { name: "Chen Wei", room: true },
  { name: "Dolores Ibáñez", status: "away", statusText: "back at three" },
  { name: "Elif Yılmaz", room: true },
  { name: "Grace O’Neill", status: "dnd", statusText: "writing" },
  { name: "Hana Sato", room: true },
];
/** They come and go, so that there is something to see. */
const PASSERS_BY = ["Jonas Weber", "Kateryna Bondar", "Luca Moretti"];

const browser = await startBrowser();

test("the picture", async (t) => {
  const path = process.argv[2];
  const service = await startService(t);
  const crowd = await (await browser.visitor(t)).open(`${service.url}/healthz`);
  await crowd.evaluate(
    (people, passersBy) => {
      const url = `${location.origin.replace("http", "ws")}/ws`;
      const join = ({ name, room, status, statusText }) => {
        const socket = new WebSocket(url);
        const send = (message) => socket.readyState === 1 && socket.send(JSON.stringify(message));
        const rooms = room ? ["kitchen"] : [];
        socket.onopen = () => send({ type: "join_user", userId: name, name, status, statusText, rooms, presence: "none" });
        return { close: () => socket.close(1000), type: () => send({ type: "typing_start", roomId: "kitchen" }) };
      };
      const there = people.map(join);
      setInterval(() => there[4].type(), 2000);
      const passing = new Map();
      setInterval(() => {
        const name = passersBy[Math.floor(Math.random() * passersBy.length)];
        const here = passing.get(name);
        here?.close();
        passing.set(name, here ? undefined : join({ name }));
      }, 900);
    },
    PEOPLE,
    PASSERS_BY,
  );

  const page = await (await browser.visitor(t)).open(service.nodeUrls[0], { size: { width: 1080, height: 900 } });
  const enter = async (/** @type {string} */ form, /** @type {string} */ field, /** @type {string} */ text) => {
    await (await page.waitForSelector(field, { visible: true })).type(text);
    await page.click(`${form} button`);
  };
  await enter("#join-form", "#join-name", "Maya Cohen");
  await enter("#room-form", "#room-id", "kitchen");
  await page.waitForSelector("#room-open", { visible: true });
  await enter("#status-form", "#activity", "reading the README");
  await until("charts with a past", () =>
    page.$$eval(
      "#charts path",
      (paths, points) => paths.length > 2 && paths.every((path) => (path.getAttribute("d") ?? "").split("L").length > points),
      POINTS,
    ),
  );
  await until("somebody who types", async () => `${await texts(page, "#room-typists")}` !== "");
  await page.evaluate(() => {
    if (document.activeElement instanceof HTMLElement) document.activeElement.blur();
  });
  const height = await page.$eval("#service", (element) => Math.ceil(element.getBoundingClientRect().bottom + scrollY + 16));
  await page.screenshot({ path: /** @type {`${string}.png`} */ (path), clip: { x: 0, y: 0, width: 1080, height }, captureBeyondViewport: true });
});
