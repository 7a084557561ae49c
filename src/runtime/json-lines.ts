/** JSON lines over a byte stream: one value a line, lines of bounded length, no byte sequence that can do more than be refused. */

/** A request or an event fits easily; a status of ten thousand SAs too. */
const LONGEST_LINE_BYTES = 16 * 1024 * 1024;

/** Splits a stream into lines. `put` returns the complete ones; it throws RangeError where a line never ends. */
export class LineSplitter {
  readonly #longest: number;
  #parts: Uint8Array[] = [];
  #bytes = 0;

  constructor(longest = LONGEST_LINE_BYTES) {
    this.#longest = longest;
  }

  put(chunk: Uint8Array): string[] {
    const lines: string[] = [];
    let from = 0;
    for (let at = chunk.indexOf(LF); at >= 0; at = chunk.indexOf(LF, from)) {
      this.#keep(chunk.subarray(from, at));
      lines.push(this.#take());
      from = at + 1;
    }
    this.#keep(chunk.subarray(from));
    return lines;
  }

  #keep(part: Uint8Array): void {
    this.#bytes += part.length;
    if (this.#bytes > this.#longest) throw new RangeError(`a line is longer than ${this.#longest} octets`);
    if (part.length > 0) this.#parts.push(part.slice());
  }

  #take(): string {
    const text = new TextDecoder().decode(Buffer.concat(this.#parts));
    this.#parts = [];
    this.#bytes = 0;
    return text.endsWith('\r') ? text.slice(0, -1) : text;
  }
}

const LF = 0x0a;

export function jsonLine(value: unknown): Uint8Array {
  return Buffer.from(`${JSON.stringify(value)}\n`);
}

/** The value of a line, or undefined where it is not JSON. */
export function readJsonLine(line: string): unknown {
  try {
    return JSON.parse(line) as unknown;
  } catch {
    return undefined; // the caller answers with what it expected
  }
}
