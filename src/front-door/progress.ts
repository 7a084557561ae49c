/** Shows that a command waits, and for how long: on a terminal only, on standard error, and gone when the answer is there. */

/** The stream it is shown on: standard error, or a test's. */
export interface ProgressStream {
  readonly isTTY?: boolean;
  write(text: string): unknown;
}

/** Nothing is shown of a wait that is shorter. Milliseconds. */
const SILENT_MS = 400;
const ERASE_LINE = '\r\u001b[2K';

/** Waits for `work`; meanwhile a terminal shows `what … 3 s`. */
export async function withProgress<T>(what: string, work: Promise<T>, stream: ProgressStream = process.stderr): Promise<T> {
  if (stream.isTTY !== true) return work;
  const began = Date.now();
  let shown = false;
  const show = () => {
    shown = true;
    stream.write(`${ERASE_LINE}${what} … ${Math.floor((Date.now() - began) / 1000)} s`);
  };
  let again: NodeJS.Timeout | undefined;
  const first = setTimeout(() => {
    show();
    again = setInterval(show, 1_000);
  }, SILENT_MS);
  try {
    return await work;
  } finally {
    clearTimeout(first);
    clearInterval(again);
    if (shown) stream.write(ERASE_LINE);
  }
}
