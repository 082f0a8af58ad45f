// Whether somebody is there: looks at the page's visibility and at what is done to it.

import { now } from "./clock.js";

/** The least time between two signs of life. (docs/protocol.md, `user_activity`) */
const SIGN_EVERY_MS = 30_000;
const INPUT = ["pointerdown", "pointermove", "keydown", "wheel"];
const WAKING = ["online", "offline"];

/**
 * @param {{ idleAfterMs: number, hiddenAfterMs: number, activity: boolean }} options
 * @param {object} told
 * @param {(idle: boolean) => void} told.idle
 * @param {(hidden: boolean) => void} told.hidden
 * @param {() => void} told.active somebody is there; not more often than every 30 s
 * @param {() => void} told.woke the page, the network or the machine may have come back
 */
export function makeActivity({ idleAfterMs, hiddenAfterMs, activity }, told) {
  /** A worker has none, and may still hear of the network. Node has neither. @type {Document | undefined} */
  const page = globalThis.document;
  let signedAt = -Infinity;
  /** @type {any} */
  let idleTimer;
  /** @type {any} */
  let hiddenTimer;

  /** Nobody is there. The next input counts at once. */
  function rest() {
    signedAt = -Infinity;
    clearTimeout(idleTimer);
    if (activity) told.idle(true);
  }

  function input() {
    if (!activity || page?.hidden || now() - signedAt < Math.min(SIGN_EVERY_MS, idleAfterMs / 2)) return;
    signedAt = now();
    told.idle(false);
    told.active();
    clearTimeout(idleTimer);
    idleTimer = setTimeout(rest, idleAfterMs);
  }

  function visibility() {
    clearTimeout(hiddenTimer);
    if (page?.hidden) {
      hiddenTimer = setTimeout(() => {
        rest();
        told.hidden(true);
      }, hiddenAfterMs);
    } else {
      told.hidden(false);
      input();
      told.woke();
    }
  }

  /** @param {"addEventListener" | "removeEventListener"} change */
  function listen(change) {
    for (const type of WAKING) globalThis[change]?.(type, told.woke);
    page?.[change]("visibilitychange", visibility);
    for (const type of INPUT) page?.[change](type, input, { capture: true, passive: true });
  }

  return {
    start() {
      // To listen twice is to listen once.
      listen("addEventListener");
      if (page) visibility();
    },

    stop() {
      listen("removeEventListener");
      clearTimeout(idleTimer);
      clearTimeout(hiddenTimer);
      signedAt = -Infinity;
    },
  };
}
