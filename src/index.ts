/** The door `tanuki`: what an embedder needs to start a suite, to ask it, and to name what it says. The parts have doors of their own. */

export { AuthError, ConfigError, Fault, PeerError, SystemError, WireError } from './errors.ts';
export type { Event, Severity } from './event.ts';
export { EXIT } from './front-door/exit-codes.ts';
export { type ChildSa, type DaemonStatus, type SuiteStatus, showStatus, statusOf } from './front-door/status.ts';
export type { Instant, Machine, RandomBytes } from './machine.ts';
export { type ControlClient, type ControlRequest, controlClient } from './runtime/control.ts';
export { type DaemonName, defaultRunDir, type RunDir, runDir } from './runtime/run-dir.ts';
export type { Daemon } from './runtime/shell.ts';
export { type SuiteOptions, startSuite } from './suite.ts';
