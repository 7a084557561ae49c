/** spmif: the interface of the key daemons to spmd. */

export * from './client.ts';
export * from './protocol.ts';
export * from './request.ts';
export * from './server.ts';
