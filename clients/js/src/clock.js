// The time that no clock moves.

/** In ms, since some moment. */
export const now = () => performance.now();

/** A timer that is later than this was held up (a sleep, a hidden tab). What it should judge may have come meanwhile. */
const LATE_MS = 1000;

/** @param {number} due when the timer should have ended */
export const isLate = (due) => now() - due > LATE_MS;
