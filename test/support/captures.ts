/** The recorded negotiations of ../shared/vectors/captures with the keys that their peers logged. */

import { existsSync, readFileSync } from 'node:fs';
import { fromHex } from '../../src/bytes/bytes.ts';
import { classify, type IpsecPacket, readPcap } from './pcap.ts';

export const CAPTURES = '../shared/vectors/captures';
export const IKEV2_CAPTURES = ['ss-ikev2-psk', 'ss-ikev2-gcm-x25519', 'ss-ikev2-child-rekey', 'ss-ikev2-natt'] as const;
/** False where the recordings are not at hand; tests that need them are skipped then. */
export const haveCaptures = existsSync(CAPTURES);
/** For the title of what is skipped. */
export const CAPTURES_REASON = haveCaptures ? '' : ` (skipped: ${CAPTURES} is absent)`;

/** What the peers logged of one IKE SA or ISAKMP SA: SPIs (cookies) as hexadecimal digits, keys under the RFC's names. */
export interface LoggedIkeSa {
  readonly SPIi: string;
  readonly SPIr: string;
  readonly keys: Readonly<Record<string, Uint8Array>>;
}

export interface Capture {
  readonly name: string;
  readonly packets: readonly IpsecPacket[];
  readonly ikeSas: readonly LoggedIkeSa[];
  /** Keys of the kernel's SAs by SPI; `integ` is empty with a combined-mode cipher. */
  readonly kernelSas: ReadonlyMap<number, { readonly encr: Uint8Array; readonly integ: Uint8Array }>;
  /** Shared secrets of the key exchanges that made children (in CREATE_CHILD_SA, in Quick Mode), in order. */
  readonly childSecrets: readonly Uint8Array[];
  readonly psk: string;
  readonly espFrames: number;
}

export function loadCapture(name: string): Capture {
  const text = readFileSync(`${CAPTURES}/${name}.md`, 'utf8');
  const ikeSas: { SPIi: string; SPIr: string; keys: Record<string, Uint8Array> }[] = [];
  for (const line of text.split('\n')) {
    const sa = /^- IKEv[12] SA at node a .*SPIs ([0-9a-f]+)\/([0-9a-f]+);/.exec(line);
    if (sa !== null) ikeSas.push({ SPIi: sa[1]!, SPIr: sa[2]!, keys: {} });
    const key = /^ {2}- ([^=]+) = `([0-9a-f]+)`/.exec(line);
    if (key !== null) ikeSas.at(-1)!.keys[key[1]!] = octets(key[2]!);
  }
  return {
    name,
    packets: readPcap(`${CAPTURES}/${name}.pcap`).map(classify),
    ikeSas,
    kernelSas: kernelSasOf(text),
    childSecrets: [...text.matchAll(/^- a: DH secret = ([0-9a-f]+)$/gm)].map((match) => octets(match[1]!)),
    psk: /secret = "([^"]+)"/.exec(text)![1]!,
    espFrames: Number(/ESP frames: (\d+)/.exec(text)![1]),
  };
}

/** racoon2's KINK: its packets, the session key of the ticket, the service keys as a keytab, and what the kernels got. */
export interface KinkCapture extends Pick<Capture, 'packets' | 'kernelSas' | 'espFrames'> {
  readonly sessionKey: Uint8Array;
  /** Keytab files by node. */
  readonly keytabs: Readonly<Record<'a' | 'b', Uint8Array>>;
}

export function loadKinkCapture(name = 'kink-transport'): KinkCapture {
  const text = readFileSync(`${CAPTURES}/${name}.md`, 'utf8');
  const keytab = (node: 'a' | 'b') => new Uint8Array(readFileSync(`${CAPTURES}/${name}.keys/${node}.keytab`));
  return {
    packets: readPcap(`${CAPTURES}/${name}.pcap`).map(classify),
    kernelSas: kernelSasOf(text),
    espFrames: Number(/ESP frames: (\d+)/.exec(text)![1]),
    sessionKey: octets(/session key etype 18 = ([0-9a-f]+)/.exec(text)![1]!),
    keytabs: { a: keytab('a'), b: keytab('b') },
  };
}

/** The rows of the table that the kernels' SAs were written down in. */
function kernelSasOf(text: string): Map<number, { encr: Uint8Array; integ: Uint8Array }> {
  const sas = new Map<number, { encr: Uint8Array; integ: Uint8Array }>();
  for (const line of text.split('\n')) {
    const cells = line.split('|').map((cell) => cell.trim());
    if (cells[3] !== 'esp' || !cells[7]?.startsWith('0x')) continue;
    sas.set(Number(cells[4]), { encr: octets(cells[7].slice(2)), integ: octets((cells[9] ?? '').replace(/^0x/, '')) });
  }
  return sas;
}

function octets(digits: string): Uint8Array {
  return fromHex(digits) ?? new Uint8Array(0);
}
