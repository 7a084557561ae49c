/** A running engine with its packets and its PF_KEY side, wherever it runs: in this thread (memory device) or in a worker (TUN). */

import type { Event } from '../event.ts';
import type { Path } from '../net/address.ts';
import type { PfkeyServerInput } from '../pfkey/server.ts';
import type { CaptureRequest, CaptureResult } from './capture.ts';
import type { DatapathPolicyStatus, DatapathSaStatus, DatapathStatus, PingResult, TraceResult } from './ports.ts';

export interface PingRequest {
  readonly address: string;
  /** Empty: the host's own choice. */
  readonly source: string;
  readonly sequence: number;
  readonly timeoutMs: number;
}

export interface TraceRequest {
  readonly packet: Uint8Array;
  readonly direction: 'outbound' | 'inbound';
}

export interface EngineStatus {
  readonly device: DatapathStatus['device'];
  readonly cipher: string;
  readonly sas: readonly DatapathSaStatus[];
  readonly policies: readonly DatapathPolicyStatus[];
  readonly drops: Readonly<Record<string, number>>;
  readonly totals: NonNullable<DatapathStatus['totals']>;
  readonly clients: number;
}

export interface EngineHost {
  pfkey(input: Exclude<PfkeyServerInput, { kind: 'notify' }>): void;
  /** Sends an IKE message on the encapsulation port, behind the non-ESP marker (RFC 3948 §2.2). */
  sendIke(path: Path, bytes: Uint8Array): void;
  /** Sends a NAT keepalive (RFC 3948 §2.3). */
  sendKeepalive(path: Path): void;
  ping(request: PingRequest): Promise<PingResult>;
  /** What would be done with a packet, which is not sent. */
  trace(request: TraceRequest): Promise<TraceResult>;
  /** Begins a capture, hands over what has passed since, or ends it. Rejects with a sentence where that cannot be. */
  capture(request: CaptureRequest): Promise<CaptureResult>;
  status(): Promise<EngineStatus>;
  /** This host's addresses have changed: the encapsulation port is served at these, SAs and packets go on. Resolves with what could not be opened. */
  serveAt(addresses: readonly string[]): Promise<readonly string[]>;
  stop(): Promise<void>;
}

/** What a host tells. */
export interface HostEvents {
  readonly onPfkey: (client: number, bytes: Uint8Array) => void;
  readonly onPfkeyClose: (client: number) => void;
  /** An IKE message that arrived on the encapsulation port, without its marker. `taken` is called when it has left for iked, or nowhere. */
  readonly onIke: (path: Path, bytes: Uint8Array, taken?: () => void) => void;
  readonly report: (event: Event) => void;
}

/** The non-ESP marker, RFC 3948 §2.2. */
export const NON_ESP_MARKER = 4;
export const KEEPALIVE_OCTET = 0xff;
