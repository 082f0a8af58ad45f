// examples/html

import { behavesAsAnExample } from "./support/example.mjs";

await behavesAsAnExample({
  path: "html",
  line: (name) => `${name}: online`,
  isTold: true,
});
