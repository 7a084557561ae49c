/** The door `tanuki/spmd`: the policy manager as a machine without a socket. */

export type { SpmdEvent, SpmdEventName } from './events.ts';
export type { DatapathSettings, PolicyStatus, Reloaded, SpmdCommand, SpmdInput, SpmdOutput, SpmdStatus } from './ports.ts';
export { Spmd, type SpmdOptions } from './spmd.ts';
