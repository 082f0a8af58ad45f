// Connects, says who is online, and ends.

import { Rollcall, RollcallError } from "@rollcall/client";
import { sharedTabs } from "@rollcall/client/tabs";

const client = new Rollcall({ url: process.argv[2], userId: 1, profile: { name: "Project" }, everyone: true, tabs: sharedTabs() });
client.connect();
await new Promise((resolve) => client.subscribe(() => client.getSnapshot().complete && resolve(undefined)));
const refusal = await client.request({ type: "dance" }).catch((error) => error);
console.log(JSON.stringify(client.getSnapshot().users), refusal instanceof RollcallError && refusal.code);
// After this, nothing keeps the process alive.
client.close();
