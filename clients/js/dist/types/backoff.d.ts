export function fullJitter(attempt: number, maxMs: number): number;
