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
  /** Which implementation it is, for the log. */
  readonly backend: 'builtin' | 'node_krb5';
  /** A ticket for `peer`, kept until shortly before its end; with `fresh` a new one. Rejects with SystemError or KdcError. */
  serviceTicket(peer: Principal, options?: { readonly fresh?: boolean }): Promise<Credential>;
  /** Ends what is in flight and wipes the keys that are kept. */
  close(): void;
}

/** What the policy's `kerberos { … }` says. */
export interface KerberosSettings {
  readonly backend: 'auto' | 'builtin' | 'node_krb5';
  readonly realm: string | undefined;
  /** Tried in this order. */
  readonly kdcs: readonly { readonly host: string; readonly port: number }[];
  readonly keytab: string;
  readonly clockSkewMs: number;
}
