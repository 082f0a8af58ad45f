/**
 * @param {{ idleAfterMs: number, hiddenAfterMs: number, activity: boolean }} options
 * @param {object} told
 * @param {(idle: boolean) => void} told.idle
 * @param {(hidden: boolean) => void} told.hidden
 * @param {() => void} told.active somebody is there; not more often than every 30 s
 * @param {() => void} told.woke the page, the network or the machine may have come back
 */
export function makeActivity({ idleAfterMs, hiddenAfterMs, activity }: {
    idleAfterMs: number;
    hiddenAfterMs: number;
    activity: boolean;
}, told: {
    idle: (idle: boolean) => void;
    hidden: (hidden: boolean) => void;
    active: () => void;
    woke: () => void;
}): {
    start(): void;
    stop(): void;
};
