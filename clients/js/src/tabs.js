// @rollcall/client/tabs: several tabs, one connection.
//
// The tab that holds a lock has the session. It tells the others each message that it hears, and they apply it to stores of their
// own. When it goes, the next tab gets the lock, and connects before the grace ends. A browser may put it to sleep, with the lock:
// then a tab that needs it takes the lock away.

import { isLate, now } from "./clock.js";
import { ABANDONED, GOODBYE } from "./connection.js";
import { RollcallError } from "./index.js";
import { WAITING_MAX } from "./requests.js";
import { PATIENCE } from "./session.js";
import { together } from "./wishes.js";

/**
 * @typedef {import("./requests.js").Done} Done
 * @typedef {import("./rollcall.js").Parts} Parts
 * @typedef {import("./session.js").Session} Session
 * @typedef {import("./types.js").LocksLike} LocksLike
 * @typedef {import("./types.js").Message} Message
 * @typedef {import("./wishes.js").Wanted} Wanted
 */

/** A request that another tab carries out has so many times `answerMs`: more than there, where it may wait first. */
const PATIENCE_AFAR = 10;

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
 * For the option `tabs`: tabs of one origin with the same `url`, `userId` and `observe` share one connection. Each tab has its own if
 * only the token says who the user is. So it is, too, without `navigator.locks` or `BroadcastChannel` (a page that is not secure).
 *
 * @param {{ locks?: LocksLike }} [means] for a runtime without `navigator.locks`
 */
export function sharedTabs({ locks = globalThis.navigator?.locks } = {}) {
  return (/** @type {Parts} */ parts) => {
    const { url, userId, observe, getToken } = parts.options;
    const isKnown = userId != null || (observe && !getToken);
    const name = `rollcall ${url} ${observe ? "observes" : "joins"} ${userId}`;
    return isKnown && locks && globalThis.BroadcastChannel ? makeTab(name, parts, locks) : parts.makeSession(parts.take);
  };
}

/** @param {string} name the same for all tabs that share @param {Parts} parts @param {LocksLike} locks */
function makeTab(name, { options: { answerMs, heartbeatMs }, store, take, makeSession }, locks) {
  /** Another one each time that this tab starts: so what was said of it before is not mistaken. */
  let own = "";
  /** @type {Wanted} */
  let wanted = new Map();
  /** Only in the tab that leads. @type {Session | undefined} */
  let session;
  /** The other tabs, if this one leads. @type {Map<string, Wanted>} */
  const others = new Map();
  /** The tab that last said that it leads, if that was heard. @type {string | undefined} */
  let newest;
  /** The tab whose store ours shows. @type {string | undefined} */
  let leader;
  /** Until the leader is taken for asleep. @type {any} */
  let suspicion;
  /** The next look whether the leader is awake. @type {any} */
  let look;
  /** What this tab does not ask itself. `sent`: the leader has it. @type {Map<number, { message: Message, done: Done, timer: any, sent: boolean }>} */
  const asked = new Map();
  let count = 0;
  let closing = new AbortController();
  /** Ends our place among those who lead or would lead. */
  let place = new AbortController();
  /** @type {BroadcastChannel | undefined} */
  let channel;
  /** The browser refuses locks. */
  let isAlone = false;

  const post = (/** @type {Message} */ message) => isAlone || channel?.postMessage({ from: own, ...message });

  /** @param {number} id @param {RollcallError | undefined} error @param {Message} answer */
  function answered(id, error, answer = {}) {
    const request = asked.get(id);
    asked.delete(id);
    clearTimeout(request?.timer);
    request?.done(error, answer);
  }

  /** @param {number} id @param {number} patience */
  const patient = (id, patience) => setTimeout(() => answered(id, gone()), patience * answerMs);

  /** The leader is gone. What was asked of it may have happened. */
  function giveUp() {
    for (const [id, { sent }] of asked) if (sent) answered(id, gone());
  }

  /** What was asked while nobody led. */
  function askWaiting() {
    for (const [id, request] of asked) {
      if (request.sent) continue;
      clearTimeout(request.timer);
      if (session) {
        asked.delete(id);
        session.ask(request.message, request.done);
      } else {
        request.sent = true;
        // The leader has the deadline of the service, and tells when it ends. This one is for a leader that dies.
        request.timer = patient(id, PATIENCE_AFAR);
        post({ kind: "ask", id, message: request.message });
      }
    }
  }

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
    askWaiting();
  }

  /** Without locks, this tab has a connection of its own. */
  function leadAlone() {
    if (isAlone) return;
    isAlone = true;
    channel?.close();
    lead();
  }

  /** @param {number} code what the session is closed with */
  function endSession(code) {
    const mine = session;
    session = leader = newest = undefined;
    others.clear();
    mine?.stop(code);
  }

  /** Leads when it is its turn. There is one place for this tab: the one before ends. @param {boolean} [steal] */
  function queue(steal) {
    place.abort();
    place = new AbortController();
    hold(name, place.signal, lead, follow, steal);
  }

  /** This tab slept, and another one leads. */
  function follow() {
    endSession(ABANDONED);
    queue();
    announce();
  }

  function calm() {
    clearTimeout(suspicion);
    suspicion = undefined;
  }

  /** The leader is needed: if it does not answer, this tab leads. */
  function call() {
    if (!channel || session || suspicion) return;
    post({ kind: "call" });
    // Not all at the same time.
    const waitMs = answerMs * (1 + Math.random());
    const due = now() + waitMs;
    suspicion = setTimeout(() => {
      suspicion = undefined;
      // This tab has slept itself.
      if (isLate(due)) call();
      else queue(true);
    }, waitMs);
  }

  /** @param {string} id */
  function forget(id) {
    if (others.delete(id)) wantTogether();
  }

  /**
   * Until it is aborted, or another tab takes the lock away.
   * @param {string} lock @param {AbortSignal} signal @param {() => void} held @param {() => void} [lost]
   * @param {boolean} [steal] take it away from who has it
   */
  function hold(lock, signal, held, lost, steal) {
    const until = () =>
      new Promise((resolve) => {
        if (signal.aborted) return resolve(undefined);
        signal.addEventListener("abort", resolve);
        held();
      });
    // Rejected if it is given up before it was ours, or taken away. Or the page may have no locks, as in a frame with a sandbox.
    const ended = (/** @type {Error} */ { name }) => signal.aborted || (name === "AbortError" ? lost?.() : leadAlone());
    locks.request(lock, steal ? { steal } : { signal }, until).catch(ended);
  }

  /** @param {Message} said @param {Session} session */
  function heardAsLeader(said, session) {
    const { kind, from, wanted, id, message } = said;
    if (kind === "here") {
      if (!others.has(from)) {
        post({ kind: "store", to: from, dump: store.dump() });
        // Its lock is free when it is gone, however it ended.
        locks.request(`${name} ${from}`, { signal: place.signal }, () => forget(from)).catch(() => {});
      }
      others.set(from, wanted);
      wantTogether();
    } else if (kind === "call") post({ kind: "awake", to: from });
    else if (kind === "bye") forget(from);
    else if (kind === "say") session.say(message);
    else if (kind === "wake") session.wake();
    else if (kind === "start") session.start();
    else if (kind === "lead") {
      // This tab slept, and has not heard yet that the lock is lost. If it is not, it is given back: so one of both leads.
      follow();
      heardAsFollower(said);
    } else if (kind === "ask") {
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
      newest = from;
      leader = undefined;
      giveUp();
      announce();
    } else if (kind === "store" && from === (newest ?? from)) {
      leader = from;
      store.load(dump);
      askWaiting();
    } else if (kind === "message" && from === leader) take(message);
    else if (kind === "answer") answered(id, fault && new RollcallError(fault), message);
    if (from === leader || kind === "lead" || kind === "awake") calm();
  }

  return {
    start() {
      if (channel) return session ? session.start() : post({ kind: "start" });
      closing = new AbortController();
      own = crypto.randomUUID();
      isAlone = false;
      channel = new BroadcastChannel(name);
      channel.onmessage = ({ data }) => {
        if (data.to !== undefined && data.to !== own) return;
        if (session) heardAsLeader(data, session);
        else heardAsFollower(data);
      };
      // That is how the leader learns that this tab is gone.
      hold(`${name} ${own}`, closing.signal, announce);
      queue();
      call();
      // Whoever only looks needs the leader, too. A hidden page does not, and calls when it is shown again.
      look = setInterval(() => globalThis.document?.hidden || call(), heartbeatMs);
    },

    /** Another tab goes on. The last one says goodbye. */
    stop() {
      if (!channel) return;
      // With other tabs, the user is not gone: the next leader comes back within the grace.
      endSession(others.size ? ABANDONED : GOODBYE);
      calm();
      clearInterval(look);
      post({ kind: "bye" });
      place.abort();
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

    /** @param {Wanted} all */
    want(all) {
      wanted = all;
      if (session) wantTogether();
      else announce();
    },

    /** @param {Message} message @param {Done} done */
    ask(message, done) {
      if (session) return session.ask(message, done);
      if (asked.size >= WAITING_MAX) return done(new RollcallError({ code: "too_many_requests" }), {});
      const id = ++count;
      asked.set(id, { message, done, timer: patient(id, PATIENCE), sent: false });
      if (leader) askWaiting();
      call();
    },

    /** @param {Message} message */
    say(message) {
      if (session) session.say(message);
      else post({ kind: "say", message });
    },
  };
}
