// The parts for React in a page, with a real node.

import assert from "node:assert/strict";
import { before, test } from "node:test";
import { document } from "./support/page.js";
import { connected, ids, isIn, QUICK } from "./support/client.js";
import { startProxy } from "./support/proxy.js";
import { startNode } from "./support/service.js";
import { until } from "./support/wait.js";

const { act, createElement: h, StrictMode, useState } = await import("react");
const { createRoot, hydrateRoot } = await import("react-dom/client");
const { renderToString } = await import("react-dom/server");
const {
  OnlineUsersList,
  PresenceProvider,
  SocketProvider,
  UserStatusIndicator,
  useComplete,
  useConnection,
  useOnlineCount,
  useOnlineUsers,
  useOwnStatus,
  usePresence,
  useRollcall,
  useRoom,
  useTyping,
} = await import("@rollcall/client/react");

/** Nobody is looked at and nothing is heard, but for what a test asks for. */
const QUIET = { activity: false, pauseHidden: false };
/** A connection that nothing passes for a moment is kept. */
const PATIENT = { heartbeatMs: 60_000, answerMs: 60_000, ...QUIET };

/** @type {Awaited<ReturnType<typeof startNode>>} */
let node;

before(async () => {
  node = await startNode();
});

/** React wants this around what a test does, and around nothing else. @param {() => unknown} change */
async function acting(change) {
  Object.assign(globalThis, { IS_REACT_ACT_ENVIRONMENT: true });
  await act(async () => void (await change()));
  Object.assign(globalThis, { IS_REACT_ACT_ENVIRONMENT: false });
}

/** @param {import("node:test").TestContext} t @param {import("react").ReactNode} element */
async function mount(t, element) {
  const container = document.createElement("div");
  document.body.append(container);
  const root = createRoot(container);
  const render = (/** @type {import("react").ReactNode} */ next) => acting(() => root.render(next));
  const unmount = () => acting(() => root.unmount());
  t.after(unmount);
  await render(element);
  return { render, unmount, ...looking(container) };
}

/** @param {HTMLElement} container */
const looking = (container) => ({
  text: () => container.textContent,
  find: (/** @type {string} */ selector) => /** @type {HTMLElement} */ (container.querySelector(selector)),
  all: (/** @type {string} */ selector) => /** @type {HTMLElement[]} */ ([...container.querySelectorAll(selector)]),
});

/** A client, and what it has asked for. @param {string} userId */
async function asking(userId) {
  /** @type {any[]} */
  const sent = [];
  class Spy extends WebSocket {
    /** @param {string} data */
    send(data) {
      sent.push(JSON.parse(data));
      super.send(data);
    }
  }
  const client = await connected({ url: node.url, userId, WebSocket: Spy, ...QUIET });
  /** Which of these were asked for since the last look. @param {string[]} types */
  const asked = (...types) => sent.splice(0).filter(({ type }) => types.includes(type)).map(({ type, userIds }) => [type, userIds?.join()].join(" "));
  return { client, asked };
}

/** @param {any} client @param {...import("react").ReactNode} children */
const provided = (client, ...children) => h(PresenceProvider, { client }, ...children);

test("exactly those users are watched whom something shows", async (t) => {
  const { client, asked } = await asking("viewer");
  const dot = (/** @type {string} */ userId, /** @type {string} */ key) => h(UserStatusIndicator, { userId, key });
  asked();
  const page = await mount(t, provided(client, dot("ann", "1"), dot("ann", "2"), dot("ben", "3")));
  await until("both", () => client.presence("ann").status === "offline" && client.presence("ben").status === "offline");
  assert.deepEqual(asked("watch", "unwatch"), ["watch ann,ben"]);
  // One of two that show Ann goes, and Ben makes place for Cem.
  await page.render(provided(client, dot("ann", "1"), dot("cem", "3")));
  await until("another", () => client.presence("cem").status === "offline" && client.presence("ben").status === "unknown");
  assert.deepEqual(asked("watch", "unwatch").sort(), ["unwatch ben", "watch cem"]);
  assert.equal(client.presence("ann").status, "offline");
  await page.render(provided(client));
  await until("nobody", () => client.presence("ann").status === "unknown" && client.presence("cem").status === "unknown");
  assert.deepEqual(asked("watch", "unwatch"), ["unwatch ann,cem"]);
  assert.deepEqual(client.errors, []);
});

test("an indicator says in words how a user is", async (t) => {
  const proxy = await startProxy(node.port);
  const client = await connected({ url: proxy.url, userId: "listener", ...PATIENT });
  // Nothing is answered yet.
  proxy.silence();
  const page = await mount(
    t,
    provided(
      client,
      h(UserStatusIndicator, { userId: "dot", className: "mine", labels: { offline: "weg" } }),
      h(UserStatusIndicator, { userId: "dot", showLabel: true, unstyled: true }),
    ),
  );
  const [dot, ornament] = page.all("span[title]");
  const words = () => page.all("span").filter((each) => !each.title)[0].textContent?.trim();
  assert.equal(dot.getAttribute("aria-label"), "Status unknown");
  assert.equal(words(), "Status unknown");
  proxy.heal();
  await until("offline", () => dot.dataset.status === "offline");
  assert.equal(dot.getAttribute("role"), "img");
  assert.equal(dot.getAttribute("aria-label"), "weg");
  assert.equal(dot.className, "mine");
  // Who is not there has a ring: the colour is not all that tells.
  assert.equal(dot.style.background, "transparent");
  assert.equal(words(), "Offline");
  const user = await connected({ url: node.url, userId: "dot", status: { status: "dnd", text: "in a play" }, ...QUIET });
  await until("there", () => dot.dataset.status === "dnd");
  assert.equal(dot.getAttribute("aria-label"), "Do not disturb");
  assert.notEqual(dot.style.background, "transparent");
  assert.equal(words(), "in a play");
  // The words are beside it, so the dot is no image with a name of its own.
  assert.equal(ornament.getAttribute("aria-hidden"), "true");
  assert.equal(ornament.getAttribute("role"), null);
  assert.equal(ornament.getAttribute("style"), null);
  user.close();
});

test("a change is one render, of those that show it", async (t) => {
  /** @type {string[]} */
  const renders = [];
  const drawn = (/** @type {string} */ text) => (renders.push(text), h("p", null, text));
  const Crowd = () => {
    const [users, complete, count] = [useOnlineUsers(), useComplete(), useOnlineCount()];
    return drawn(`crowd ${users.map(({ id }) => id)} ${complete} ${count}`);
  };
  const One = () => drawn(`one ${usePresence("guest").status}`);
  const Other = () => drawn(`other ${usePresence("stranger").status}`);
  const client = await connected({ url: node.url, userId: "crowd", ...QUIET });
  await mount(t, provided(client, h(Crowd), h(One), h(Other)));
  await until("the list", () => client.getSnapshot().complete && renders.includes("crowd crowd true 1"));
  renders.length = 0;
  const guest = await connected({ url: node.url, userId: "guest", ...QUIET });
  await until("the guest", () => renders.includes("one online"));
  assert.deepEqual(renders.splice(0).sort(), ["crowd crowd,guest true 2", "one online"]);
  await guest.setStatus("busy");
  await until("a status", () => renders.includes("one busy"));
  assert.deepEqual(renders.splice(0).sort(), ["crowd crowd,guest true 2", "one busy"]);
  guest.close();
  await until("a departure", () => renders.includes("one offline"));
  assert.deepEqual(renders.splice(0).sort(), ["crowd crowd true 1", "one offline"]);
});

test("the list has a name, and says while it is not whole", async (t) => {
  const proxy = await startProxy(node.port);
  const client = await connected({ url: proxy.url, userId: "lister", ...PATIENT });
  proxy.silence();
  /** @param {object} props */
  const list = (props) => provided(client, h(OnlineUsersList, { empty: h("b", null, "nobody"), ...props }));
  const page = await mount(t, list({ exclude: "lister", label: "Colleagues", id: "list" }));
  assert.equal(page.find("ul").getAttribute("aria-busy"), "true");
  assert.equal(page.find("ul").getAttribute("aria-label"), "Colleagues");
  assert.equal(page.find("ul").id, "list");
  proxy.heal();
  await until("nobody else", () => page.text() === "nobody");
  const guest = await connected({ url: node.url, userId: "g1", profile: { name: "Guest" }, ...QUIET });
  await until("a guest", () => page.text()?.trim() === "Guest");
  assert.equal(page.find("ul").getAttribute("aria-busy"), "false");
  assert.equal(page.find("li [role=img]").getAttribute("aria-label"), "Online");
  await page.render(list({ children: (/** @type {any} */ { id, status }) => h("i", null, `${id} is ${status}`) }));
  assert.deepEqual(page.all("i").map((each) => each.textContent), ["g1 is online", "lister is online"]);
  assert.equal(page.find("ul").getAttribute("aria-label"), "Online users");
  guest.close();
});

test("a provider connects while it is mounted, and once in strict mode", async (t) => {
  const proxy = await startProxy(node.port);
  const Link = () => h("i", null, useConnection());
  const page = await mount(
    t,
    h(StrictMode, null, h(SocketProvider, { url: proxy.url, userId: "strict", ...QUICK, ...QUIET }, h(Link), h(OnlineUsersList))),
  );
  await until("connected", () => page.find("i").textContent === "connected");
  await until("the list", () => page.find("li[data-user-id=strict]"));
  assert.equal(proxy.accepted(), 1);
  await page.unmount();
  await until("offline", async () => !(await node.online()).length);
  assert.equal(proxy.accepted(), 1);
});

test("a provider makes another client for another user, and not for other functions", async (t) => {
  const proxy = await startProxy(node.port);
  /** @type {string[]} */
  const heard = [];
  let clients = new Set();
  const Look = () => h("i", null, (clients.add(useRollcall()), useConnection()));
  /** @param {string} userId @param {string} name */
  const element = (userId, name) => {
    const onError = (/** @type {Error} */ { message }) => void heard.push(`${name}: ${message}`);
    return h(PresenceProvider, { url: proxy.url, userId, onError, ...QUICK, ...QUIET }, h(Look));
  };
  const page = await mount(t, element("first", "a"));
  await until("connected", () => page.text() === "connected");
  await page.render(element("first", "b"));
  assert.equal(clients.size, 1);
  // What goes wrong is told to the function of the last render.
  const [client] = clients;
  client.joinRoom("\u0001");
  await until("an error", () => heard.length);
  assert.match(heard[0], /^b: /);
  await page.render(element("second", "c"));
  await until("the other user", async () => (await node.online()).map(({ id }) => id).join() === "second");
  await until("connected", () => page.text() === "connected");
  assert.equal(clients.size, 2);
  assert.equal(client.getSnapshot().connection, "stopped");
});

test("two providers of one client: it stays connected until both are gone", async (t) => {
  const { client } = await asking("shared");
  const list = provided(client, h(OnlineUsersList));
  const [one, other] = [await mount(t, list), await mount(t, list)];
  await until("both lists", () => [one, other].every((page) => page.find("li[data-user-id=shared]")));
  await one.unmount();
  // A close would come with the next timer.
  await new Promise((resolve) => setTimeout(resolve));
  assert.equal((await client.check("shared")).status, "online");
  assert.equal(client.getSnapshot().connection, "connected");
  await other.unmount();
  await isIn(client, "stopped");
});

test("a room and typing last as long as something shows them", async (t) => {
  const client = await connected({ url: node.url, userId: "rita", ...QUIET });
  const other = await connected({ url: node.url, userId: "otto", ...QUIET });
  other.joinRoom("den");
  await until("the room", () => other.room("den").joined);
  /** @type {ReturnType<typeof useTyping>} */
  let typing;
  const Den = () => {
    const { users, count } = useRoom("den");
    typing = useTyping({ roomId: "den" });
    return h("p", null, `${users.map(({ id }) => id)} ${count} ${typing.typists}`);
  };
  const App = () => {
    const [isOpen, setOpen] = useState(true);
    return h("div", null, isOpen && h(Den), h("button", { onClick: () => setOpen(false) }));
  };
  const page = await mount(t, provided(client, h(App)));
  await until("both", () => page.text() === "otto,rita 2 ");
  other.startTyping({ roomId: "den" });
  await until("somebody types", () => page.text() === "otto,rita 2 otto");
  other.stopTyping({ roomId: "den" });
  await until("an end", () => page.text() === "otto,rita 2 ");
  // @ts-ignore: it is set by now
  typing.startTyping();
  await until("typing", () => other.typing({ roomId: "den" }).join() === "rita");
  await acting(() => page.find("button").click());
  await until("outside", () => !other.typing({ roomId: "den" }).length && other.room("den").count === 1);
  assert.equal(client.room("den").joined, false);
  assert.deepEqual(client.errors, []);
  other.close();
});

test("the own status is shown and chosen", async (t) => {
  const client = await connected({ url: node.url, userId: "own", ...QUIET });
  /** @type {Promise<unknown> | undefined} */
  let chosen;
  const Own = () => {
    const [own, choose] = useOwnStatus();
    const onClick = () => (chosen = choose({ status: "away", text: "lunch" }));
    return h("button", { onClick }, `${own?.effective} ${own?.statusText}`);
  };
  const page = await mount(t, provided(client, h(Own)));
  await until("the status", () => page.text() === "online undefined");
  await acting(() => page.find("button").click());
  await until("another", () => page.text() === "away lunch");
  // The page may show the event before the answer is here.
  await chosen;
});

test("a server that renders says unknown, connects nothing, and the page goes on from there", async (t) => {
  const App = () => h("div", null, h(UserStatusIndicator, { userId: "ann" }), h(OnlineUsersList, { empty: "nobody" }), h("b", null, useConnection()));
  const html = renderToString(h(PresenceProvider, { url: node.url, userId: "server", ...QUIET }, h(App)));
  assert.match(html, /aria-label="Status unknown"/);
  assert.match(html, /aria-busy="true"/);
  assert.match(html, /idle/);
  assert.doesNotMatch(html, /offline|nobody/i);
  // Without a page there is no address to begin with.
  assert.match(renderToString(h(PresenceProvider, { userId: "server" }, h(App))), /Status unknown/);
  // The page may know more than the server did when it takes over.
  const client = await connected({ url: node.url, userId: "browser", everyone: true, ...QUIET });
  await until("the list", () => client.getSnapshot().complete);
  const container = document.createElement("div");
  container.innerHTML = html;
  const page = looking(container);
  const dot = page.find("[data-status]");
  /** @type {unknown[]} */
  const errors = [];
  await acting(() => {
    const root = hydrateRoot(container, provided(client, h(App)), { onRecoverableError: (error) => errors.push(error) });
    t.after(() => acting(() => root.unmount()));
  });
  await until("what the page knows", () => page.find("[data-status]").dataset.status === "offline" && page.find("li"));
  assert.equal(page.find("[data-status]"), dot);
  assert.deepEqual(errors, []);
});

test("a part without a provider says so", () => {
  assert.throws(() => renderToString(h(UserStatusIndicator, { userId: "ann" })), /PresenceProvider/);
});

test("what was known stays while the connection is lost, and is never shown as offline", async (t) => {
  const proxy = await startProxy(node.port);
  const client = await connected({ url: proxy.url, userId: "lost", ...QUIET });
  const seen = await connected({ url: node.url, userId: "stays", ...QUIET });
  const shown = new Set();
  const Dot = () => h("i", null, (shown.add(usePresence("stays").status), useConnection()));
  const page = await mount(t, provided(client, h(Dot)));
  await until("online", () => shown.has("online"));
  shown.clear();
  proxy.refuse();
  proxy.cut();
  await until("a break", () => page.text() === "waiting");
  proxy.heal();
  await isIn(client, "connected");
  await until("the page", () => page.text() === "connected");
  await client.check("stays");
  assert.deepEqual([...shown], ["online"]);
  assert.equal(ids(client), "stays");
  seen.close();
});
