/** What the exit code of each command means; `docs/commands.md` prints the same table. */

export const EXIT = {
  /** Done. */
  ok: 0,
  /** It failed; the reason is on standard error. */
  failed: 1,
  /** The command line or a policy file is wrong; nothing was started or changed. */
  usage: 2,
  /** No daemon answers in this run directory. */
  notRunning: 3,
  /** The daemon refused; its sentence is on standard error. */
  refused: 4,
  /** Not within the time given. */
  timeout: 5,
} as const;

/** Ends a command with a code and a sentence. */
export class Exit extends Error {
  readonly code: number;
  constructor(code: number, message: string) {
    super(message);
    this.code = code;
  }
}
