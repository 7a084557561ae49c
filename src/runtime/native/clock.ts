/** The clock for durations that also counts the time a suspended machine slept: clock_gettime(2), CLOCK_BOOTTIME. */

import { scratch } from './arena.ts';
import { check, type Libc } from './libc.ts';

const CLOCK_BOOTTIME = 7;

/** Milliseconds since boot, with a fraction; about 0.2 µs a call. */
export function bootMilliseconds(libc: Libc): number {
  const page = scratch(libc);
  check(libc, libc.clock_gettime(CLOCK_BOOTTIME, page.base), 'read the boot-time clock');
  const seconds = page.u32[0]! + page.u32[1]! * 0x1_0000_0000;
  return seconds * 1000 + page.u32[2]! / 1e6;
}
