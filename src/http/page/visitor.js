// The client of this page: it looks, or it is somebody. Tokens and keys stay in its memory.

import { Rollcall } from "./rollcall.js";

/** A person waits. So the page tries often. */
const RECONNECT_MAX_MS = 5000;
/** How often the page asks whether what it shows is up to date. */
const PULSE_MS = 4000;
/** Who this tab is, through a reload. A tab that it opens gets a copy. */
const KEPT = "rollcall.you";
/** The service closes a socket with these if the token is not accepted, or has ended. */
const BAD_TOKEN = { 4401: "token_invalid", 4402: "token_expired" };
/** The client stopped for want of a good token. */
const NO_TOKEN = /^(closed_440[12]|no_token|unauthenticated|token_.*)$/;

/** The page may be behind a prefix. */
const base = new URL(".", location.href);

function remembered() {
  try {
    return JSON.parse(sessionStorage.getItem(KEPT)) ?? undefined;
  } catch {
    return undefined;
  }
}

function remember(you) {
  try {
    if (you) sessionStorage.setItem(KEPT, JSON.stringify(you));
    else sessionStorage.removeItem(KEPT);
  } catch {
    // A browser may forbid it. Then a reload forgets who this is.
  }
}

/**
 * @param changed called after each change
 * @param heard called with each message about somebody, before it is applied, and with what says how a user was until then
 */
export function makeVisitor({ changed, heard }) {
  /** A part is one client: `client`, `looks` (nobody sees it), `wasIn`, `nodeId`. This one is shown. */
  let present;
  /** It takes the place of `present` when it knows as much. So nothing blinks in between. */
  let next;
  /** Who has joined: `userId` unless a token says it, `name`, `room`. */
  let you;
  let token;
  let needsToken = false;
  /** What was wrong with the last token. */
  let tokenFault;
  let problem;
  let releaseRoom;
  /** How often it was tried to connect since that last worked. */
  let tries = 0;

  /** A WebSocket that the page listens to as well. */
  const listeningFor = (part) =>
    class extends WebSocket {
      constructor(url) {
        super(url);
        if (part === present) tries++;
        this.addEventListener("message", ({ data }) => {
          // Pages of lists are long, and the client reads them.
          if (!/^\{"type":"(user_|welcome|resumed|authentication_error)/.test(data)) return;
          const message = JSON.parse(data);
          if (message.type === "authentication_error") tokenFault = message.code;
          if (message.type === "welcome") part.nodeId = message.nodeId;
          if (part === present) heard(message, (userId) => part.client.presence(userId).user);
        });
        this.addEventListener("close", ({ code }) => {
          if (!BAD_TOKEN[code]) return;
          token = undefined;
          tokenFault ??= BAD_TOKEN[code];
        });
      }
    };

  /** Begins a client. */
  function begin(asked) {
    const part = { looks: !!asked.observe };
    // While it is connected, it asks for a newer token. There is none: a person has to bring it.
    const getToken = () => (part.client.getSnapshot().connection === "connected" ? null : token);
    part.client = new Rollcall({
      url: new URL("ws", base).href,
      everyone: true,
      device: { kind: "web" },
      heartbeatMs: 5000,
      reconnectMaxMs: RECONNECT_MAX_MS,
      WebSocket: listeningFor(part),
      ...(token !== undefined && { getToken }),
      ...asked,
    });
    next?.client.close();
    next = undefined;
    if (present) next = part;
    else present = part;
    if (you?.room !== undefined) releaseRoom = part.client.joinRoom(you.room);
    part.client.subscribe(() => follow(part));
    part.client.connect();
    changed();
  }

  function follow(part) {
    const { connection, complete, error } = part.client.getSnapshot();
    if (connection === "connected") part.wasIn = true;
    if (part === next) {
      if (connection === "connected" && complete) takeOver();
      else if (connection === "stopped") refused(part, error);
    } else if (part === present) {
      if (connection === "connected") tries = 0;
      else if (connection === "stopped" && error !== undefined) ended(part, error);
    }
    changed();
  }

  function takeOver() {
    const before = present;
    [present, next, problem, tries] = [next, undefined, undefined, 0];
    before.client.close();
  }

  /** The service does not let the client in. */
  function refused(part, error) {
    next = undefined;
    releaseRoom = undefined;
    const wasYou = you;
    you = undefined;
    remember();
    problem = faultOf(error);
    // It has ended, and would still look whether somebody is at the page.
    part.client.close();
    if (error === "forbidden" && token !== undefined) {
      // A token may allow to look, and not to be there.
      if (!part.looks) return begin({ observe: true });
      token = undefined;
      needsToken = true;
    }
    // A user id that is refused after a reload should not leave the page empty.
    if (wasYou && part === present && token === undefined && !needsToken) begin({ observe: true });
  }

  function ended(part, error) {
    if (!part.wasIn) return refused(part, error);
    problem = faultOf(error);
  }

  /** What a person should know of the end of a client. If it is about the token, another is needed. */
  function faultOf(error) {
    if (!NO_TOKEN.test(error)) return error;
    token = undefined;
    needsToken = true;
    return tokenFault ?? error;
  }

  function look() {
    you = undefined;
    releaseRoom = undefined;
    remember();
    begin({ observe: true });
  }

  function join(wanted) {
    [you, problem, needsToken] = [wanted, undefined, false];
    keep();
    const { userId, name } = you;
    begin({ userId, profile: name === undefined ? undefined : { name } });
  }

  /** A token does not survive a reload, so nobody is remembered then. */
  function keep() {
    if (token === undefined) remember(you);
  }

  function setRoom(room) {
    releaseRoom?.();
    // Who begins again enters it then.
    releaseRoom = room === undefined ? undefined : (next ?? present).client.joinRoom(room);
    you = { ...you, room };
    keep();
    changed();
  }

  setInterval(() => {
    const snapshot = present?.client.getSnapshot();
    if (snapshot?.connection !== "connected" || document.hidden) return;
    const userId = snapshot.userId ?? snapshot.users[0]?.id;
    // The answer says whether the node is degraded, and the client takes that in.
    if (userId !== undefined) present.client.check(userId).catch(() => {});
  }, PULSE_MS);

  return {
    /** Begins as whoever this tab was before a reload. */
    async start() {
      const signal = AbortSignal.timeout(5000);
      const answer = await fetch(new URL("api/online-users?countOnly=true", base), { signal }).catch(() => undefined);
      const before = remembered();
      if (answer?.status === 401) {
        needsToken = true;
        changed();
      } else if (typeof before?.userId === "string") join(before);
      else look();
    },

    join,
    setRoom,

    /** Goes on as the user of a token. */
    identify(given) {
      [token, tokenFault] = [given, undefined];
      join({});
    },

    leave() {
      const before = present;
      if (token === undefined) look();
      else {
        next?.client.close();
        next = token = you = releaseRoom = undefined;
        needsToken = true;
      }
      // Others should see it now, and not when the next list is here.
      before.client.close();
      changed();
    },

    /** Begins again after an end. */
    again() {
      problem = undefined;
      if (you) join(you);
      else look();
    },

    async rename(name) {
      await present.client.updateProfile({ name });
      you = { ...you, name };
      keep();
    },

    client: () => present.client,

    /** What there is to show. */
    state() {
      const snapshot = present?.client.getSnapshot() ?? { connection: "idle", users: [], complete: false, degraded: false };
      const isJoined = !!you && !!present && !present.looks && snapshot.userId !== undefined;
      const hasRoom = isJoined && you.room !== undefined;
      return {
        snapshot,
        // Of the client that is to be there, if the other one has ended.
        connection: next && snapshot.connection === "stopped" ? next.client.getSnapshot().connection : snapshot.connection,
        isJoining: !!next,
        isJoined,
        needsToken,
        // With a token, nobody chooses who they are.
        hasToken: token !== undefined,
        looksOnly: token !== undefined && !!present?.looks && !next,
        problem,
        tries,
        triesEveryMs: RECONNECT_MAX_MS,
        you: isJoined ? { ...you, userId: snapshot.userId, nodeId: present.nodeId } : undefined,
        room: hasRoom ? present.client.room(you.room) : undefined,
        typists: hasRoom ? present.client.typing({ roomId: you.room }) : [],
      };
    },

    /** Asks a resource of the node. A key or a token goes into a header. */
    async ask(path, key = token) {
      const headers = key === undefined ? {} : { Authorization: `Bearer ${key}` };
      const answer = await fetch(new URL(path, base), { headers, signal: AbortSignal.timeout(5000) });
      return { status: answer.status, body: await answer.json().catch(() => ({})) };
    },
  };
}
