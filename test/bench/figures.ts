/** Figures of several rounds: their median and spread, as text and for the JSON file. */
import { writeFileSync } from 'node:fs';

export type Spread = { readonly median: number; readonly lowest: number; readonly highest: number; readonly rounds: number };

/** Nothing but the numbers: the benchmarks judge none of them. */
export function spread(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  return { median: quantile(sorted, 0.5), lowest: sorted[0]!, highest: sorted.at(-1)!, rounds: sorted.length };
}

/** Of sorted values, between two of them in proportion. */
export function quantile(sorted: readonly number[], share: number): number {
  const place = (sorted.length - 1) * share;
  const low = sorted[Math.floor(place)]!;
  const high = sorted[Math.ceil(place)]!;
  return low + (high - low) * (place - Math.floor(place));
}

/** `median [lowest-highest]`. */
export function spreadText({ median, lowest, highest }: Spread, digits: number): string {
  return `${median.toFixed(digits)} [${lowest.toFixed(digits)}-${highest.toFixed(digits)}]`;
}

/** Columns of equal width, a blank line before and after. */
export function printTable(rows: readonly (readonly string[])[]): void {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const line = (row: readonly string[]) => row.map((cell, column) => cell.padEnd(widths[column]!)).join('  ');
  console.log(`\n${rows.map(line).join('\n')}\n`);
}

/** Writes the result where `--json FILE` asked for it, the benchmark's name before the ending; else prints it on one line. */
export function giveJson(name: string, result: object): void {
  const text = JSON.stringify({ benchmark: name, ...result });
  const file = process.env.BENCH_JSON;
  if (file === undefined) console.log(text);
  else writeFileSync(file.replace(/(\.json)?$/, `-${name}.json`), `${text}\n`);
}
