/** What the Kerberos layer hands to KINK: a ticket with its session key, and the one interface behind which tickets come from. */

import type { EncryptionKey } from './enctypes.ts';
import type { Principal } from './principal.ts';

/** A ticket of `client` for `server`. Times are seconds since 1970, by the KDC's clock. */
export interface Credential {
  readonly client: Principal;
  readonly server: Principal;
  /** The session key. */
  readonly key: EncryptionKey;
  /** DER of the Ticket. */
  readonly ticket: Uint8Array;
  readonly starttime: number;
  readonly endtime: number;
}

/** Where tickets come from. Nothing here blocks, and every promise settles within a bounded time. */
export interface CredentialSource {
  /** Which implementation it is, and why, for the log. */
  readonly backend: 'builtin' | 'node_krb5';
  readonly reason: string;
  /** A ticket for `peer`, kept until shortly before its end; with `fresh` a new one. Rejects with SystemError or KdcError. */
  serviceTicket(peer: Principal, options?: { readonly fresh?: boolean }): Promise<Credential>;
  /** Ends what is in flight and wipes the keys that are kept. */
  close(): void;
}

/** A ticket is refreshed this long before its end, or a tenth of its life where that is shorter. */
const MARGIN_SECONDS = 300;

/** Whether a ticket is still good for a transaction that begins now. */
export function lasts({ starttime, endtime }: Credential, wall: number): boolean {
  return wall / 1000 < endtime - Math.min(MARGIN_SECONDS, (endtime - starttime) / 10);
}
