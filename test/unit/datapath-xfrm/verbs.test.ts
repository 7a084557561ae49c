import { describe, expect, test } from 'vitest';
import { Secret } from '../../../src/bytes/secret.ts';
import { XfrmVerbs } from '../../../src/datapath-xfrm/verbs.ts';
import { SystemError } from '../../../src/errors.ts';
import type { Policy } from '../../../src/ipsec/policy.ts';
import { selectorOf as trafficSelectorOf } from '../../../src/ipsec/selector.ts';
import { saIdTo, saStateTo, saToAdd, saToGetspi, saToUpdate } from '../../../src/pfkey/convert.ts';
import { type Migrate, migrateToSadb } from '../../../src/pfkey/convert-migrate.ts';
import {
  acquireFailed,
  policyIdTo,
  policyToSpdAdd,
  policyToSpdUpdate,
  readAcquire,
  readExpire,
  readNewMapping,
} from '../../../src/pfkey/convert-policy.ts';
import { SadbError, sadb } from '../../../src/pfkey/message.ts';
import { ERRNO, SADB_SASTATE, SADB_SATYPE } from '../../../src/pfkey/registry.ts';
import { HOLD_MS } from '../../../src/pfkey/rules.ts';
import type { XfrmPolicyInfo } from '../../../src/runtime/netlink/xfrm-policy.ts';
import { FakeKernel } from '../../support/fake-kernel.ts';
import { at, copyOf, ip, NOW, policyOf, saOf, selectorOf, templateOf } from '../datapath/pair.ts';

function verbsOf() {
  const kernel = new FakeKernel();
  return { kernel, verbs: new XfrmVerbs(kernel) };
}

const RANGE = { min: 0x1000, max: 0x2000 };
const SA = saOf();
const tunnel = () => templateOf({ endpoints: { source: SA.source, destination: SA.destination } });
const ID = { spi: SA.spi, protocol: 'esp', destination: SA.destination } as const;
const add = (over = {}) => saToAdd({ ...copyOf(SA), ...over });
const outbound = (over: Partial<Policy> = {}) => policyOf({ direction: 'outbound', templates: [tunnel()], ...over });

describe('SAs', () => {
  test('GETSPI asks the kernel, UPDATE completes it, and the keys are the kernel’s alone', () => {
    const { kernel, verbs } = verbsOf();
    const { reply } = verbs.handle({ ...saToGetspi(SA, RANGE, 5), pid: 7 }, NOW);
    const spi = reply![0]!.sa!.spi;
    expect(reply![0]).toMatchObject({ type: 'GETSPI', seq: 5, pid: 7, sa: { state: SADB_SASTATE.LARVAL } });
    expect(kernel.larvals.size).toBe(1);
    const message = saToUpdate(copyOf(saOf({ spi })));
    const { broadcast } = verbs.handle(message, NOW);
    expect(broadcast![0]).toMatchObject({ type: 'UPDATE', sa: { spi, state: SADB_SASTATE.MATURE }, keyEncrypt: undefined });
    expect(message.keyEncrypt!.key.reveal().every((octet) => octet === 0)).toBe(true);
    expect(kernel.larvals.size).toBe(0);
    expect([...kernel.installed.values()].map((sa) => [sa.spi, sa.ours])).toEqual([[spi, true]]);
  });

  test('in BEET mode the kernel takes the inner addresses from the selector, however many were negotiated of them', () => {
    const { kernel, verbs } = verbsOf();
    const of = (text: string) => [
      trafficSelectorOf({ address: ip(text), length: 32 }, 1),
      trafficSelectorOf({ address: ip(text), length: 32 }),
    ];
    const selectors = { source: of('10.1.0.1'), destination: of('10.2.0.2') };
    verbs.handle(add({ mode: 'beet', selectors }), NOW);
    const host = (text: string) => ({ address: ip(text), length: 32 });
    expect([...kernel.installed.values()]).toMatchObject([
      { mode: 'beet', selector: { source: host('10.1.0.1'), destination: host('10.2.0.2'), protocol: 0 } },
    ]);
    expect(() => verbs.handle(add({ mode: 'beet', spi: 7 }), NOW)).toThrow(/one inner address at each end/);
  });

  test('an SPI that the kernel has given up is still ours', () => {
    const { kernel, verbs } = verbsOf();
    const spi = verbs.handle(saToGetspi(SA, RANGE), NOW).reply![0]!.sa!.spi;
    kernel.larvals.clear();
    verbs.handle(saToUpdate(copyOf(saOf({ spi }))), NOW);
    expect(kernel.installed.size).toBe(1);
  });

  test('an SPI that nobody completes expires by our clock', () => {
    const { kernel, verbs } = verbsOf();
    const spi = verbs.handle(saToGetspi(SA, RANGE), NOW).reply![0]!.sa!.spi;
    expect(verbs.wakeAt()).toBe(at(30_000).mono);
    verbs.tick(at(30_000));
    expect(readExpire(verbs.drain()[0]!)).toMatchObject({ hard: true, spi });
    expect([kernel.larvals.size, verbs.wakeAt()]).toEqual([0, undefined]);
  });

  test('what the kernel refuses is refused, with its reason, and leaves nothing', () => {
    const { kernel, verbs } = verbsOf();
    const text = 'add SA: protocol not supported (EPROTONOSUPPORT); use the embedded engine';
    kernel.refusal = new SystemError(text, 'EPROTONOSUPPORT');
    expect(() => verbs.handle(add(), NOW)).toThrow(/EPROTONOSUPPORT.*use the embedded engine.*ENOSYS/);
    expect(() => verbs.handle(policyToSpdAdd(outbound()), NOW)).toThrow(/embedded engine/);
    kernel.refusal = undefined;
    expect(() => verbs.handle(saIdTo('GET', ID, SA.source), NOW)).toThrow(/ESRCH/);
    verbs.handle(add(), NOW);
    expect(() => verbs.handle(add(), NOW)).toThrow(/EEXIST/);
    expect(() => verbs.handle({ ...add(), satype: SADB_SATYPE.RSVP }, NOW)).toThrow(/IPComp \(9\), not for SAs of type 5/);
  });

  test('counters come from the kernel, and what somebody took out of it is not shown', () => {
    const { kernel, verbs } = verbsOf();
    verbs.handle(add(), NOW);
    for (const sa of kernel.installed.values())
      sa.current = { bytes: 840, packets: 10, added: 1_700_000_000, used: 1_700_000_009 };
    const current = { allocations: 10, bytes: 840, usetime: 1_700_000_009 };
    expect(verbs.handle(saIdTo('GET', ID, SA.source), NOW).reply![0]).toMatchObject({ lifetimeCurrent: current });
    expect(verbs.handle(sadb('DUMP'), NOW).reply).toMatchObject([{ seq: 0, lifetimeCurrent: current }]);
    kernel.installed.clear();
    expect(verbs.handle(sadb('DUMP'), NOW)).toEqual({ error: ERRNO.ENOENT });
  });

  test('UPDATE moves a running SA, changes its ports in place, and takes no other keys', () => {
    const { kernel, verbs } = verbsOf();
    verbs.handle(add(), NOW);
    const newDestination = { protocol: 0, prefixLength: 32, address: ip('192.0.2.99'), port: 0 };
    const otherKey = new Secret(new Uint8Array(SA.encrKey.length).fill(9));
    expect(() => verbs.handle(saToUpdate({ ...copyOf(SA), encrKey: otherKey }), NOW)).toThrow(/keys of a running SA/);
    verbs.handle({ ...saToUpdate(copyOf(SA)), newDestination }, NOW);
    expect([...kernel.installed.values()].map(({ destination }) => `${destination}`)).toEqual(['192.0.2.99']);
    // By its former name too.
    expect(verbs.handle(saIdTo('GET', ID, SA.source), NOW).reply![0]!.destination!.address.toString()).toBe('192.0.2.99');
    kernel.refusal = new SystemError('no memory', 'ENOMEM');
    const back = { ...newDestination, address: ip('192.0.2.98') };
    expect(() =>
      verbs.handle({ ...saToUpdate({ ...copyOf(SA), destination: ip('192.0.2.99') }), newDestination: back }, NOW),
    ).toThrow(/ENOMEM/);
    // The kernel lost it between deleting and adding: that is told.
    expect(readExpire(verbs.drain()[0]!)).toMatchObject({ hard: true, spi: SA.spi });
  });

  test('IPComp has a CPI, and neither sequence numbers nor UDP', () => {
    const { kernel, verbs } = verbsOf();
    const suite = { encr: 'null_enc', keyBits: 0, integ: 'none' } as const;
    const ends = { source: { address: SA.source, port: 4500 }, destination: { address: SA.destination, port: 4500 } };
    const comp = { protocol: 'ipcomp', suite, replayWindow: 64, extendedSequence: true, encapsulation: ends } as const;
    expect(() => verbs.handle(add({ ...comp, spi: 0x10000 }), NOW)).toThrow(/CPI has 16 bits/);
    verbs.handle(add({ ...comp, spi: 0x1234 }), NOW);
    expect([...kernel.installed.values()]).toMatchObject([
      { protocol: 'ipcomp', spi: 0x1234, replayWindow: 0, extendedSequence: false, encapsulation: undefined },
    ]);
  });

  test('on hold an outbound SA is not in the kernel, and it is again when it is let go or its time is over', () => {
    const { kernel, verbs } = verbsOf();
    verbs.handle(add(), NOW);
    const told = verbs.handle(saStateTo('on-hold', ID, SA.source), NOW).broadcast!;
    expect(told).toMatchObject([{ type: 'UPDATE', sa: { spi: SA.spi, state: SADB_SASTATE.LARVAL } }]);
    expect(kernel.installed.size).toBe(0);
    expect(verbs.handle(sadb('DUMP'), NOW).reply).toHaveLength(1);
    verbs.resynchronise();
    expect(verbs.drain()).toEqual([]);
    verbs.handle(saStateTo('mature', ID, SA.source), NOW);
    expect(kernel.installed.size).toBe(1);
    verbs.handle(saStateTo('on-hold', ID, SA.source), NOW);
    expect(verbs.wakeAt()).toBe(NOW.mono + HOLD_MS);
    verbs.tick(at(HOLD_MS));
    expect(kernel.installed.size).toBe(1);
    verbs.handle(saStateTo('on-hold', ID, SA.source), NOW);
    verbs.handle(saIdTo('DELETE', ID, SA.source), NOW);
    expect(verbs.wakeAt()).toBeUndefined();
  });

  test('one on hold that the kernel does not take back has expired; what comes in is never on hold', () => {
    const { kernel, verbs } = verbsOf();
    const spi = verbs.handle(saToGetspi(SA, RANGE), NOW).reply![0]!.sa!.spi;
    verbs.handle(saToUpdate({ ...copyOf(SA), spi }), NOW);
    expect(() => verbs.handle(saStateTo('on-hold', { ...ID, spi }, SA.source), NOW)).toThrow(/inbound/);
    verbs.handle(add(), NOW);
    verbs.handle(saStateTo('on-hold', ID, SA.source), NOW);
    kernel.refusal = new SystemError('put', 'ENOMEM');
    expect(() => verbs.handle(saStateTo('mature', ID, SA.source), NOW)).toThrow(SadbError);
    expect(verbs.drain()).toMatchObject([{ type: 'EXPIRE', sa: { spi: SA.spi } }]);
  });

  test('FLUSH and DELETE take them out of the kernel', () => {
    const { kernel, verbs } = verbsOf();
    verbs.handle(add(), NOW);
    verbs.handle(add({ spi: 0x77777 }), NOW);
    expect(verbs.handle(saIdTo('DELETE', ID, SA.source), NOW).broadcast).toHaveLength(1);
    verbs.handle(saToGetspi(SA, RANGE), NOW);
    expect(verbs.handle(sadb('FLUSH'), NOW)).toMatchObject({ broadcast: [{ type: 'FLUSH' }] });
    expect([kernel.installed.size, kernel.larvals.size]).toEqual([0, 0]);
  });
});

describe('policies', () => {
  test('an inbound one holds for what is forwarded too, and goes with its companion', () => {
    const { kernel, verbs } = verbsOf();
    const inbound = outbound({ direction: 'inbound' });
    const { broadcast } = verbs.handle(policyToSpdAdd(inbound), NOW);
    expect(kernel.spd.map(({ direction }) => direction).sort()).toEqual(['forward', 'inbound']);
    expect(verbs.handle(sadb('X_SPDDUMP'), NOW).reply).toHaveLength(1);
    // One of its own takes the companion's place, and gives it back.
    const own = verbs.handle(policyToSpdAdd({ ...inbound, direction: 'forward', action: 'discard', templates: [] }), NOW);
    expect(kernel.spd.find(({ direction }) => direction === 'forward')!.action).toBe('discard');
    verbs.handle(policyIdTo('X_SPDDELETE2', own.broadcast![0]!.policy!.id), NOW);
    expect(kernel.spd.find(({ direction }) => direction === 'forward')!.action).toBe('protect');
    verbs.handle(policyIdTo('X_SPDDELETE2', broadcast![0]!.policy!.id), NOW);
    expect(kernel.spd).toEqual([]);
  });

  test('a unique tunnel follows the ends of its SAs, and returns', () => {
    const { kernel, verbs } = verbsOf();
    verbs.handle(policyToSpdAdd(outbound()), NOW);
    const ends = () => `${kernel.spd[0]!.templates[0]!.endpoints!.destination}`;
    const asked = ends();
    verbs.handle(add({ destination: ip('198.51.100.7') }), NOW);
    expect(ends()).toBe('198.51.100.7');
    verbs.handle(saIdTo('DELETE', { ...ID, destination: ip('198.51.100.7') }, SA.source), NOW);
    expect(ends()).toBe(asked);
  });

  test('a predecessor’s policies stay until they are put again or nobody wants them', () => {
    const { kernel, verbs } = verbsOf();
    kernel.addPolicy(outbound(), {});
    kernel.addPolicy(outbound({ direction: 'inbound' }), {});
    const left = kernel.policies();
    verbs.policies.adopt(left);
    verbs.handle(policyToSpdAdd(outbound()), NOW);
    expect(kernel.spd).toHaveLength(2);
    verbs.policies.sweep();
    expect(kernel.spd.map(({ direction }) => direction)).toEqual(['outbound']);
  });

  test('a predecessor’s SAs go on and are found by DUMP; those that no policy asks for by then go', () => {
    const { kernel, verbs: crashed } = verbsOf();
    const spi = crashed.handle(saToGetspi(SA, RANGE), NOW).reply![0]!.sa!.spi;
    crashed.handle(saToUpdate({ ...copyOf(SA), spi, reqid: 7 }), NOW);
    crashed.handle(add({ reqid: 7 }), NOW);
    crashed.handle(add({ spi: 0x4444, reqid: 8 }), NOW);
    const verbs = new XfrmVerbs(kernel);
    verbs.adopt({ sas: kernel.sas(), policies: kernel.policies() }, NOW);
    const dump = () => verbs.handle(sadb('DUMP'), NOW).reply!.map(({ sa }) => sa!.spi);
    expect(dump().sort()).toEqual([spi, SA.spi, 0x4444].sort());
    expect(verbs.sas.all.map(({ direction }) => direction)).toEqual(['inbound', undefined, undefined]);
    expect(verbs.sas.all.map(({ parameters: { suite } }) => suite)).toEqual([SA.suite, SA.suite, SA.suite]);
    verbs.handle(policyToSpdAdd(outbound({ templates: [{ ...tunnel(), level: 'unique', reqid: 7 }] })), NOW);
    verbs.sweep();
    expect(dump().sort()).toEqual([spi, SA.spi].sort());
    expect(kernel.installed.size).toBe(2);
  });

  test('SPDADD of what is there is EEXIST, SPDUPDATE replaces it', () => {
    const { verbs } = verbsOf();
    verbs.handle(policyToSpdAdd(outbound()), NOW);
    expect(() => verbs.handle(policyToSpdAdd(outbound()), NOW)).toThrow(/EEXIST/);
    verbs.handle(policyToSpdUpdate(outbound({ action: 'discard', templates: [] })), NOW);
    expect(verbs.handle(sadb('X_SPDDUMP'), NOW).reply).toMatchObject([{ policy: { type: 0 } }]);
  });

  test('X_MIGRATE moves all SAs of the pair and the policy', () => {
    const { kernel, verbs } = verbsOf();
    const template = tunnel();
    verbs.handle(policyToSpdAdd(outbound()), NOW);
    verbs.handle(add(), NOW);
    verbs.handle(add({ spi: 0x4242 }), NOW);
    const to = { source: ip('192.0.2.55'), destination: template.endpoints!.destination };
    const { protocol, mode, reqid } = template;
    const request: Migrate = {
      selector: outbound().selector,
      direction: 'outbound',
      movements: [{ protocol, mode, reqid, old: template.endpoints!, new: to }],
    };
    const { moved, broadcast } = verbs.handle(migrateToSadb(request), NOW);
    expect(moved).toHaveLength(2);
    expect(broadcast).toMatchObject([{ type: 'X_MIGRATE' }]);
    expect([...kernel.installed.values()].map(({ source }) => `${source}`)).toEqual(['192.0.2.55', '192.0.2.55']);
    expect(`${kernel.spd[0]!.templates[0]!.endpoints!.source}`).toBe('192.0.2.55');
    // Made by who has not heard of it.
    verbs.handle(add({ spi: 0x4343 }), at(10));
    expect([...kernel.installed.values()].at(-1)!.source.toString()).toBe('192.0.2.55');
    expect(() => verbs.handle(migrateToSadb({ ...request, selector: selectorOf({ protocol: 17 }) }), NOW)).toThrow(/ENOENT/);
  });
});

describe('what the kernel tells', () => {
  const acquire = (policy: Policy, seq: number) => ({
    kind: 'acquire' as const,
    acquire: {
      seq,
      protocol: 'esp' as const,
      source: SA.source,
      destination: SA.destination,
      selector: undefined,
      policy: { ...policy, ours: true, current: { bytes: 0, packets: 0, added: 0, used: 0 } } satisfies XfrmPolicyInfo,
    },
  });

  test('ACQUIRE, once for each, and again for who registers later', () => {
    const { verbs } = verbsOf();
    const id = verbs.handle(policyToSpdAdd(outbound()), NOW).broadcast![0]!.policy!.id;
    verbs.heard([acquire({ ...outbound(), id }, 9), acquire({ ...outbound(), id: 4711 }, 10)], NOW);
    const told = verbs.drain();
    expect(told.map(readAcquire)).toMatchObject([{ seq: 9, policyId: id, protocol: 'esp' }]);
    verbs.registered();
    expect(verbs.drain()).toEqual(told);
    verbs.handle(acquireFailed({ seq: 9, protocol: 'esp' }, ERRNO.ETIMEDOUT), NOW);
    verbs.registered();
    expect(verbs.drain()).toEqual([]);
    verbs.heard([acquire({ ...outbound(), id }, 11)], NOW);
    verbs.drain();
    verbs.handle(add({ reqid: templateOf().reqid }), NOW);
    verbs.registered();
    expect(verbs.drain()).toEqual([]);
  });

  test('soft and hard EXPIRE of ours, and none of others', () => {
    const { kernel, verbs } = verbsOf();
    verbs.handle(add(), NOW);
    const sa = kernel.sas()[0]!;
    verbs.heard([{ kind: 'expire', sa: { ...sa, ours: false }, hard: true }], NOW);
    expect(verbs.drain()).toEqual([]);
    verbs.heard([{ kind: 'expire', sa, hard: false }], NOW);
    expect(readExpire(verbs.drain()[0]!)).toMatchObject({ hard: false, spi: sa.spi });
    expect(verbs.handle(saIdTo('GET', ID, SA.source), NOW).reply![0]!.sa!.state).toBe(SADB_SASTATE.DYING);
    kernel.installed.clear();
    verbs.heard([{ kind: 'expire', sa, hard: true }], NOW);
    expect(readExpire(verbs.drain()[0]!)).toMatchObject({ hard: true, spi: sa.spi });
    expect(() => verbs.handle(saIdTo('GET', ID, SA.source), NOW)).toThrow(/ESRCH/);
  });

  test('what was lost on the way is found by looking', () => {
    const { kernel, verbs } = verbsOf();
    verbs.handle(add(), NOW);
    verbs.resynchronise();
    expect(verbs.drain()).toEqual([]);
    kernel.installed.clear();
    verbs.resynchronise();
    expect(readExpire(verbs.drain()[0]!)).toMatchObject({ hard: true, spi: SA.spi });
  });

  test('a new mapping, not oftener than once a second', () => {
    const { verbs } = verbsOf();
    verbs.handle(add(), NOW);
    const before = { address: SA.source, port: 4500 };
    const mapping = { ...ID, reqid: 1, before, now: { ...before, port: 40_000 } };
    verbs.heard(
      [
        { kind: 'mapping', mapping },
        { kind: 'mapping', mapping },
      ],
      NOW,
    );
    expect(verbs.drain().map(readNewMapping)).toMatchObject([{ spi: SA.spi, now: { port: 40_000 } }]);
    verbs.heard([{ kind: 'mapping', mapping }], at(1000));
    expect(verbs.drain()).toHaveLength(1);
  });
});

test('REGISTER lists what the kernel has names for', () => {
  const { auth, encrypt } = verbsOf().verbs.supported();
  expect(encrypt.map(({ id }) => id)).toContain(20); // AES-GCM with 16 octets
  expect(auth.map(({ id }) => id)).toContain(5); // HMAC-SHA2-256
});
