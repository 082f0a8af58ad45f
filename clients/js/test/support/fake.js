// A service that answers as a test wants, for what a real node does not do on demand.

import { after } from "node:test";
import { WebSocketServer } from "ws";
import { until } from "./wait.js";

/** @param {(socket: import("ws").WebSocket) => void} connected called with each socket. Returns the URL */
export async function startFake(connected) {
  const server = new WebSocketServer({ port: 0, host: "127.0.0.1" });
  server.on("connection", connected);
  after(() => {
    server.clients.forEach((socket) => socket.terminate());
    server.close();
  });
  await until("a server", () => server.address());
  return `ws://127.0.0.1:${/** @type {import("node:net").AddressInfo} */ (server.address()).port}`;
}

/** Answers the next message. @param {import("ws").WebSocket} socket @param {object} answer */
export const answer = (socket, answer) =>
  void socket.once("message", (data) => socket.send(JSON.stringify({ ...answer, ref: JSON.parse(String(data)).ref })));
