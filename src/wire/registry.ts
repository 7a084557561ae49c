/** Tables of assigned numbers that can be read both ways. */

/** Freezes a table of names and numbers. A number listed twice prints as the first of its names. */
export function registry<const T extends Readonly<Record<string, number>>>(table: T): T {
  return Object.freeze(table);
}

/** Name of `number` in a registry, or undefined. Never looks at inherited members, whatever the wire says. */
export function knownName<T extends Readonly<Record<string, number>>>(table: T, number: number): (keyof T & string) | undefined {
  let byNumber = reversed.get(table);
  if (byNumber === undefined) {
    byNumber = new Map();
    for (const [name, value] of Object.entries(table)) if (!byNumber.has(value)) byNumber.set(value, name);
    reversed.set(table, byNumber);
  }
  return byNumber.get(number);
}

/** Name of `number` for people: the registered one, or the number itself. */
export function nameOf(table: Readonly<Record<string, number>>, number: number): string {
  return knownName(table, number) ?? String(number);
}

const reversed = new WeakMap<object, Map<number, string>>();
