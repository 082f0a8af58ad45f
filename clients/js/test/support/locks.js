// `navigator.locks` and `BroadcastChannel` for tabs that share one process: exclusive locks by name, in the order of the requests.
// A tab can be ended as a browser ends one: all its locks are free, and nothing of it runs any more. It can be put to sleep: it keeps
// its locks, and hears and says nothing before it wakes.

/** @typedef {{ isAlive: boolean, later?: Record<"locks" | "messages", (() => void)[]> }} Tab what it will hear of when it wakes, if it sleeps */
/** @typedef {{ tab: Tab, start: () => void, leave: () => void, rob: () => void }} Waiting */

/** @param {Tab} tab @param {"locks" | "messages"} kind @param {() => void} act */
const whenAwake = (tab, kind, act) => (tab.later ? tab.later[kind].push(act) : act());

/** @param {Tab} tab @param {typeof BroadcastChannel} Channel */
const channelOf = (tab, Channel) =>
  class {
    #channel;
    /** @type {((event: any) => void) | null} */
    onmessage = null;

    /** @param {string} name */
    constructor(name) {
      this.#channel = new Channel(name);
      this.#channel.onmessage = (event) => whenAwake(tab, "messages", () => this.onmessage?.(event));
    }

    /** @param {unknown} message */
    postMessage(message) {
      whenAwake(tab, "messages", () => this.#channel.postMessage(message));
    }

    close() {
      this.onmessage = null;
      this.#channel.close();
    }
  };

export function makeLocks() {
  /** @type {Map<string, Waiting[]>} */
  const queues = new Map();

  /** @param {string} name @param {Waiting} waiting */
  function leave(name, waiting) {
    const queue = queues.get(name) ?? [];
    const place = queue.indexOf(waiting);
    if (place < 0) return;
    queue.splice(place, 1);
    if (place === 0) queue[0]?.start();
  }

  return {
    /** Requests that hold a lock, or wait for one. */
    requests: () => [...queues.values()].flat().length,
    /** The locks, as one tab has them. */
    ofTab() {
      /** @type {Tab} */
      const tab = { isAlive: true };
      return {
        BroadcastChannel: channelOf(tab, globalThis.BroadcastChannel),
        locks: {
          /** @param {string} name @param {{ signal?: AbortSignal, steal?: boolean }} options @param {() => unknown} callback */
          request: (name, { signal, steal }, callback) =>
            new Promise((resolve, reject) => {
              /** @type {Waiting} */
              const waiting = {
                tab,
                leave: () => leave(name, waiting),
                rob: () => whenAwake(tab, "locks", () => reject(new DOMException("robbed", "AbortError"))),
                start: () =>
                  queueMicrotask(async () => {
                    if (!tab.isAlive || !queues.get(name)?.includes(waiting)) return;
                    signal?.removeEventListener("abort", abort);
                    try {
                      resolve(await callback());
                    } finally {
                      waiting.leave();
                    }
                  }),
              };
              const abort = () => {
                waiting.leave();
                reject(signal?.reason);
              };
              if (signal?.aborted) return reject(signal.reason);
              signal?.addEventListener("abort", abort);
              const queue = queues.get(name) ?? [];
              queues.set(name, queue);
              if (steal) queue.shift()?.rob();
              if (steal) queue.unshift(waiting);
              else queue.push(waiting);
              if (queue[0] === waiting) waiting.start();
            }),
        },
        sleep: () => void (tab.later = { locks: [], messages: [] }),
        /** @param {"locks" | "messages"} [first] what it hears of first: a browser promises no order */
        wake(first = "locks") {
          const { locks = [], messages = [] } = tab.later ?? {};
          tab.later = undefined;
          const acts = first === "locks" ? [...locks, ...messages] : [...messages, ...locks];
          // Each by itself, with what follows from it.
          acts.forEach((act) => setImmediate(act));
        },
        end() {
          tab.isAlive = false;
          for (const queue of queues.values()) {
            for (const waiting of queue.filter((each) => each.tab === tab)) waiting.leave();
          }
        },
      };
    },
  };
}
