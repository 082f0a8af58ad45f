// Clients that end with the test.

import { after } from "node:test";
import { Rollcall } from "@rollcall/client";
import { until } from "./wait.js";

/** A connection is tested soon, so that tests do not wait. An answer may take as long as on a machine that has more to do. */
export const QUICK = { heartbeatMs: 300, answerMs: 1500, reconnectMaxMs: 500 };

/** Does not connect. What goes wrong is in `errors`. @param {import("@rollcall/client").Options} options */
export function makeClient(options) {
  /** @type {string[]} */
  const errors = [];
  const client = new Rollcall({ ...QUICK, onError: (error) => errors.push(error.code), ...options });
  after(() => client.close());
  return Object.assign(client, { errors });
}

/** Connects. @param {import("@rollcall/client").Options} options */
export function connect(options) {
  const client = makeClient(options);
  client.connect();
  return client;
}

/** Connects, and waits for it. @param {import("@rollcall/client").Options} options */
export async function connected(options) {
  const client = connect(options);
  await isIn(client, "connected");
  return client;
}

/** @param {Rollcall} client @param {string} state */
export const isIn = (client, state) => until(state, () => client.getSnapshot().connection === state);

/** @param {Rollcall} client */
export const ids = (client) => client.getSnapshot().users.map(({ id }) => id).join();
