/** What the datapath's process is told and tells: plain JSON over its control.sock. */

import type { Explanation } from '../datapath/explain.ts';
import type { Mode } from '../ipsec/sa.ts';
import type { CapturedPacket } from '../net/pcapng.ts';

/** The verb `configure`, sent by spmd before it puts the policies, and again when they change. */
export type { DatapathSettings } from '../config/datapath-settings.ts';

/** The result of the verb `ping`: one echo request through the policies. Milliseconds, or why there was no answer. */
export type PingResult =
  | { readonly answered: true; readonly source: string; readonly rttMs: number }
  | { readonly answered: false; readonly source: string; readonly why: string };

/** The result of the verb `trace`: one packet outbound; inbound in clear, and through each SA that could carry it. */
export type TraceResult = readonly Explanation[];

/** The result of the verb `capture`: packets as `CapturedPacket` has them, their octets in base64. */
export interface CaptureAnswer {
  readonly packets: readonly (Omit<CapturedPacket, 'bytes'> & { readonly bytes: string })[];
  readonly lost: number;
}

export interface DatapathSaStatus {
  /** Hexadecimal, eight digits. */
  readonly spi: string;
  readonly protocol: string;
  readonly direction: 'inbound' | 'outbound';
  readonly state: string;
  readonly mode: Mode;
  readonly source: string;
  readonly destination: string;
  readonly reqid: number;
  readonly suite: string;
  readonly encapsulated: boolean;
  readonly packets: number;
  /** Octets of inner IP packets. */
  readonly bytes: number;
  readonly sequence: number;
}

/** Of all SAs in one direction; packets and octets of those too that are gone. */
export interface DatapathTotals {
  readonly sas: number;
  readonly packets: number;
  readonly bytes: number;
}

export interface DatapathPolicyStatus {
  readonly id: number;
  readonly direction: string;
  readonly selector: string;
  readonly action: string;
  readonly priority: number;
  readonly reqid: number;
  readonly packets: number;
}

/** The result of the verb `status`. */
export interface DatapathStatus {
  readonly device: {
    /** `kernel`: packets do not come by here (`backend xfrm`). */
    readonly kind: 'none' | 'tun' | 'memory' | 'kernel';
    readonly name: string;
    readonly mtu: number;
    readonly offloads: readonly string[];
  };
  /** What protects packets: `openssl`, `noble`, … */
  readonly cipher: string;
  /** Doors to the system that are closed, each with its reason and what it costs. */
  readonly closed: readonly string[];
  readonly sas: readonly DatapathSaStatus[];
  readonly policies: readonly DatapathPolicyStatus[];
  /** By name, only those that are not zero. */
  readonly drops: Readonly<Record<string, number>>;
  /** Undefined: there is no engine yet. */
  readonly totals?:
    | {
        readonly inbound: DatapathTotals;
        readonly outbound: DatapathTotals;
        /** ACQUIREs that packets have caused. */
        readonly acquires: number;
        /** Packets that wait for SAs, and fragments that wait for others. */
        readonly held: number;
        readonly fragments: number;
      }
    | undefined;
  readonly clients: number;
  /** What is wrong now: a port in use, a missing privilege. Each a sentence that says what to do. */
  readonly problems: readonly string[];
}
