/** Before all tests: two arrays of the same octets are equal at once, where vitest would walk them key by key. Others it compares as ever. */

import { expect } from 'vitest';

expect.addEqualityTesters([
  (one: unknown, other: unknown): boolean | undefined => {
    if (!(one instanceof Uint8Array && other instanceof Uint8Array)) return undefined;
    return one.constructor === other.constructor && Buffer.compare(one, other) === 0 ? true : undefined;
  },
]);
