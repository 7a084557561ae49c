/** A door to something the host may lack: either it is open, or it says in one sentence why not. */

/** The opened thing, or the reason (for the log and for `status`) why it is missing. */
export type Door<T> = { readonly open: T; readonly why?: undefined } | { readonly open: undefined; readonly why: string };

/** Runs `attempt` once; what it throws becomes the reason. */
export function tryDoor<T>(attempt: () => T): Door<T> {
  try {
    return { open: attempt() };
  } catch (error) {
    return { open: undefined, why: error instanceof Error ? error.message : String(error) };
  }
}
