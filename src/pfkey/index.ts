/** PF_KEY messages, their numbers, and the two ends that speak them. */

export * from './client.ts';
export * from './convert.ts';
export * from './convert-migrate.ts';
export * from './convert-policy.ts';
export * from './message.ts';
export * from './registry.ts';
export * from './rules.ts';
export * from './server.ts';
