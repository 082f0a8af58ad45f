// The time that no clock moves.

/** In ms, since some moment. */
export const now = () => performance.now();
