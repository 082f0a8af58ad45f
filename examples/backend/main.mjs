// A backend that uses `presence.mjs`, as commands:
//
//     node backend/main.mjs online
//     node backend/main.mjs disconnect 42

import { disconnect, onlineUsers } from "./presence.mjs";

const [command, userId] = process.argv.slice(2);

try {
  if (command === "online") {
    const { users, degraded } = await onlineUsers();
    for (const { id, status } of users) console.log(`${id} ${status}`);
    if (degraded) console.error("This list may be out of date.");
  } else if (command === "disconnect" && userId) {
    const { sockets, unsure } = await disconnect(userId);
    console.log(`Sockets closed: ${sockets}`);
    if (unsure.length > 0) console.error(`These nodes did not answer: ${unsure.join(", ")}`);
  } else {
    console.error("usage: node backend/main.mjs online | disconnect USER");
    process.exitCode = 2;
  }
} catch (error) {
  console.error(`Rollcall: ${error.cause?.message ?? error.message}`);
  process.exitCode = 1;
}
