/** The six errors, sorted by whose fault they are. Deep code throws them; one place in each machine decides what follows. */

/** The bytes are not a message. `offset` is where in the input, `path` which part (`SA/proposal 1/transform 3`). */
export class WireError extends Error {
  override readonly name = 'WireError';
  readonly offset: number | undefined;
  readonly path: string;
  constructor(message: string, offset?: number, path = '') {
    super(`${path === '' ? '' : `${path}: `}${message}${offset === undefined ? '' : ` (at octet ${offset})`}`);
    this.offset = offset;
    this.path = path;
  }
}

/** A message that the protocol forbids or our policy refuses. `notify` is the type to answer with, `data` its notification data. */
export class PeerError extends Error {
  override readonly name = 'PeerError';
  readonly notify: string;
  readonly data: Uint8Array;
  constructor(notify: string, message: string, data: Uint8Array = new Uint8Array(0)) {
    super(message);
    this.notify = notify;
    this.data = data;
  }
}

/** The peer is not who it claims to be. On the wire it becomes AUTHENTICATION_FAILED and no detail. */
export class AuthError extends Error {
  override readonly name = 'AuthError';
}

/**
 * What the operator wrote is of no use: a policy file, the path of a run directory. Trying again does not help; another text does. The mistakes of
 * a policy file are found all at once (`src/config`), and are one error.
 */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

/** The world refused: a socket, a file, a privilege. `code` is the errno name where there is one. */
export class SystemError extends Error {
  override readonly name = 'SystemError';
  readonly code: string | undefined;
  constructor(message: string, code?: string) {
    super(message);
    this.code = code;
  }
}

/** An invariant of ours broke. */
export class Fault extends Error {
  override readonly name = 'Fault';
}

/** Closes a union in a `default:` branch: the compiler complains where a case is missing. */
export function never(value: never): never {
  throw new Fault(`unexpected ${JSON.stringify(value)}`);
}
