/** Types of ICMP messages and of Mobility Headers (RFC 792, RFC 4443 §2.1, RFC 6275 §6.1 and §6.5) by name, and which of them answers which. */

import { isIcmp, PROTOCOL } from './transport.ts';

/** Names by protocol, as policies write them. */
export const MESSAGE_TYPES: Readonly<Record<number, Readonly<Record<string, number>>>> = {
  [PROTOCOL.icmp]: {
    'echo-reply': 0,
    'destination-unreachable': 3,
    redirect: 5,
    'echo-request': 8,
    'time-exceeded': 11,
    'parameter-problem': 12,
  },
  [PROTOCOL.icmpv6]: {
    'destination-unreachable': 1,
    'packet-too-big': 2,
    'time-exceeded': 3,
    'parameter-problem': 4,
    'echo-request': 128,
    'echo-reply': 129,
    'router-solicitation': 133,
    'router-advertisement': 134,
    'neighbor-solicitation': 135,
    'neighbor-advertisement': 136,
    redirect: 137,
    'home-agent-discovery-request': 144,
    'home-agent-discovery-reply': 145,
    'mobile-prefix-solicitation': 146,
    'mobile-prefix-advertisement': 147,
  },
  [PROTOCOL.mobility]: { brr: 0, hoti: 1, coti: 2, hot: 3, cot: 4, bu: 5, ba: 6, be: 7 },
};

/** Requests that only one side sends and answers that only the other does. An echo is none: hosts ping in both directions. */
const ANSWERS: Readonly<Record<number, readonly (readonly [request: number, answer: number])[]>> = {
  [PROTOCOL.icmpv6]: [
    [144, 145],
    [146, 147],
  ],
  [PROTOCOL.mobility]: [
    [1, 3],
    [2, 4],
    [5, 6],
  ],
};

/** Whether the protocol's selectors have a type where others have ports (RFC 4301 §4.4.1.1). */
export function hasTypes(protocol: number): boolean {
  return isIcmp(protocol) || protocol === PROTOCOL.mobility;
}

/** The type that comes back for this one: BA for BU, and BU for BA; the same where the other side may send it, too. */
export function answerTo(protocol: number, type: number): number {
  for (const [request, answer] of ANSWERS[protocol] ?? []) {
    if (type === request) return answer;
    if (type === answer) return request;
  }
  return type;
}
