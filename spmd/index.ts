/** The door `tanuki/spmd`: the policy manager as a machine without a socket. */

export type { DatapathSettings } from '../src/config/datapath-settings.ts';
export type { SpmdEvent, SpmdEventName } from './events.ts';
export type { PolicyStatus, Reloaded, SpmdCommand, SpmdInput, SpmdOutput, SpmdStatus } from './ports.ts';
export { Spmd, type SpmdOptions } from './spmd.ts';
