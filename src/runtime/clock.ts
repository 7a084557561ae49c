/** The clocks of this host as an `Instant`. */

import type { Instant } from '../machine.ts';

/** Reads a monotonic clock in milliseconds. */
export type MonotonicClock = () => number;

/**
 * `performance.now` stands still while a laptop sleeps (CLOCK_MONOTONIC). Where CLOCK_BOOTTIME can be read, that is handed in instead;
 * otherwise a jump of the wall clock that the monotonic one did not see is added, so that a host that slept rekeys.
 */
export function clock(boottime?: MonotonicClock): () => Instant {
  if (boottime !== undefined) return () => ({ mono: boottime(), wall: Date.now() });
  let slept = 0;
  let lastMono = performance.now();
  let lastWall = Date.now();
  return () => {
    const mono = performance.now();
    const wall = Date.now();
    const jump = wall - lastWall - (mono - lastMono);
    if (jump > SLEEP_MS) slept += jump;
    lastMono = mono;
    lastWall = wall;
    return { mono: mono + slept, wall };
  };
}

/** A wall clock that gains this much on the monotonic one within two readings means that the host slept. */
const SLEEP_MS = 5_000;
