// examples/chat-status

import assert from "node:assert/strict";
import { test } from "node:test";
import { sees } from "./support/browser.mjs";
import { behavesAsAnExample } from "./support/example.mjs";

const { setUp, shows } = await behavesAsAnExample({ path: "chat-status", line: (_, userId) => `${userId}: online` });

test("a chosen status and typing are seen by others", async (t) => {
  const { enter } = await setUp(t);
  const [ada, bob] = [await enter("ada"), await enter("bob")];
  await shows(bob, "ada", "bob");
  await ada.select("select", "busy");
  for (const page of [ada, bob]) await sees(page, "#users li", ["ada: busy", "bob: online"]);
  await ada.type("input", "hello");
  await sees(bob, "#typing", "Typing: ada");
  await ada.click("h1");
  await sees(bob, "#typing", "");
  assert.deepEqual([...ada.problems, ...bob.problems], []);
});
