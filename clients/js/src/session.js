// One client at the service: lets itself in, hears what is wanted, and comes back when the connection breaks.

import { fullJitter } from "./backoff.js";
import { now } from "./clock.js";
import { GOODBYE, makeConnection } from "./connection.js";
import { RollcallError } from "./error.js";
import { makeInterest, PASSING } from "./interest.js";
import { makeRequests } from "./requests.js";

/**
 * @typedef {import("./requests.js").Done} Done
 * @typedef {import("./types.js").Message} Message
 * @typedef {import("./wishes.js").Wanted} Wanted
 * @typedef {ReturnType<typeof makeSession>} Session
 */

/** An answer may be a page of a thousand users, on a slow network. The test of a connection is shorter. */
export const PATIENCE = 3;
/** Of requests whose answer nobody waits for. */
const UNHEARD = "-";
/** A new token is fetched so long before the end of the old one, or at half of what is left. */
const RENEW_BEFORE_MS = 60_000;
/** The least time to the next one: the application may give the same again. */
const RENEW_AFTER_MS = 1000;
/** A timer cannot have a delay of 2 ** 31 or more. */
const TIMER_MAX_MS = 2e9;

/**
 * @param {import("./connection.js").Settled} options
 * @param {import("./statement.js").Statement} statement
 * @param {(message: Message) => void} deliver
 * @param {(error: RollcallError) => void} failed
 * @param {() => boolean} isDegraded what was delivered may be out of date
 */
export function makeSession(options, statement, deliver, failed, isDegraded) {
  const { getToken, observe, reconnectMaxMs } = options;
  /** The first page of the present list: of `everyone`, and of each `room ID`. Pages of another are not followed. @type {Map<string, Message>} */
  const lists = new Map();
  let isIn = false;
  /** When our own time, which no clock moves, began for the service's clock. */
  let beganMs = 0;
  /** @type {string | undefined} */
  let tokenEnds;
  /** @type {any} */
  let renewal;
  /** Tokens that could not be had or checked, one after the other. */
  let late = 0;
  let userId = "0";

  const connection = makeConnection(options, {
    opened: enter,
    heard: take,
    closed() {
      isIn = false;
      renewal = clearTimeout(renewal);
      interest.end();
      requests.close();
    },
    test: () => say({ type: "check_user_online", userId }),
    // The end of that state is only in an answer.
    curious: isDegraded,
    state: (state, error) => deliver({ type: "_connection", state, error }),
    failed,
  });
  const requests = makeRequests(connection.send, PATIENCE * options.answerMs);
  const interest = makeInterest(requests.ask, deliver, failed, connection.retry, observe);

  /** What needs no answer, and is of no use later. @param {Message} message */
  function say(message) {
    if (isIn) connection.send({ ...message, ref: UNHEARD });
  }

  /** @param {string | null} [token] */
  function enter(token) {
    if (token) authenticate(token);
    const about = observe ? { type: "subscribe" } : { type: "join_user", ...statement.fields() };
    const join = { ...about, ...interest.joinFields() };
    requests.askNow(join, (error, answer) => {
      if (error) return refused(error, interest.doubts(error, join.rooms?.length));
      isIn = true;
      beganMs = (Date.parse(answer.timestamp) || Date.now()) - now();
      userId = answer.userId ?? userId;
      planRenewal();
      connection.good();
      requests.open();
      interest.begin(join);
    });
  }

  /** @param {RollcallError} error @param {unknown} again it may be let in without its rooms */
  function refused(error, again) {
    const { code } = error;
    if (code === "disconnected") return;
    failed(error);
    if (again || PASSING.test(code)) connection.retry();
    // Without a good token, the service closes the socket.
    else if (code !== "unauthenticated") connection.stop(GOODBYE, code);
  }

  /** @param {string} token */
  function authenticate(token) {
    requests.askNow({ type: "authenticate", token, userId: statement.userId }, (error, { expiresAt }) => {
      tokenEnds = expiresAt;
      // Otherwise the service closes the socket.
      if (error?.retryAfterMs) (isIn ? renewIn : connection.retry)(laterThan(error.retryAfterMs));
      else if (isIn) planRenewal();
    });
  }

  /** A node may tell the same time to all. @param {number} leastMs */
  const laterThan = (leastMs) => Math.min(leastMs, reconnectMaxMs) + fullJitter(late++, reconnectMaxMs);

  function planRenewal() {
    if (tokenEnds === undefined) return;
    late = 0;
    const leftMs = Date.parse(tokenEnds) - beganMs - now();
    renewIn(Math.max(leftMs - RENEW_BEFORE_MS, leftMs / 2, RENEW_AFTER_MS));
  }

  /** @param {number} delayMs */
  function renewIn(delayMs) {
    clearTimeout(renewal);
    const own = (renewal = setTimeout(async () => {
      try {
        const token = await getToken?.();
        // If nobody is logged in any more, the service ends the connection in time, and it is not opened again.
        if (token && renewal === own) authenticate(token);
      } catch {
        // The next connection tells of it, if it comes to that.
        if (renewal === own) renewIn(laterThan(0));
      }
    }, Math.min(delayMs, TIMER_MAX_MS)));
  }

  /** @param {Message} message */
  function take(message) {
    const { type, roomId, ref, code, users } = message;
    const isAnswer = requests.take(message);
    const key = roomId === undefined ? "everyone" : "room " + roomId;
    if (type === "error" && !isAnswer && ref !== UNHEARD) {
      if (roomId !== undefined) interest.lost(key, code);
      failed(new RollcallError(/** @type {any} */ (message)));
    }
    if (message.removed) return interest.lost(key, "removed");
    // A page that was asked for is delivered by whoever asked: it belongs to a list.
    if (isAnswer && /^(online|room)_users/.test(type)) return;
    if (type === "online_users_list" || (type === "room_joined" && users)) {
      lists.set(key, message);
      return page(message, key, message);
    }
    // A new list follows, or none.
    if (/^(resync|welcome|subscribed|room_left)$/.test(type)) lists.delete(key);
    deliver(message);
  }

  /** Delivers a page, and asks for the next one. @param {Message} message @param {string} key @param {Message} list its first page */
  function page(message, key, list) {
    const isCurrent = lists.get(key) === list;
    const { nextCursor: cursor, roomId } = message;
    deliver({ ...message, last: isCurrent && cursor === undefined });
    if (!isCurrent || cursor === undefined) return;
    const type = roomId === undefined ? "get_online_users" : "get_room_users";
    requests.ask({ type, roomId, cursor }, (error, next) => {
      if (!error) page(next, key, list);
      else if (lists.get(key) === list) interest.lost(key, "timeout");
    }, true);
  }

  return {
    start: connection.start,
    stop: connection.stop,
    wake: connection.wake,
    want: interest.want,
    ask: requests.ask,
    say,
  };
}
