// What an application's server asks Rollcall. It shows an API key, and speaks to a node itself: a load balancer does not pass on
// `/api/users/`.

const service = process.env.ROLLCALL_URL ?? "http://127.0.0.1:8080";
const key = process.env.ROLLCALL_API_KEY;

/** No request takes longer. */
const DEADLINE_MS = 5000;

/** @param {string} method @param {string} path @returns {Promise<any>} */
async function ask(method, path) {
  const response = await fetch(new URL(path, service), {
    method,
    headers: key ? { Authorization: `Bearer ${key}` } : {},
    signal: AbortSignal.timeout(DEADLINE_MS),
  });
  const answer = await response.json();
  if (!answer.success) throw new Error(`${answer.message} (${answer.code})`);
  return answer;
}

/** All users who are online. `degraded`: the list may be out of date. @returns {Promise<{ users: { id: string, name?: string, status: string }[], degraded: boolean }>} */
export async function onlineUsers() {
  const users = [];
  let degraded = false;
  let cursor = "";
  do {
    const page = await ask("GET", `/api/online-users?cursor=${encodeURIComponent(cursor)}`);
    users.push(...page.data);
    degraded ||= page.degraded === true;
    cursor = page.nextCursor ?? "";
  } while (cursor);
  return { users, degraded };
}

/** Closes all sockets of a user. They may come back, unless the application refuses them a new token. @param {string} userId */
export async function disconnect(userId) {
  const { data } = await ask("DELETE", `/api/users/${encodeURIComponent(userId)}/sockets`);
  return {
    sockets: data.sockets,
    /** Nodes that did not answer in time. Ask again to be sure. */
    unsure: data.nodes.filter(({ confirmed }) => !confirmed).map(({ nodeId }) => nodeId),
  };
}
