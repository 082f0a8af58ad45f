// `navigator.locks` for a Node that has none: exclusive locks by name, in the order of the requests. A tab can be ended as a
// browser ends one: all its locks are free, and nothing of it runs any more.

/** @typedef {{ tab: object, start: () => void, leave: () => void }} Waiting */

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
    /** The locks, as one tab has them. */
    ofTab() {
      const tab = {};
      let isAlive = true;
      return {
        locks: {
          /** @param {string} name @param {{ signal?: AbortSignal }} options @param {() => unknown} callback */
          request: (name, { signal }, callback) =>
            new Promise((resolve, reject) => {
              /** @type {Waiting} */
              const waiting = {
                tab,
                leave: () => leave(name, waiting),
                start: () =>
                  queueMicrotask(async () => {
                    if (!isAlive || !queues.get(name)?.includes(waiting)) return;
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
              queue.push(waiting);
              if (queue.length === 1) waiting.start();
            }),
        },
        end() {
          isAlive = false;
          for (const queue of queues.values()) {
            for (const waiting of queue.filter((each) => each.tab === tab)) waiting.leave();
          }
        },
      };
    },
  };
}
