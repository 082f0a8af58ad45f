// Delays between two tries.

/**
 * Full jitter: anything from nothing to 1 s, 2 s, 4 s … up to `maxMs`. So those who have lost a node do not come back together.
 *
 * @param {number} attempt from 0
 * @param {number} maxMs
 */
export const fullJitter = (attempt, maxMs) => Math.random() * Math.min(maxMs, 1000 * 2 ** attempt);
