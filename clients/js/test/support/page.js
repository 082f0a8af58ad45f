// A page, without a browser. React looks for it when it is loaded: so this is imported before React.

import { Window } from "happy-dom";

const window = new Window({ url: "http://127.0.0.1/" });
// Node 21 has a navigator, and does not let it be assigned.
globalThis.navigator ??= window.navigator;
Object.assign(globalThis, { window, document: window.document, HTMLElement: window.HTMLElement, Node: window.Node });

export const { document } = globalThis;
