/** The door `tanuki/iked`: the machine of IKEv2 and IKEv1 without a socket, a file or a clock. */

export type { KeyCommand } from '../src/keying/ports.ts';
export type { ChildSaStatus } from '../src/keying/status.ts';
export type { IkedEvent, IkedEventName } from './events.ts';
export { IKED_EVENTS } from './events.ts';
export { Iked, type IkedOptions } from './iked.ts';
export type { IkedInput, IkedOutput, IkedSettings, IkedStatus, IkeSaStatus } from './ports.ts';
