/** The door `tanuki/pfkey`: a connected client for mobility daemons and others, and what it is made of: messages, their numbers, both ends' machines. */

export type { Ends, KmAddress, Policy, PolicyDirection, PolicySelector, Template } from './ipsec/policy.ts';
export { type Endpoint, IpAddress } from './net/address.ts';
export * from './pfkey/index.ts';
export {
  connectPfkey,
  type InstalledPolicy,
  type PfkeyConnection,
  type PfkeyConnectionOptions,
  PfkeyError,
  type PfkeyHandlers,
} from './runtime/pfkey-connection.ts';
