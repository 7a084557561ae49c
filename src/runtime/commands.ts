/** Commands of control.sock on their way through a machine: each is a promise that its reply settles. */

/** A machine's reply to the command with this id. */
export type CommandReply =
  | { readonly id: number; readonly ok: true; readonly result: unknown }
  | { readonly id: number; readonly ok: false; readonly error: string };

export class Commands<Command> {
  readonly #put: (id: number, command: Command) => void;
  readonly #waiting = new Map<number, { resolve: (result: unknown) => void; reject: (error: Error) => void }>();
  #nextId = 1;

  constructor(put: (id: number, command: Command) => void) {
    this.#put = put;
  }

  /** Rejects with Error where the machine refuses it. */
  run(command: Command): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const id = this.#nextId++;
      this.#waiting.set(id, { resolve, reject });
      this.#put(id, command);
    });
  }

  answered(reply: CommandReply): void {
    const waiting = this.#waiting.get(reply.id);
    this.#waiting.delete(reply.id);
    if (reply.ok) waiting?.resolve(reply.result);
    else waiting?.reject(new Error(reply.error));
  }
}
