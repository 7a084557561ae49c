/** The door `tanuki/iked`: the IKEv2 machine without a socket, a file or a clock. */

export type { IkedEvent, IkedEventName } from './events.ts';
export { IKED_EVENTS } from './events.ts';
export { Iked, type IkedOptions } from './iked.ts';
export type { ChildSaStatus, IkedCommand, IkedInput, IkedOutput, IkedSettings, IkedStatus, IkeSaStatus } from './ports.ts';
