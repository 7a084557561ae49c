/** Prints any decoded value as indented text: for logs, `--dump` and failing tests. Secrets print as themselves do, which is not at all. */

import { hex } from '../bytes/bytes.ts';

export interface DumpOptions {
  /** Octet strings longer than this are cut; default 32. */
  readonly octets?: number;
  /** Members whose octets are not shown, only counted: `['data']` of an EAP payload. */
  readonly hide?: readonly string[];
  /** A name to print behind a number. */
  readonly name?: (member: string, value: number) => string | undefined;
}

/** One line a member, nested by two spaces. Ends without a line break. */
export function dump(value: unknown, options: DumpOptions = {}): string {
  return lines('', value, options).join('\n');
}

function lines(member: string, value: unknown, options: DumpOptions): string[] {
  const flat = scalar(member, value, options);
  if (flat !== undefined) return [flat];
  const entries = Array.isArray(value)
    ? value.map((item, i): [string, unknown] => [String(i + 1), item])
    : Object.entries(value as object);
  if (entries.length === 0) return [Array.isArray(value) ? '(none)' : '(empty)'];
  const out: string[] = [];
  for (const [name, item] of entries) {
    if (item === undefined) continue;
    const inner = lines(name, item, options);
    if (scalar(name, item, options) !== undefined || inner.length === 1) out.push(`${name}: ${inner[0]}`);
    else out.push(`${name}:`, ...inner.map((line) => `  ${line}`));
  }
  return out;
}

/** Text of a value that needs no lines of its own, or undefined. */
function scalar(member: string, value: unknown, options: DumpOptions): string | undefined {
  if (value instanceof Uint8Array) return octets(value, options.hide?.includes(member) ? 0 : (options.octets ?? 32));
  if (typeof value === 'number') {
    const name = options.name?.(member, value);
    return name === undefined ? String(value) : `${value} (${name})`;
  }
  if (typeof value === 'string') return printable(value);
  if (typeof value !== 'object' || value === null) return String(value);
  if (Array.isArray(value) || Object.getPrototypeOf(value) === Object.prototype) return undefined;
  return String(value);
}

function octets(value: Uint8Array, most: number): string {
  if (value.length <= most) return value.length === 0 ? '(0 octets)' : hex(value);
  const shown = hex(value.subarray(0, most));
  return `${shown === '' ? '' : `${shown}… `}(${value.length} octets)`;
}

/** Text from the wire with control characters, quotes of a shell and escapes of a terminal made visible. */
export function printable(text: string): string {
  return text.replace(
    /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
