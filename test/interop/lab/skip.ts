/** Why a part of the suite does not run here, said once and aloud. */

/**
 * A title's suffix for what is skipped because of `missing`, which is also printed. With `INTEROP=required` in the environment
 * (`.ci/run` sets it for root) nothing may be skipped: then it throws.
 */
export function skipNote(what: string, missing: string | undefined): string {
  if (missing === undefined) return '';
  if (process.env.INTEROP === 'required') throw new Error(`${what} cannot run: ${missing}; INTEROP=required allows no skipping`);
  process.stderr.write(`skipped: ${what}: ${missing}\n`);
  return ` (skipped: ${missing})`;
}
