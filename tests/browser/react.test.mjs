// examples/react

import assert from "node:assert/strict";
import { test } from "node:test";
import { sees } from "./support/browser.mjs";
import { behavesAsAnExample } from "./support/example.mjs";

const { setUp, shows } = await behavesAsAnExample({
  path: "react",
  line: (name) => `${name}: online`,
  isTold: true,
});

test("a chosen status and typing are seen by others", async (t) => {
  const { enter } = await setUp(t);
  const [ada, bob] = [await enter("ada"), await enter("bob")];
  await shows(bob, "ada", "bob");
  await ada.select("select", "busy");
  await sees(bob, "#users li", ["The ada: busy", "The bob: online"]);
  await ada.type("input", "hello");
  await sees(bob, "#typing", "Typing: The ada");
  await ada.select("select", "invisible");
  await sees(bob, "#users li", "The bob: online");
  assert.deepEqual([...ada.problems, ...bob.problems], []);
});
