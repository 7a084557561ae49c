/** The client end of strongSwan's VICI: length-framed requests and event streams over its UNIX socket. */
import { connect, type Socket } from 'node:net';

/** A VICI message: values are strings, lists or sections. */
export type Message = { [name: string]: string | string[] | Message };

const PACKET = {
  CMD_REQUEST: 0,
  CMD_RESPONSE: 1,
  CMD_UNKNOWN: 2,
  EVENT_REGISTER: 3,
  EVENT_UNREGISTER: 4,
  EVENT_CONFIRM: 5,
  EVENT_UNKNOWN: 6,
  EVENT: 7,
};
const ELEMENT = { SECTION_START: 1, SECTION_END: 2, KEY_VALUE: 3, LIST_START: 4, LIST_ITEM: 5, LIST_END: 6 };

type Packet = { readonly type: number; readonly name: string; readonly message: Message };

/** One connection to a charon. Commands run one after the other; `close` ends it. */
export class Vici {
  readonly #socket: Socket;
  readonly #waiting: ((packet: Packet | Error) => void)[] = [];
  #received = Buffer.alloc(0);
  #onEvent: (packet: Packet) => void = () => {};
  #turn: Promise<unknown> = Promise.resolve();

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', (data) => this.#take(data));
    const end = (error?: Error) => {
      for (const settle of this.#waiting.splice(0)) settle(error ?? new Error('charon closed the VICI connection'));
    };
    socket.on('error', end).on('close', () => end());
  }

  static open(path: string): Promise<Vici> {
    return new Promise((resolve, reject) => {
      const socket = connect(path).once('error', reject);
      socket.once('connect', () => resolve(new Vici(socket.off('error', reject))));
    });
  }

  close(): void {
    this.#socket.destroy();
  }

  /** Runs a command; `stream` names the event whose messages it also gives. Fails where charon answers `success: no`. */
  command(name: string, message: Message = {}, stream?: string): Promise<{ reply: Message; events: Message[] }> {
    const turn = this.#turn.then(async () => {
      const events: Message[] = [];
      this.#onEvent = ({ message: event }) => events.push(event);
      if (stream !== undefined) await this.#exchange(PACKET.EVENT_REGISTER, stream, {});
      const { type, message: reply } = await this.#exchange(PACKET.CMD_REQUEST, name, message);
      if (stream !== undefined) await this.#exchange(PACKET.EVENT_UNREGISTER, stream, {});
      if (type !== PACKET.CMD_RESPONSE) throw new Error(`charon does not know the VICI command ${name}`);
      if (reply.success === 'no') throw new Error(`charon refused ${name}: ${String(reply.errmsg ?? 'no reason given')}`);
      return { reply, events };
    });
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  #exchange(type: number, name: string, message: Message): Promise<Packet> {
    return new Promise((resolve, reject) => {
      this.#waiting.push((answer) => (answer instanceof Error ? reject(answer) : resolve(answer)));
      const label = Buffer.from(name);
      const body = Buffer.concat([Buffer.from([type, label.length]), label, encode(message)]);
      const frame = Buffer.alloc(4 + body.length);
      frame.writeUInt32BE(body.length, 0);
      body.copy(frame, 4);
      if (this.#socket.destroyed) reject(new Error('the VICI connection is closed'));
      else this.#socket.write(frame);
    });
  }

  #take(data: Buffer): void {
    this.#received = Buffer.concat([this.#received, data]);
    while (this.#received.length >= 4) {
      const length = this.#received.readUInt32BE(0);
      if (this.#received.length < 4 + length) return;
      const body = this.#received.subarray(4, 4 + length);
      this.#received = this.#received.subarray(4 + length);
      const type = body[0]!;
      const named = type === PACKET.EVENT;
      const end = named ? 2 + body[1]! : 1;
      const packet = { type, name: named ? body.toString('utf8', 2, end) : '', message: decode(body.subarray(end)) };
      if (named) this.#onEvent(packet);
      else this.#waiting.shift()?.(packet);
    }
  }
}

function encode(message: Message): Buffer {
  const name = (type: number, text: string) => Buffer.concat([Buffer.from([type, Buffer.byteLength(text)]), Buffer.from(text)]);
  const value = (text: string) => {
    const octets = Buffer.from(text);
    return Buffer.concat([Buffer.from([octets.length >> 8, octets.length & 255]), octets]);
  };
  const parts: Buffer[] = [];
  for (const [key, item] of Object.entries(message)) {
    if (typeof item === 'string') parts.push(name(ELEMENT.KEY_VALUE, key), value(item));
    else if (Array.isArray(item)) {
      parts.push(name(ELEMENT.LIST_START, key));
      for (const text of item) parts.push(Buffer.from([ELEMENT.LIST_ITEM]), value(text));
      parts.push(Buffer.from([ELEMENT.LIST_END]));
    } else parts.push(name(ELEMENT.SECTION_START, key), encode(item), Buffer.from([ELEMENT.SECTION_END]));
  }
  return Buffer.concat(parts);
}

function decode(data: Buffer): Message {
  let at = 0;
  const take = (lengthBytes: number) => {
    const start = at + lengthBytes;
    at = start + data.readUIntBE(at, lengthBytes);
    return data.toString('utf8', start, at);
  };
  const name = () => take(1);
  const value = () => take(2);
  const section = (): Message => {
    const message: Message = {};
    while (at < data.length) {
      const type = data[at++]!;
      if (type === ELEMENT.SECTION_END) break;
      if (type === ELEMENT.SECTION_START) {
        const key = name();
        message[key] = section();
      } else if (type === ELEMENT.KEY_VALUE) {
        const key = name();
        message[key] = value();
      } else if (type === ELEMENT.LIST_START) {
        const list: string[] = [];
        message[name()] = list;
        while (data[at++] === ELEMENT.LIST_ITEM) list.push(value());
      } else throw new Error(`VICI: expected an element type of 1 to 4, found ${type} at octet ${at - 1}`);
    }
    return message;
  };
  return section();
}
