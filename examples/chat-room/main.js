// Who is in a chat room, with the official client of Socket.IO. Inside, the room tells each change. Outside, HTTP says it.

import { io } from "socket.io-client";
import { name, service, userId } from "../who.js";

const roomId = "lobby";
const ASK_EVERY_MS = 3000;
const DEADLINE_MS = 5000;

const [state, move, count, users] = ["state", "move", "count", "users"].map((id) => document.getElementById(id));
const socket = io(service);
let isInside = true;
/** How often the visitor has moved: what was begun before that has no say any more. */
let moves = 0;

function show({ onlineCount, onlineUsers }) {
  count.textContent = onlineCount;
  // A very large room tells only the number.
  if (onlineUsers) users.replaceChildren(...onlineUsers.map(line));
}

function line({ userId, username }) {
  const item = document.createElement("li");
  // Only ever as text: a name may look like HTML.
  item.textContent = username ?? userId;
  return item;
}

function sentence(words, degraded) {
  return degraded ? "The service has a problem. The list may be out of date." : words;
}

function enter() {
  // Without a connection, `connect` follows.
  if (socket.connected) socket.emit("join-room", { roomId, userId, username: name });
}

/** Shows the room as HTTP sees it, and asks again. */
async function look(since) {
  if (moves !== since) return;
  try {
    const url = `${service}/api/chatroom/${roomId}/online-users?userId=${encodeURIComponent(userId)}`;
    const answer = await fetch(url, { signal: AbortSignal.timeout(DEADLINE_MS) });
    const { success, message, data, degraded } = await answer.json();
    if (moves !== since) return;
    state.textContent = success ? sentence("You are outside.", degraded) : message;
    if (success) show(data);
  } catch {
    // What was last known stays.
    if (moves === since) state.textContent = "The service does not answer. The list may be out of date.";
  }
  setTimeout(() => look(since), ASK_EVERY_MS);
}

// After each connection, also one that follows a broken one.
socket.on("connect", () => isInside && enter());
socket.on("online-count-updated", (room) => {
  if (!isInside || room.roomId !== roomId) return;
  state.textContent = sentence("You are inside.", room.degraded);
  show(room);
});
socket.on("disconnect", () => {
  // Whom the application's server disconnects does not come back by itself.
  state.textContent = socket.active ? "Connecting. The list may be out of date." : "The connection has ended. Load this page again.";
});
socket.on("error", ({ message }) => (state.textContent = message));

move.onclick = () => {
  isInside = !isInside;
  const since = ++moves;
  move.textContent = isInside ? "Leave the room" : "Enter the room";
  if (isInside) enter();
  else socket.emit("leave-room", { roomId }, () => look(since));
};
