// Requests and their answers: which belong together, how long one may take, and what to do when there are too many.

import { RollcallError } from "./error.js";

/**
 * @typedef {import("./types.js").Message} Message
 * @typedef {(error: RollcallError | undefined, answer: Message) => void} Done called before anything else sees the answer
 * @typedef {{ message: Message, done: Done, here?: boolean, ref?: any, timer?: any }} Request `here`: of no use on the next socket
 */

/** Requests under way. They are few, so that few are refused when the service has enough. */
const AT_ONCE = 16;
/** A request holds its place for so long at least. So the service reads all of them: it reads 50 a second. (docs/protocol.md) */
const PLACE_MS = 350;
export const WAITING_MAX = 256;

/** @param {(message: Message) => void} send @param {number} answerMs */
export function makeRequests(send, answerMs) {
  /** @type {Set<Request>} */
  let waiting = new Set();
  /** Those under way, by `ref`. @type {Map<number, Request>} */
  const sent = new Map();
  let lastRef = 0;
  /** None while the client is not in. */
  let atOnce = 0;
  /** Places that are held. */
  let held = 0;
  /** The service has asked for a pause. @type {any} */
  let pause;

  /** @param {Request} request @param {RollcallError} [error] @param {Message} [answer] */
  function end({ timer, done }, error, answer = {}) {
    clearTimeout(timer);
    done(error, answer);
  }

  /** @param {Request} request */
  function expect(request) {
    clearTimeout(request.timer);
    request.timer = setTimeout(() => {
      sent.delete(request.ref);
      waiting.delete(request);
      end(request, new RollcallError({ code: atOnce ? "timeout" : "disconnected" }));
      go();
    }, answerMs);
  }

  /** @param {Request} request */
  function dispatch(request) {
    const ref = (request.ref = ++lastRef);
    sent.set(ref, request);
    held++;
    setTimeout(() => {
      held--;
      go();
    }, PLACE_MS);
    expect(request);
    send({ ...request.message, ref });
  }

  function go() {
    for (const request of waiting) {
      if (pause || sent.size >= atOnce || held >= AT_ONCE) return;
      waiting.delete(request);
      dispatch(request);
    }
    if (atOnce && !pause) atOnce = AT_ONCE;
  }

  return {
    /** At once: what lets the client in. @param {Message} message @param {Done} done */
    askNow: (message, done) => dispatch({ message, done }),

    /** As soon as the client is in. @param {Message} message @param {Done} done @param {boolean} [here] */
    ask(message, done, here) {
      if (waiting.size >= WAITING_MAX) return done(new RollcallError({ code: "too_many_requests" }), {});
      const request = { message, done, here };
      waiting.add(request);
      if (atOnce) go();
      else expect(request);
    },

    /** The client is in. */
    open() {
      atOnce = AT_ONCE;
      waiting.forEach(({ timer }) => clearTimeout(timer));
      go();
    },

    /** The socket is gone. What was under way may have happened. */
    close() {
      atOnce = 0;
      clearTimeout(pause);
      pause = undefined;
      waiting.forEach((request) => (request.here ? waiting.delete(request) : expect(request)));
      for (const [ref, request] of sent) {
        sent.delete(ref);
        end(request, new RollcallError({ code: "disconnected" }));
      }
    },

    /** @param {Message} message @returns {boolean} whether it is an answer */
    take(message) {
      const request = sent.get(message.ref);
      if (!request) return false;
      sent.delete(message.ref);
      const isError = /error$/.test(message.type);
      if (isError && atOnce && message.code === "rate_limited") {
        clearTimeout(request.timer);
        waiting = new Set([request, ...waiting]);
        // After the pause, one request is carried out. So they go one by one, until none waits.
        atOnce = 1;
        clearTimeout(pause);
        pause = setTimeout(() => {
          pause = undefined;
          go();
        }, message.retryAfterMs ?? 1000);
      } else {
        end(request, isError ? new RollcallError(/** @type {any} */ (message)) : undefined, message);
        go();
      }
      return true;
    },
  };
}
