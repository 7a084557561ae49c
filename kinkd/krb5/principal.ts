/** Principals (RFC 4120 §6) and how they are written: RFC 1964 §2.1.3, `kink/host.example@REALM`. */

import { ConfigError } from '../../src/errors.ts';

/** Name types of RFC 4120 §6.2, for writing only: they take no part in comparisons. */
export const NAME_TYPE = { PRINCIPAL: 1, SRV_INST: 2, SRV_HST: 3 } as const;

export interface Principal {
  readonly components: readonly string[];
  readonly realm: string;
  readonly nameType: number;
}

/** Reads a written principal; without `@REALM` it is of `defaultRealm`. Throws ConfigError. */
export function parsePrincipal(text: string, defaultRealm?: string): Principal {
  const parts: string[] = [''];
  let realm: number | undefined;
  for (let at = 0; at < text.length; at++) {
    const char = text[at]!;
    if (char === '\\') {
      at += 1;
      if (at === text.length)
        throw new ConfigError(`the principal ${text} ends with a backslash, which must stand before a character`);
      parts[parts.length - 1] += ESCAPED[text[at]!] ?? text[at]!;
    } else if (char === '@') {
      if (realm !== undefined) throw new ConfigError(`the principal ${text} has two realms; write \\@ for an @ within a name`);
      realm = parts.push('') - 1;
    } else if (char === '/' && realm === undefined) parts.push('');
    else parts[parts.length - 1] += char;
  }
  const components = realm === undefined ? parts : parts.slice(0, realm);
  const named = realm === undefined ? defaultRealm : parts[realm];
  if (named === undefined) throw new ConfigError(`the principal ${text} has no realm; write ${text}@REALM`);
  if (named === '' || components.includes(''))
    throw new ConfigError(`the principal ${text} has an empty part; write name/instance@REALM`);
  return { components, realm: named, nameType: components.length > 1 ? NAME_TYPE.SRV_HST : NAME_TYPE.PRINCIPAL };
}

/** As it is written, with escapes where they are needed. */
export function showPrincipal({ components, realm }: Principal): string {
  return `${components.map(escaped).join('/')}@${escaped(realm)}`;
}

/** Equality of realm and components; the name type is a hint only (RFC 4120 §6.2). */
export function samePrincipal(a: Principal, b: Principal): boolean {
  return (
    a.realm === b.realm &&
    a.components.length === b.components.length &&
    a.components.every((part, i) => part === b.components[i])
  );
}

/** The ticket-granting service of `realm` for clients of `of`, RFC 4120 §7.3. */
export function ticketGranter(realm: string, of = realm): Principal {
  return { components: ['krbtgt', realm], realm: of, nameType: NAME_TYPE.SRV_INST };
}

const ESCAPED: Readonly<Record<string, string>> = { n: '\n', t: '\t', b: '\b', '0': '\0' };
const ESCAPES: Readonly<Record<string, string>> = { '\n': '\\n', '\t': '\\t', '\b': '\\b', '\0': '\\0' };

function escaped(part: string): string {
  return part.replace(/[\\/@\n\t\b\0]/g, (char) => ESCAPES[char] ?? `\\${char}`);
}
