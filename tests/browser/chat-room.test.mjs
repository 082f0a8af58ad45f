// examples/chat-room

import assert from "node:assert/strict";
import { test } from "node:test";
import { sees } from "./support/browser.mjs";
import { behavesAsAnExample } from "./support/example.mjs";

const { setUp, shows } = await behavesAsAnExample({ path: "chat-room", line: (name) => name, isPartial: true });

test("who leaves is counted no more, and an empty room shows 0", async (t) => {
  const { enter } = await setUp(t);
  const [ada, bob] = [await enter("ada"), await enter("bob")];
  for (const page of [ada, bob]) await shows(page, "ada", "bob");
  await ada.click("#move");
  for (const page of [ada, bob]) await shows(page, "bob");
  await sees(ada, "#state", "You are outside.");
  await bob.click("#move");
  for (const page of [ada, bob]) await sees(page, "#count", "0");
  await ada.click("#move");
  for (const page of [ada, bob]) await shows(page, "ada");
  assert.deepEqual([...ada.problems, ...bob.problems], []);
});
