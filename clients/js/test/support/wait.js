// Waiting for what must come. A deadline is far above what a loaded machine needs: it only ends a test that has failed.

const DEADLINE_MS = 20_000;

/**
 * Returns the first true value of `condition`, which is asked again and again.
 * @template T @param {string} what for the message @param {() => T | Promise<T>} condition @returns {Promise<NonNullable<T>>}
 */
export async function until(what, condition) {
  const end = Date.now() + DEADLINE_MS;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`did not come: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
