/** Time that this process has worked, which other programs on the machine lengthen less than they lengthen the clock's. */

/** Milliseconds, to the microsecond. */
export function processorTime(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}
