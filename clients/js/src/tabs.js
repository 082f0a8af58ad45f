// @rollcall/client/tabs: several tabs, one connection.
//
// The tab that holds a lock has the session. It tells the others each message that it hears, and they apply it to stores of their
// own. When it goes, the next tab gets the lock, and connects before the grace ends. A browser may put it to sleep, with the lock:
// then a tab that needs it takes the lock away.

import { ABANDONED, GOODBYE } from "./connection.js";
import { RollcallError } from "./index.js";
import { together } from "./wishes.js";

/**
 * @typedef {import("./requests.js").Done} Done
 * @typedef {import("./rollcall.js").Parts} Parts
 * @typedef {import("./session.js").Session} Session
 * @typedef {import("./types.js").LocksLike} LocksLike
 * @typedef {import("./types.js").Message} Message
 * @typedef {import("./wishes.js").Wanted} Wanted
 */

/** A timer that is later than this was held up: this tab has slept itself. */
const LATE_MS = 1000;

const gone = () => new RollcallError({ code: "disconnected" });

/** What the tabs want together: nobody is there only if nobody is at any of them. @param {Wanted[]} all @returns {Wanted} */
function wantedByAll(all) {
  const wanted = together(all.flatMap((each) => [...each]));
  const looked = all.filter((each) => each.has("idle"));
  if (looked.length) wanted.set("idle", looked.every((each) => each.get("idle")));
  if (!all.every((each) => each.has("paused"))) wanted.delete("paused");
  return wanted;
}

/**
 * For the option `tabs`: tabs of one origin with the same `url` and `userId` share one connection. Without `navigator.locks` or
 * `BroadcastChannel` (a page that is not secure), each tab has its own.
 *
 * @param {{ locks?: LocksLike }} [means] for a runtime without `navigator.locks`
 */
export function sharedTabs({ locks = globalThis.navigator?.locks } = {}) {
  return (/** @type {Parts} */ parts) =>
    locks && globalThis.BroadcastChannel ? makeTab(parts, locks) : parts.makeSession(parts.take);
}

/** @param {Parts} parts @param {LocksLike} locks */
function makeTab({ name, store, take, makeSession, answerMs }, locks) {
  /** Another one each time that this tab starts: so what was said of it before is not mistaken. */
  let own = "";
  /** @type {Wanted} */
  let wanted = new Map();
  /** Only in the tab that leads. @type {Session | undefined} */
  let session;
  /** The other tabs, if this one leads. @type {Map<string, Wanted>} */
  const others = new Map();
  /** The tab whose store ours shows. @type {string | undefined} */
  let leader;
  /** Until the leader is taken for asleep. @type {any} */
  let suspicion;
  /** @type {Map<number, { done: Done, timer: any }>} */
  const asked = new Map();
  let count = 0;
  let closing = new AbortController();
  /** @type {BroadcastChannel | undefined} */
  let channel;

  const post = (/** @type {Message} */ message) => channel?.postMessage({ from: own, ...message });

  /** @param {number} id @param {RollcallError | undefined} error @param {Message} answer */
  function answered(id, error, answer = {}) {
    const request = asked.get(id);
    asked.delete(id);
    clearTimeout(request?.timer);
    request?.done(error, answer);
  }

  const giveUp = () => [...asked.keys()].forEach((id) => answered(id, gone()));

  function announce() {
    if (!session) post({ kind: "here", wanted });
  }

  const wantTogether = () => session?.want(wantedByAll([wanted, ...others.values()]));

  function lead() {
    calm();
    const mine = makeSession((message) => {
      // What it says at its end is not for the others: they go on.
      if (session !== mine) return;
      take(message);
      post({ kind: "message", message });
    });
    session = mine;
    giveUp();
    wantTogether();
    session.start();
    post({ kind: "lead" });
  }

  /** @param {number} code what the session is closed with */
  function endSession(code) {
    const mine = session;
    session = leader = undefined;
    others.clear();
    mine?.stop(code);
  }

  /** This tab slept, and another one leads. */
  function follow() {
    endSession(ABANDONED);
    hold(name, lead, follow);
    announce();
  }

  function calm() {
    clearTimeout(suspicion);
    suspicion = undefined;
  }

  /** The leader is needed: if it does not answer, this tab leads. */
  function call() {
    if (session || suspicion) return;
    post({ kind: "call" });
    // Not all at the same time.
    const waitMs = answerMs * (1 + Math.random());
    const due = performance.now() + waitMs;
    suspicion = setTimeout(() => {
      suspicion = undefined;
      if (performance.now() - due > LATE_MS) call();
      else hold(name, lead, follow, true);
    }, waitMs);
  }

  /** @param {string} id */
  function forget(id) {
    if (others.delete(id)) wantTogether();
  }

  /**
   * Until this tab closes, or another one takes the lock away.
   * @param {string} lock @param {() => void} held @param {() => void} [lost] @param {boolean} [steal] take it away from who has it
   */
  function hold(lock, held, lost, steal) {
    const { signal } = closing;
    const until = () =>
      new Promise((resolve) => {
        if (signal.aborted) return resolve(undefined);
        signal.addEventListener("abort", resolve);
        held();
      });
    // Rejected if it is given up before it was ours, or taken away.
    locks.request(lock, steal ? { steal } : { signal }, until).catch(() => signal.aborted || lost?.());
  }

  /** @param {Message} said @param {Session} session */
  function heardAsLeader({ kind, from, wanted, id, message }, session) {
    if (kind === "here") {
      if (!others.has(from)) {
        post({ kind: "store", to: from, dump: store.dump() });
        // Its lock is free when it is gone, however it ended.
        locks.request(`${name} ${from}`, { signal: closing.signal }, () => forget(from)).catch(() => {});
      }
      others.set(from, wanted);
      wantTogether();
    } else if (kind === "call") post({ kind: "awake", to: from });
    else if (kind === "bye") forget(from);
    else if (kind === "say") session.say(message);
    else if (kind === "wake") session.wake();
    else if (kind === "start") session.start();
    else if (kind === "ask") {
      session.ask(message, (error, answer) => {
        const fault = error && { code: error.code, message: error.message, retryAfterMs: error.retryAfterMs };
        // After the message itself: whoever has the answer must see it in the store, too.
        queueMicrotask(() => post({ kind: "answer", to: from, id, fault, message: answer }));
      });
    }
  }

  /** @param {Message} said */
  function heardAsFollower({ kind, from, dump, id, fault, message }) {
    if (kind === "lead") {
      leader = undefined;
      giveUp();
      announce();
    } else if (kind === "store") {
      leader = from;
      store.load(dump);
    } else if (kind === "message" && from === leader) take(message);
    else if (kind === "answer") answered(id, fault && new RollcallError(fault), message);
    if (from === leader || kind === "lead" || kind === "awake") calm();
  }

  return {
    start() {
      if (channel) return session ? session.start() : post({ kind: "start" });
      closing = new AbortController();
      own = crypto.randomUUID();
      channel = new BroadcastChannel(name);
      channel.onmessage = ({ data }) => {
        if (data.to !== undefined && data.to !== own) return;
        if (session) heardAsLeader(data, session);
        else heardAsFollower(data);
      };
      // That is how the leader learns that this tab is gone.
      hold(`${name} ${own}`, announce);
      hold(name, lead, follow);
      call();
    },

    /** Another tab goes on. The last one says goodbye. */
    stop() {
      if (!channel) return;
      // With other tabs, the user is not gone: the next leader comes back within the grace.
      endSession(others.size ? ABANDONED : GOODBYE);
      calm();
      post({ kind: "bye" });
      closing.abort();
      channel.close();
      channel = undefined;
      giveUp();
      take({ type: "_connection", state: "stopped" });
    },

    wake() {
      if (session) session.wake();
      else post({ kind: "wake" });
      call();
    },

    /** @param {Wanted} now */
    want(now) {
      wanted = now;
      if (session) wantTogether();
      else announce();
    },

    /** @param {Message} message @param {Done} done */
    ask(message, done) {
      if (session) return session.ask(message, done);
      const id = ++count;
      // The leader has the deadline of the service, and tells when it ends. This one is for a leader that dies.
      asked.set(id, { done, timer: setTimeout(() => answered(id, gone()), 10 * answerMs) });
      post({ kind: "ask", id, message });
      call();
    },

    /** @param {Message} message */
    say(message) {
      if (session) session.say(message);
      else post({ kind: "say", message });
    },
  };
}
