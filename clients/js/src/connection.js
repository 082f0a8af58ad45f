// One connection after another: opens, tests, gives up, waits, opens again. It knows nothing of presence.

import { fullJitter } from "./backoff.js";
import { isLate, now } from "./clock.js";
import { RollcallError } from "./error.js";

/**
 * @typedef {import("./types.js").ConnectionState} ConnectionState
 * @typedef {import("./types.js").Message} Message
 * @typedef {import("./types.js").Options & { url: string, answerMs: number, heartbeatMs: number, reconnectMaxMs: number }} Settled
 * @typedef {import("./types.js").SocketLike} SocketLike
 * @typedef {object} Owner
 * @property {(token?: string | null) => void} opened the socket is open: say who it is
 * @property {(message: Message) => void} heard
 * @property {() => void} closed the socket is gone; another may follow
 * @property {() => void} test send something that is answered
 * @property {() => boolean} curious test although the connection is not silent
 * @property {(state: ConnectionState, error?: string) => void} state with the reason, if it stopped
 * @property {(error: RollcallError) => void} failed something went wrong, and is tried again
 */

/** A repetition would not mend these: the next connection would be closed for the same reason. (docs/protocol.md, "Closing") */
const FINAL = [1002, 1007, 1009, 4003, 4029];
const DRAIN = 1001;
const UNAUTHORIZED = 4401;
const TOKEN_EXPIRED = 4402;
/** What we close a socket with that may be dead: the user has a moment to come back. */
export const ABANDONED = 4000;
export const GOODBYE = 1000;
/** A connection that lived for so long was good: the next try is a first one. */
const GOOD_AFTER_MS = 5000;

/** @param {Settled} options @param {Owner} owner */
export function makeConnection(options, owner) {
  const { url, getToken, answerMs, heartbeatMs, reconnectMaxMs } = options;
  /** @type {new (url: string) => SocketLike} */
  let Socket;
  /** @type {SocketLike | undefined} */
  let socket;
  /** Counts what was begun: what comes of a token or a socket of before is not heard. */
  let turn = 0;
  let isRunning = false;
  /** Until the next try. */
  let isWaiting = false;
  let attempt = 0;
  let refusals = 0;
  let heardAt = 0;
  let testedAt = 0;
  /** When the service let the client in. */
  let goodSince = 0;
  /** The next try, or the next look at the connection. @type {any} */
  let timer;

  const wasGood = () => goodSince && now() - goodSince > GOOD_AFTER_MS;

  async function open() {
    const own = ++turn;
    isWaiting = false;
    owner.state("connecting");
    heardAt = testedAt = now();
    // For the token and the handshake together.
    watch(2 * answerMs, true);
    /** @type {string | null | undefined} */
    let token;
    try {
      token = await getToken?.();
      if (own !== turn) return;
      if (getToken && !token) return stop(GOODBYE, "no_token");
      socket = new Socket(url);
    } catch (error) {
      failed("cannot_connect", error);
      return own === turn ? retry() : undefined;
    }
    /** @param {(event: any) => void} take */
    const mine = (take) => (/** @type {any} */ event) => {
      if (own === turn) take(event);
    };
    socket.onopen = mine(() => {
      owner.opened(token);
      watch(answerMs, true);
    });
    socket.onmessage = mine(({ data }) => {
      heardAt = now();
      try {
        const message = JSON.parse(data);
        if (message?.type) owner.heard(message);
      } catch (error) {
        // This is not the service. The test will tell.
        failed("invalid_message", error);
      }
    });
    socket.onclose = mine(closed);
    // In Node, this alone tells of a handshake that is refused. Later, `onclose` follows.
    socket.onerror = mine(() => goodSince || retry());
  }

  /** @param {string} code @param {unknown} error */
  function failed(code, error) {
    owner.failed(new RollcallError({ code, message: `${error}` }));
  }

  /** @param {{ code: number, reason: string }} event */
  function closed({ code, reason }) {
    const isUnauthorized = code === UNAUTHORIZED || code === TOKEN_EXPIRED;
    // Once more with a new token, and not in a loop.
    if (FINAL.includes(code) || (isUnauthorized && (!getToken || refusals++))) {
      return stop(ABANDONED, "closed_" + code);
    }
    // At once, but not in a loop.
    if (code === TOKEN_EXPIRED && wasGood()) return retry(0);
    // A drain says when to come back. A 1001 without that is somebody else's, such as a proxy's.
    const delayMs = code === DRAIN && /"reconnectAfterMs":(\d+)/.exec(reason)?.[1];
    retry(delayMs ? Math.min(+delayMs, reconnectMaxMs) : undefined);
  }

  /** @param {number} code */
  function abandon(code) {
    clearTimeout(timer);
    turn++;
    isWaiting = false;
    goodSince = 0;
    if (!socket) return;
    socket.close(code);
    socket = undefined;
    owner.closed();
  }

  /** Ends it for good. @param {number} code @param {string} [error] */
  function stop(code, error) {
    if (!isRunning) return;
    isRunning = false;
    abandon(code);
    owner.state("stopped", error);
  }

  /** Gives the socket up, and opens another. @param {number} [delayMs] */
  function retry(delayMs) {
    if (wasGood()) attempt = 0;
    const jitterMs = fullJitter(attempt++, reconnectMaxMs);
    abandon(ABANDONED);
    wait(delayMs ?? jitterMs);
  }

  /** @param {number} delayMs */
  function wait(delayMs) {
    clearTimeout(timer);
    isWaiting = true;
    owner.state("waiting");
    timer = setTimeout(open, delayMs);
  }

  function test() {
    testedAt = now();
    watch(answerMs, true);
    owner.test();
  }

  /**
   * Looks at the connection after this time. Messages do not move the timer: it looks when the last one came.
   * @param {number} ms
   * @param {boolean} [isTest] something must have come by then
   */
  function watch(ms, isTest) {
    clearTimeout(timer);
    const due = now() + ms;
    timer = setTimeout(() => {
      const silentMs = now() - heardAt;
      if (isTest && heardAt <= testedAt) {
        if (goodSince && isLate(due)) test();
        else retry();
      } else if (silentMs < heartbeatMs && (isTest || !owner.curious())) watch(heartbeatMs - silentMs);
      else test();
    }, ms);
  }

  return {
    stop,
    retry,

    start() {
      if (isRunning) return;
      // Throws where there is none.
      Socket = options.WebSocket ?? WebSocket;
      isRunning = true;
      attempt = refusals = 0;
      void open();
    },

    /** The service has let the client in. */
    good() {
      goodSince = now();
      refusals = 0;
      owner.state("connected");
    },

    /** The network, the page or the machine has come back: does the connection live? If there is none, try soon. */
    wake() {
      // Once: neither the next try nor the end of a test is put off again and again.
      if (isWaiting && attempt) wait(fullJitter((attempt = 0), reconnectMaxMs));
      else if (goodSince && heardAt > testedAt) test();
    },

    /** @param {Message} message */
    send(message) {
      if (socket?.readyState === 1) socket.send(JSON.stringify(message));
    },
  };
}
