/** Policy files that are not on a disk: for tests, embedders, and whoever has the text already. */

import type { SourceFiles } from './load.ts';

/** `texts` by path. Patterns know `*` and `?`, which do not match a `/`. */
export function memoryFiles(
  texts: Readonly<Record<string, string>>,
  environment: Readonly<Record<string, string>> = {},
): SourceFiles {
  return {
    read: (path) => {
      const text = Object.hasOwn(texts, path) ? texts[path] : undefined;
      return text === undefined ? { problem: 'it does not exist', hint: 'check the path' } : { text };
    },
    glob: (pattern) => {
      const fits = matcherOf(pattern);
      return Object.keys(texts).filter(fits).sort();
    },
    env: (name) => (Object.hasOwn(environment, name) ? environment[name] : undefined),
  };
}

/** A shell pattern as a predicate: `*` and `?` stay within a path's part. Compares part by part, so that no pattern takes long. */
export function matcherOf(pattern: string): (path: string) => boolean {
  const wanted = pattern.split('/');
  return (path) => {
    const parts = path.split('/');
    return parts.length === wanted.length && parts.every((part, i) => partFits(wanted[i]!, part));
  };
}

/** One part of a path against one part of a pattern, in time proportional to their product at worst. */
export function partFits(pattern: string, name: string): boolean {
  let p = 0;
  let star = -1;
  let marked = 0;
  for (let n = 0; n < name.length; ) {
    if (pattern[p] === '*') {
      star = p++;
      marked = n;
    } else if (p < pattern.length && (pattern[p] === '?' || pattern[p] === name[n])) {
      p++;
      n++;
    } else if (star >= 0) {
      p = star + 1;
      n = ++marked;
    } else return false;
  }
  while (pattern[p] === '*') p++;
  return p === pattern.length;
}
