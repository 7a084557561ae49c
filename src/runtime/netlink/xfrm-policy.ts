/** Policies over NETLINK_XFRM as octets: NEWPOLICY, UPDPOLICY, DELPOLICY, GETPOLICY, ACQUIRE, POLEXPIRE and MIGRATE (linux/xfrm.h). */

import { cat } from '../../bytes/bytes.ts';
import { WireError } from '../../errors.ts';
import { UNLIMITED } from '../../ipsec/lifetime.ts';
import type { Ends, KmAddress, Policy, PolicyDirection, PolicySelector, Template } from '../../ipsec/policy.ts';
import type { Mode, SaProtocol } from '../../ipsec/sa.ts';
import { type Family, IpAddress } from '../../net/address.ts';
import { attribute, attributes } from './codec.ts';
import { AF, type Current, DIRECTION, MODE, PROTOCOL, SIZE, Struct, XFRMA } from './xfrm-structs.ts';

/** Offsets in struct xfrm_userpolicy_info. */
const POLICY = {
  selector: 0,
  lifetime: 56,
  current: 120,
  priority: 152,
  index: 156,
  direction: 160,
  action: 161,
  flags: 162,
  share: 163,
} as const;
/** In struct xfrm_user_tmpl. */
// biome-ignore format: a table
const TEMPLATE = { destination: 0, spi: 16, protocol: 20, family: 24, source: 28, reqid: 44, mode: 48, share: 49, optional: 50, auth: 52, encrypt: 56, compress: 60 } as const;
const XFRM_POLICY_ALLOW = 0;
const XFRM_POLICY_BLOCK = 1;
const ANY_ALGORITHM = 0xffff_ffff;

/** NEWPOLICY and UPDPOLICY. `seconds`: after which it goes by itself; 0: never. `ours`: whether it has our mark. */
export function encodePolicy(
  { selector, direction, action, priority, templates }: Policy,
  seconds: number,
  ours: boolean,
): Uint8Array {
  const struct = Struct.of(SIZE.policy)
    .setSelector(POLICY.selector, selector)
    .setLifetime(POLICY.lifetime, { soft: UNLIMITED, hard: { ...UNLIMITED, seconds } }, ours ? 'ours' : 'others')
    .setU32(POLICY.priority, priority)
    .setU8(POLICY.direction, DIRECTION[direction])
    .setU8(POLICY.action, action === 'discard' ? XFRM_POLICY_BLOCK : XFRM_POLICY_ALLOW);
  if (action !== 'protect') return struct.bytes;
  // The SA next to the packet is the first in both, PF_KEY's requests and the kernel's templates.
  const all = templates.map((template) => {
    // What does not shrink comes in without IPComp (RFC 3173 §2.2).
    const isOptional = template.level === 'use' || (template.protocol === 'ipcomp' && direction !== 'outbound');
    return encodeTemplate(template, selector.source.address.family, isOptional);
  });
  return cat(struct.bytes, attribute(XFRMA.TMPL, cat(...all)));
}

/** DELPOLICY and GETPOLICY: an entry by selector and direction; where `index` is not 0, by that. */
export function encodePolicyId({
  selector,
  direction,
  index = 0,
}: {
  readonly selector: PolicySelector;
  readonly direction: PolicyDirection;
  readonly index?: number;
}): Uint8Array {
  return Struct.of(SIZE.policyId).setSelector(0, selector).setU32(56, index).setU8(60, DIRECTION[direction]).bytes;
}

function encodeTemplate({ protocol, mode, reqid, endpoints }: Template, family: Family, isOptional: boolean): Uint8Array {
  return Struct.of(SIZE.template)
    .setAddress(TEMPLATE.destination, endpoints?.destination)
    .setU8(TEMPLATE.protocol, PROTOCOL[protocol])
    .setU16(TEMPLATE.family, AF[endpoints?.source.family ?? family])
    .setAddress(TEMPLATE.source, endpoints?.source)
    .setU32(TEMPLATE.reqid, reqid)
    .setU8(TEMPLATE.mode, MODE[mode])
    .setU8(TEMPLATE.optional, isOptional ? 1 : 0)
    .setU32(TEMPLATE.auth, ANY_ALGORITHM)
    .setU32(TEMPLATE.encrypt, ANY_ALGORITHM)
    .setU32(TEMPLATE.compress, ANY_ALGORITHM).bytes;
}

/** What the kernel tells of one policy. */
export interface XfrmPolicyInfo extends Policy {
  readonly current: Current;
  readonly ours: boolean;
}

/** NEWPOLICY and UPDPOLICY. Throws WireError. */
export function decodePolicy(body: Uint8Array, at = 0, attributesAt: number = SIZE.policy): XfrmPolicyInfo {
  const struct = Struct.read(body.subarray(at), SIZE.policy, 'a policy');
  const selector = struct.selector(POLICY.selector);
  if (selector === undefined) throw new WireError('a policy has no address family', at, 'xfrm');
  const direction = (Object.keys(DIRECTION) as PolicyDirection[]).find((name) => DIRECTION[name] === struct.u8(POLICY.direction));
  if (direction === undefined) throw new WireError(`the direction is ${struct.u8(POLICY.direction)}, not 0 to 2`, at, 'xfrm');
  const templates = decodeTemplates(attributes(body, attributesAt).get(XFRMA.TMPL));
  return {
    id: struct.u32(POLICY.index),
    selector,
    direction,
    action: struct.u8(POLICY.action) === XFRM_POLICY_BLOCK ? 'discard' : templates.length > 0 ? 'protect' : 'bypass',
    priority: struct.u32(POLICY.priority),
    templates,
    current: struct.current(POLICY.current),
    ours: struct.mark(POLICY.lifetime) !== 'others',
  };
}

function decodeTemplates(value: Uint8Array | undefined): Template[] {
  if (value === undefined) return [];
  if (value.length % SIZE.template !== 0)
    throw new WireError(`templates have 64 octets each, not ${value.length} in all`, 0, 'xfrm');
  const found: Template[] = [];
  for (let at = 0; at < value.length; at += SIZE.template) {
    const struct = new Struct(value.subarray(at, at + SIZE.template));
    const family = struct.family(TEMPLATE.family);
    const mode = struct.mode(TEMPLATE.mode);
    const reqid = struct.u32(TEMPLATE.reqid);
    found.push({
      protocol: struct.protocol(TEMPLATE.protocol),
      mode,
      level: struct.u8(TEMPLATE.optional) !== 0 ? 'use' : reqid === 0 ? 'require' : 'unique',
      reqid,
      endpoints:
        mode === 'transport'
          ? undefined
          : { source: struct.address(TEMPLATE.source, family), destination: struct.address(TEMPLATE.destination, family) },
    });
  }
  return found;
}

/** ACQUIRE: a packet wants an SA that is not there. */
export interface XfrmAcquire extends Ends {
  readonly seq: number;
  readonly protocol: SaProtocol;
  /** What the packet is. */
  readonly selector: PolicySelector | undefined;
  /** As it was when the packet met it; its templates are those that came with the message. */
  readonly policy: XfrmPolicyInfo;
}

export function decodeAcquire(body: Uint8Array): XfrmAcquire {
  const struct = Struct.read(body, SIZE.acquire, 'an ACQUIRE');
  const policy = decodePolicy(body, 96, SIZE.acquire);
  const selector = struct.selector(40);
  const template = policy.templates[0];
  const family = template?.endpoints?.source.family ?? policy.selector.source.address.family;
  return {
    seq: struct.u32(276),
    protocol: struct.protocol(20),
    destination: struct.address(0, family),
    source: struct.address(24, family),
    selector,
    policy,
  };
}

/** POLEXPIRE: the policy and whether it is gone. */
export function decodePolicyExpire(body: Uint8Array): { readonly policy: XfrmPolicyInfo; readonly hard: boolean } {
  const struct = Struct.read(body, SIZE.polexpire, 'a POLEXPIRE');
  return { policy: decodePolicy(body, 0, SIZE.polexpire), hard: struct.u8(SIZE.policy) !== 0 };
}

/** SAs that end elsewhere from now on. */
export interface XfrmMovement {
  readonly protocol: SaProtocol;
  readonly mode: Mode;
  readonly reqid: number;
  readonly old: Ends;
  readonly new: Ends;
}

/** MIGRATE: a policy by selector and direction, the movements of its SAs, and where key management talks from now on. */
export function encodeMigrate(
  policy: { readonly selector: PolicySelector; readonly direction: PolicyDirection },
  movements: readonly XfrmMovement[],
  kmAddress?: KmAddress,
): Uint8Array {
  const all = movements.map(
    ({ protocol, mode, reqid, old, new: to }) =>
      Struct.of(SIZE.migrate)
        .setAddress(0, old.destination)
        .setAddress(16, old.source)
        .setAddress(32, to.destination)
        .setAddress(48, to.source)
        .setU8(64, PROTOCOL[protocol])
        .setU8(65, MODE[mode])
        .setU32(68, reqid)
        .setU16(72, AF[old.destination.family])
        .setU16(74, AF[to.destination.family]).bytes,
  );
  const km =
    kmAddress && Struct.of(SIZE.kmAddress).setAddress(0, kmAddress.local.address).setAddress(16, kmAddress.remote.address);
  km?.setU16(36, AF[kmAddress!.local.address.family]);
  return cat(
    encodePolicyId(policy),
    ...(km === undefined ? [] : [attribute(XFRMA.KMADDRESS, km.bytes)]),
    attribute(XFRMA.MIGRATE, cat(...all)),
  );
}

/** Any address of a family, for policies that select everything. */
export function anyOf(family: Family): PolicySelector {
  const any = { address: IpAddress.unspecified(family), length: 0 };
  return { source: any, destination: any, protocol: 0, sourcePort: 0, destinationPort: 0 };
}
