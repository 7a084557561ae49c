/** The kernel's SAs and policies in the shape of `status`, and its own counters of drops. */

import { suiteText } from '../crypto/transforms.ts';
import type { EngineStatus } from '../datapath-process/engine-host.ts';
import { showPolicySelector } from '../ipsec/policy.ts';
import { nameOf } from './sa-table.ts';
import type { XfrmVerbs } from './verbs.ts';

export function statusOf({ sas, policies, kernel, gone, acquires }: XfrmVerbs): Omit<EngineStatus, 'drops' | 'clients'> {
  const infos = new Map(kernel.sas().map((info) => [nameOf(info), info]));
  const totalOf = (direction: 'inbound' | 'outbound') => {
    const own = sas.all.filter((sa) => (sa.direction ?? 'outbound') === direction);
    const sum = (of: 'packets' | 'bytes') =>
      own.reduce((total, { parameters }) => total + (infos.get(nameOf(parameters))?.current[of] ?? 0), gone[direction][of]);
    return { sas: own.length, packets: sum('packets'), bytes: sum('bytes') };
  };
  return {
    totals: { inbound: totalOf('inbound'), outbound: totalOf('outbound'), acquires: acquires.count, held: 0, fragments: 0 },
    device: { kind: 'kernel', name: 'xfrm', mtu: 0, offloads: [] },
    cipher: 'the kernel',
    sas: sas.all.map(({ parameters, direction, state }) => {
      const { spi, mode, source, destination, reqid, suite, encapsulation } = parameters;
      const info = infos.get(nameOf(parameters));
      return {
        spi: spi.toString(16).padStart(8, '0'),
        protocol: parameters.protocol,
        direction: direction ?? 'outbound',
        state: info === undefined ? 'dead' : state,
        mode,
        source: source.toString(),
        destination: destination.toString(),
        reqid,
        suite: suiteText(suite.encr, suite.keyBits, suite.integ),
        encapsulated: encapsulation !== undefined,
        packets: info?.current.packets ?? 0,
        bytes: info?.current.bytes ?? 0,
        sequence: (direction === 'inbound' ? info?.sequence?.inbound : info?.sequence?.outbound) ?? 0,
      };
    }),
    policies: policies.all.map(({ policy: { id, direction, selector, action, priority, templates } }) => ({
      id,
      direction,
      selector: showPolicySelector(selector),
      action,
      priority,
      reqid: templates[0]?.reqid ?? 0,
      packets: 0,
    })),
  };
}

/** `/proc/net/xfrm_stat`: one counter a line, under the kernel's names (XfrmInNoStates, …). */
export function kernelDrops(text: string): ReadonlyMap<string, number> {
  return new Map([...text.matchAll(/^(Xfrm\w+)\s+(\d+)$/gm)].map(([, name, count]) => [name!, Number(count)]));
}

/** The counters are the host's and older than this run. */
export function dropsSince(before: ReadonlyMap<string, number>, now: ReadonlyMap<string, number>): Record<string, number> {
  return Object.fromEntries([...now].map(([name, count]) => [name, count - (before.get(name) ?? 0)]));
}
