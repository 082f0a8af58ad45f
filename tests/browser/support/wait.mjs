// Waiting for what must come.

/** Far above what a loaded machine needs: it only ends a test that has failed. */
export const DEADLINE_MS = 60_000;

/**
 * Returns the first true value of `condition`, which is asked again and again.
 * @template T @param {string} what for the message @param {() => T | Promise<T>} condition @returns {Promise<NonNullable<T>>}
 */
export async function until(what, condition) {
  const end = Date.now() + DEADLINE_MS;
  for (;;) {
    const value = await within(what, condition());
    if (value) return value;
    if (Date.now() > end) throw new Error(`did not come: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

/**
 * What `promise` gives, before the deadline.
 * @template T @param {string} what for the message @param {T | Promise<T>} promise @returns {Promise<T>}
 */
export async function within(what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`did not end: ${what}`)), DEADLINE_MS);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
