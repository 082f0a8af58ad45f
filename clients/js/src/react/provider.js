// One client for all parts below it.

import { createContext, createElement, useContext, useEffect, useRef, useState } from "react";
import { Rollcall } from "../index.js";

/**
 * @typedef {import("../types.js").Options} Options
 * @typedef {import("react").ReactNode} ReactNode
 */

const Context = createContext(/** @type {Rollcall | undefined} */ (undefined));

/**
 * Connects as long as it is mounted. Give it a `client` of your own, or `options` for one. A client is made anew when `url` or
 * `userId` change, and not for other changes: give the provider a `key` for that. On a server, nothing is connected.
 *
 * @param {{ client?: Rollcall, children?: ReactNode } & Options} props
 * @returns {import("react").ReactElement}
 */
export function PresenceProvider({ client, children, ...options }) {
  const latest = useRef(options);
  useEffect(() => {
    latest.current = options;
  });
  const { url, userId } = options;
  const make = () => ({ url, userId, client: client ?? makeClient(options, latest) });
  const [own, setOwn] = useState(make);
  let current = client ?? own.client;
  if (!client && (own.url !== url || own.userId !== userId)) {
    const next = make();
    setOwn(next);
    current = next.client;
  }
  useEffect(() => connected(current), [current]);
  return createElement(Context.Provider, { value: current }, children);
}

/** The client of the provider above. */
export function useRollcall() {
  const client = useContext(Context);
  if (!client) throw new Error("there is no PresenceProvider above this component");
  return client;
}

/** The functions that are called later are those of the last render. @param {Options} options @param {{ current: Options }} latest */
function makeClient(options, latest) {
  return new Rollcall({
    ...options,
    // A server has no address of its own, and connects nothing.
    url: new URL(options.url ?? "/", globalThis.location?.href ?? "http://localhost").href,
    getToken: options.getToken && (() => latest.current.getToken?.()),
    onError: (error) => latest.current.onError?.(error),
  });
}

/** How many providers a client has now. @type {WeakMap<Rollcall, number>} */
const providers = new WeakMap();

/** @param {Rollcall} client */
function connected(client) {
  const count = (/** @type {number} */ more) => providers.set(client, (providers.get(client) ?? 0) + more);
  count(1);
  client.connect();
  return () => {
    count(-1);
    // A component that is mounted again at once (strict mode) goes on with the same connection.
    setTimeout(() => providers.get(client) || client.close());
  };
}
