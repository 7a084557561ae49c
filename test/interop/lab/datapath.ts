/** The datapath's process alone in a namespace: configured over control.sock, given static SAs and policies by a PF_KEY client, as spmd and iked would. */
import { appendFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Secret } from '../../../src/bytes/secret.ts';
import { encrKeymatBytes, INTEG } from '../../../src/crypto/transforms.ts';
import type { DatapathSettings, DatapathStatus, PingResult } from '../../../src/datapath-process/ports.ts';
import type { Policy, Template } from '../../../src/ipsec/policy.ts';
import type { Mode, SaParameters } from '../../../src/ipsec/sa.ts';
import { selectorOf, type TrafficSelector } from '../../../src/ipsec/selector.ts';
import { IpAddress } from '../../../src/net/address.ts';
import { parsePrefix } from '../../../src/net/prefix.ts';
import { saToAdd, saToGetspi, saToUpdate } from '../../../src/pfkey/convert.ts';
import { policyToSpdAdd } from '../../../src/pfkey/convert-policy.ts';
import { readSadb, SadbFramer, type SadbMessage, sadb, writeSadb } from '../../../src/pfkey/message.ts';
import { controlClient } from '../../../src/runtime/control.ts';
import { type Channel, connect } from '../../../src/runtime/unix-socket.ts';
import type { Namespace } from './namespaces.ts';
import { type Program, waitUntil } from './process.ts';

const CLI = fileURLToPath(new URL('../../../dist/src/datapath-process/cli.js', import.meta.url));

/** One protected pair of prefixes between two hosts, seen from nowhere: `left` and `right` are the same for both. */
export type StaticPair = {
  readonly mode: Mode;
  readonly encapsulated: boolean;
  readonly outer: { readonly left: string; readonly right: string };
  readonly inner: { readonly left: string; readonly right: string };
  readonly protocol?: number;
  /** Of the right one; absent: any. */
  readonly port?: number;
  readonly spi: number;
  /** What protects; absent: ESP with AES-GCM-128. Keys are made of the SPI. */
  readonly security?: Pick<SaParameters, 'protocol' | 'suite' | 'extendedSequence'>;
};

const ESP: Required<StaticPair>['security'] = {
  protocol: 'esp',
  suite: { encr: 'aes_gcm_16', keyBits: 128, integ: 'none' },
  extendedSequence: false,
};

export const ENCAP_PORT = 4500;

export function settings(overrides: Partial<DatapathSettings['datapath']> = {}): DatapathSettings {
  return {
    datapath: {
      device: 'tun',
      name: 'tanuki0',
      mtu: 0,
      encapPort: ENCAP_PORT,
      encapsulation: 'auto',
      addresses: [],
      cipher: 'auto',
      df: 'copy',
      pmtuFloor: 1280,
      mssClamp: true,
      icmpErrors: true,
      dscp: 'copy',
      decapDscp: false,
      spin: 0,
      dialect: 'tanuki',
      ahPadding: 'rfc',
      backend: 'embedded',
      ...overrides,
    },
    limits: { halfOpenSas: 100, cookieThreshold: 50, ikeSas: 1000, childSasPerIkeSa: 10, heldPacketsPerPolicy: 16 },
    logging: { level: 'info', destination: 'stderr', format: 'text' },
    keyPorts: [500, ENCAP_PORT],
    localAddresses: [],
    unmatched: 'bypass',
  };
}

/** One datapath process and a PF_KEY client of it. */
export class DatapathNode {
  readonly host: Namespace;
  readonly runDir: string;
  readonly program: Program;
  #pfkey: Channel | undefined;
  readonly #answers: SadbMessage[] = [];
  #seq = 0;

  private constructor(host: Namespace, runDir: string, program: Program) {
    this.host = host;
    this.runDir = runDir;
    this.program = program;
  }

  /** Starts and configures it. Returns what it says is wrong. */
  static async start(
    host: Namespace,
    runDir: string,
    configuration = settings(),
    prefix: readonly string[] = [],
  ): Promise<{ node: DatapathNode; problems: readonly string[] }> {
    mkdirSync(runDir, { recursive: true, mode: 0o700 });
    const argv = [...prefix, process.execPath, CLI, '--run-dir', runDir];
    const node = new DatapathNode(host, runDir, host.spawn(argv, { logFile: join(runDir, 'datapath.log') }));
    const { problems } = (await node.ask('configure', { settings: configuration })) as { problems: readonly string[] };
    const framer = new SadbFramer();
    node.#pfkey = await connect(join(runDir, 'pfkey.sock'), () => ({
      onData: (bytes) => {
        for (const message of framer.push(bytes)) node.#answers.push(readSadb(message));
      },
      onClose: (reason) => appendFileSync(join(runDir, 'datapath.log'), `PF_KEY client: ${reason}\n`),
    }));
    return { node, problems };
  }

  /** Asks over control.sock, which may take a moment to be there. */
  async ask(verb: string, members: Record<string, unknown> = {}): Promise<unknown> {
    const path = join(this.runDir, 'datapath.control.sock');
    const client = await waitUntil(
      () => controlClient(path).catch(() => undefined),
      10,
      () => `control.sock of ${this.host.name}; ${this.program.stderr}`,
    );
    try {
      return await client.ask(verb, members);
    } finally {
      client.close();
    }
  }

  async status(): Promise<DatapathStatus> {
    return (await this.ask('status')) as DatapathStatus;
  }

  async ping(address: string, source = ''): Promise<PingResult> {
    return (await this.ask('ping', { address, source, timeoutMs: 3000 })) as PingResult;
  }

  /** One request, answered without an error. */
  async request(message: SadbMessage): Promise<void> {
    const seq = ++this.#seq;
    this.#pfkey!.send(writeSadb({ ...message, seq, pid: process.pid }));
    const answer = await waitUntil(
      async () => this.#answers.find((one) => one.type === message.type && one.seq === seq),
      5,
      () => `an answer to ${message.type}`,
      2,
    );
    if (answer.errno !== 0) throw new Error(`${message.type} was refused with ${answer.errno}`);
  }

  async flush(): Promise<void> {
    await this.request(sadb('X_SPDFLUSH'));
    await this.request(sadb('FLUSH'));
  }

  /** SAs and policies of a pair, from this side of it. */
  async install(pair: StaticPair, side: 'left' | 'right'): Promise<void> {
    await this.installBundle([pair], side);
  }

  /** The same for several SAs for one packet, innermost first; the first says which traffic it is about. */
  async installBundle(pairs: readonly StaticPair[], side: Side): Promise<void> {
    const other = side === 'left' ? 'right' : 'left';
    for (const pair of pairs) {
      await this.request(saToAdd(saOf(pair, side, other)));
      // The SPI of an inbound SA is allotted here: so the datapath knows which way it goes.
      const inbound = saOf(pair, other, side);
      await this.request(saToGetspi(inbound, { min: inbound.spi, max: inbound.spi }));
      await this.request(saToUpdate(inbound));
    }
    await this.request(policyToSpdAdd(policyOf(pairs, side, other, 'outbound')));
    await this.request(policyToSpdAdd(policyOf(pairs, other, side, 'inbound')));
  }

  async stop(): Promise<void> {
    this.#pfkey?.close();
    await this.program.stop(5);
  }
}

type Side = 'left' | 'right';

export function saOf({ mode, encapsulated, outer, inner, spi, security = ESP }: StaticPair, from: Side, to: Side): SaParameters {
  const source = IpAddress.parse(outer[from])!;
  const destination = IpAddress.parse(outer[to])!;
  const number = from === 'left' ? spi : spi + 1;
  const end = (address: IpAddress) => ({ address, port: ENCAP_PORT });
  const { encr, keyBits, integ } = security.suite;
  return {
    spi: number,
    ...security,
    mode,
    source,
    destination,
    encrKey: new Secret(new Uint8Array(encrKeymatBytes(encr, keyBits)!).fill(number & 0xff)),
    integKey: integ === 'none' ? undefined : new Secret(new Uint8Array(INTEG[integ].keyBytes).fill(number & 0xff)),
    replayWindow: 1024,
    reqid: spi,
    encapsulation: encapsulated ? { source: end(source), destination: end(destination) } : undefined,
    lifetime: { soft: { seconds: 0, bytes: 0, packets: 0 }, hard: { seconds: 0, bytes: 0, packets: 0 } },
    selectors: mode === 'beet' ? { source: only(inner[from]), destination: only(inner[to]) } : { source: [], destination: [] },
  };
}

function only(prefix: string): TrafficSelector[] {
  return [selectorOf(parsePrefix(prefix)!)];
}

function policyOf(pairs: readonly StaticPair[], from: Side, to: Side, direction: 'inbound' | 'outbound'): Policy {
  const { inner, protocol = 0, port = 0 } = pairs[0]!;
  const templates = pairs.map(({ mode, outer, spi, security = ESP }): Template => {
    const endpoints =
      mode !== 'transport' ? { source: IpAddress.parse(outer[from])!, destination: IpAddress.parse(outer[to])! } : undefined;
    return { protocol: security.protocol, mode, level: 'unique', reqid: spi, endpoints };
  });
  return {
    id: 0,
    selector: {
      source: parsePrefix(inner[from])!,
      destination: parsePrefix(inner[to])!,
      protocol,
      sourcePort: from === 'right' ? port : 0,
      destinationPort: to === 'right' ? port : 0,
    },
    direction,
    action: 'protect',
    priority: 1000,
    templates,
  };
}
