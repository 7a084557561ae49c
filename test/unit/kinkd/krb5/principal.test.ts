import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parsePrincipal, samePrincipal, showPrincipal, ticketGranter } from '../../../../kinkd/krb5/principal.ts';
import { ConfigError } from '../../../../src/errors.ts';

test.each([
  ['kink/hosta@KINK.TEST', ['kink', 'hosta'], 'KINK.TEST'],
  ['alice', ['alice'], 'DEFAULT'],
  ['kink/a/b@R', ['kink', 'a', 'b'], 'R'],
  ['a\\@b\\/c\\\\d@R', ['a@b/c\\d'], 'R'],
  ['a\\nb@R/S', ['a\nb'], 'R/S'],
])('%s', (text, components, realm) => {
  expect(parsePrincipal(text, 'DEFAULT')).toMatchObject({ components, realm });
});

test.each([
  ['kink/hosta', 'no realm; write kink/hosta@REALM'],
  ['a@b@c', 'two realms'],
  ['kink/@R', 'an empty part'],
  ['@R', 'an empty part'],
  ['a@', 'an empty part'],
  ['a\\', 'ends with a backslash'],
])('refuses %s: %s', (text, problem) => {
  expect(() => parsePrincipal(text)).toThrow(ConfigError);
  expect(() => parsePrincipal(text)).toThrow(problem);
});

test('what is shown is parsed again', () => {
  const part = fc.string({ minLength: 1, unit: fc.constantFrom('a', '/', '@', '\\', '\n', '\t', '\b', '\0', 'n', '0', 'é') });
  fc.assert(
    fc.property(fc.array(part, { minLength: 1, maxLength: 4 }), part, (components, realm) => {
      const principal = { components, realm, nameType: 0 };
      return samePrincipal(parsePrincipal(showPrincipal(principal)), principal);
    }),
  );
});

test('names are compared without their type, and in every part', () => {
  const tgs = ticketGranter('A');
  expect(samePrincipal(tgs, parsePrincipal('krbtgt/A@A'))).toBe(true);
  for (const other of ['krbtgt/A@B', 'krbtgt/B@A', 'krbtgt@A', 'krbtgt/A/A@A'])
    expect(samePrincipal(tgs, parsePrincipal(other))).toBe(false);
});
