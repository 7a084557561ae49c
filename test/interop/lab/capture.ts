/** What is on the wire between the hosts, by tcpdump: to be sure that what should be protected never passes in the clear. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Namespace } from './namespaces.ts';
import type { Program } from './process.ts';

/** ESP with and without UDP, IKE, and what every link has of its own: ARP, IPv6 neighbour and router discovery, multicast listener reports. */
const EXPECTED =
  'esp or udp port 500 or udp port 4500 or arp or (ip6 and (ip6[6] = 0 or (ip6[6] = 58 and ip6[40] >= 130 and ip6[40] <= 143)))';

/** A running capture of what is not protected. */
export class ClearTextWatch {
  readonly #program: Program;

  private constructor(program: Program) {
    this.#program = program;
  }

  /** Begins watching `device` for anything but ESP, IKE and neighbour discovery; `also` is a pcap filter of what else may pass. */
  static async start(host: Namespace, device: string, also?: string): Promise<ClearTextWatch> {
    const filter = `not (${EXPECTED}${also === undefined ? '' : ` or (${also})`})`;
    const program = host.spawn(['tcpdump', '-n', '-l', '--immediate-mode', '-i', device, filter]);
    await program.waitFor(({ stderr }) => stderr.includes('listening on'), 10, 'a listening tcpdump');
    return new ClearTextWatch(program);
  }

  /** Ends it: the packets it saw, one line each. */
  async stop(): Promise<readonly string[]> {
    await delay(500); // what was captured last is printed
    this.#program.kill('SIGINT');
    const { stdout } = await this.#program.exited;
    return stdout.split('\n').filter(Boolean);
  }
}
