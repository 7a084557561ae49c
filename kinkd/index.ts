/** The door `tanuki/kinkd`: the KINK machine without a socket, a file or a clock. */

export type { KeyCommand } from '../src/keying/ports.ts';
export type { ChildSaStatus } from '../src/keying/status.ts';
export type { KinkdEvent, KinkdEventName } from './events.ts';
export { KINKD_EVENTS } from './events.ts';
export { Kinkd, type KinkdOptions } from './kinkd.ts';
export type { Credential } from './krb5/credential.ts';
export { Keytab, readKeytab } from './krb5/keytab.ts';
export type { AssociationStatus, KinkdInput, KinkdOutput, KinkdSettings, KinkdStatus } from './ports.ts';
