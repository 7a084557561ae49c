/** Whether the kernel has ESP at all, found out by an SA that protects nothing. */

import { NONE } from '../bytes/bytes.ts';
import { Secret } from '../bytes/secret.ts';
import { UNLIMITED } from '../ipsec/lifetime.ts';
import type { SaParameters } from '../ipsec/sa.ts';
import { IpAddress } from '../net/address.ts';
import { type Kernel, unlessGone } from './kernel.ts';
import { kernelForm } from './sa-table.ts';

const HERE = IpAddress.parse('127.0.0.1')!;
/** Of those that nobody negotiates (RFC 4303 §2.1). */
const SPI = 255;

/** Throws SystemError, whose message names the embedded engine, where the kernel has no ESP. */
export function probe(kernel: Pick<Kernel, 'addSa' | 'deleteSa'>): void {
  const sa: SaParameters = {
    spi: SPI,
    protocol: 'esp',
    mode: 'transport',
    source: HERE,
    destination: HERE,
    suite: { encr: 'null_enc', keyBits: 0, integ: 'hmac_sha2_256' },
    encrKey: new Secret(NONE),
    integKey: new Secret(new Uint8Array(32)),
    extendedSequence: false,
    replayWindow: 0,
    reqid: 0,
    encapsulation: undefined,
    lifetime: { soft: UNLIMITED, hard: UNLIMITED },
    selectors: { source: [], destination: [] },
  };
  unlessGone(() => kernel.deleteSa(sa));
  kernel.addSa(kernelForm(sa));
  unlessGone(() => kernel.deleteSa(sa));
}
