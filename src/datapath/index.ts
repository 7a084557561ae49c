/** The door `tanuki/datapath`: the ESP engine, for hosts that bring packets, time and a cipher. */

export * from './announce.ts';
export * from './datapath.ts';
export * from './drops.ts';
export * from './effects.ts';
export * from './explain.ts';
export * from './inspect.ts';
export * from './probe.ts';
export * from './slots.ts';
export * from './status.ts';
export * from './verbs.ts';
