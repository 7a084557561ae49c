/** A policy file to a `Config`: everything is read, all mistakes are reported, and there is a configuration only where there is no error. */

import { settle } from './blocks.ts';
import { valuesOf, warnNames } from './compile-kmp.ts';
import { PolicyCompiler } from './compile-policy.ts';
import { compileRemote } from './compile-remote.ts';
import { compileSelectors } from './compile-selector.ts';
import type { AddressSpec, Config, InterfaceConfig, KerberosConfig, RemoteConfig } from './config.ts';
import { type Diagnostic, Diagnostics, quoted, type Span, sourceOf } from './diagnostics.ts';
import { load, type SourceFiles } from './load.ts';
import { DATAPATH, INTERFACE, KERBEROS, LIMITS, LOGGING, RESOLVER } from './schema.ts';
import { isSection, readSections, type Sections } from './sections.ts';

export interface Compiled {
  /** Undefined where there is at least one error. */
  readonly config: Config | undefined;
  /** In the order of the files and their text. */
  readonly diagnostics: readonly Diagnostic[];
  /** Every file that was read, the first one first. */
  readonly files: readonly string[];
}

/** Reads `file` and what it includes. Never throws for what is in them. The same texts and environment give the same result. */
export function compile(file: string, files: SourceFiles): Compiled {
  const report = new Diagnostics();
  const loaded = load(file, files, isSection, report);
  if (loaded.statements.length === 0 && !report.hasErrors) {
    report.error(
      { source: sourceOf(file, ''), start: 0, end: 0 },
      'the file says nothing',
      'an empty file is taken for a mistake; docs/config.md has examples',
    );
  }
  const sections = readSections(loaded.statements, files, report);
  const config = compileSections(sections, report);
  return { config: report.hasErrors ? undefined : config, diagnostics: report.list(), files: loaded.files };
}

function compileSections(sections: Sections, report: Diagnostics): Config {
  const start: Span = { source: sourceOf('', ''), start: 0, end: 0 };
  const kerberos = compileKerberos(sections, start);
  const remotes = [...sections.remotes.values()].map((remote) => compileRemote(remote, sections, kerberos, report));
  const host = compileInterface(sections, remotes, start, report);
  const policies = new PolicyCompiler(sections, remotes, host.ike, report);
  const selectors = compileSelectors(sections, policies, report);
  noteUnused(sections, policies, report);
  const logging = settle(LOGGING, start, sections.logging).values;
  const resolver = settle(RESOLVER, start, sections.resolver);
  if (resolver.values.resolver)
    report.warning(resolver.at('resolver'), 'the resolver has no effect yet: the DNS proxy is not built', 'write resolver off;');
  return {
    interface: host,
    logging: { level: logging.level, destination: logging.destination, format: logging.format },
    kerberos,
    remotes,
    selectors,
    unmatched: sections.default?.entries.policy?.value?.entries.action?.value === 'discard' ? 'discard' : 'bypass',
    resolver: {
      on: resolver.values.resolver,
      nameservers: valuesOf(resolver.values.nameserver),
      dnsQuery: valuesOf(resolver.values.dns_query),
    },
    addressPools: [...sections.pools.values()],
  };
}

function compileKerberos(sections: Sections, start: Span): KerberosConfig {
  const { values } = settle(KERBEROS, sections.kerberos?.at ?? start, sections.kerberos);
  return {
    backend: values.backend,
    realm: values.realm,
    kdcs: valuesOf(values.kdc),
    keytab: values.keytab,
    clockSkew: values.clock_skew,
  };
}

const METRICS_PORT = 9500;
const MY_IP: AddressSpec = { kind: 'macro', macro: 'MY_IP', interface: undefined, prefixLength: 0, port: 0 };

function compileInterface(
  sections: Sections,
  remotes: readonly RemoteConfig[],
  start: Span,
  report: Diagnostics,
): InterfaceConfig {
  const { values, at } = settle(INTERFACE, sections.interface?.at ?? start, sections.interface);
  const datapath = settle(DATAPATH, at('datapath'), values.datapath).values;
  const limits = settle(LIMITS, sections.limits?.at ?? start, sections.limits).values;
  warnNames(values.ike, report);
  warnNames(values.kink, report);
  const speaksKink = remotes.some(({ kink }) => kink !== undefined);
  const [socket, another] = values.spmd ?? [];
  if (another !== undefined)
    report.warning(another.at, 'spmd listens on the first socket of the list only', 'take the others out');
  if (values.spmd_password !== undefined && socket === undefined) {
    report.warning(
      at('spmd_password'),
      'the password has no effect: no socket is named that asks for it',
      'write spmd unix "PATH"; or take it out',
    );
  }
  const ike: AddressSpec[] = [];
  for (const { value, at: place } of values.ike) {
    if ((value.port || 500) !== datapath.encap_port) ike.push(value);
    else
      report.note(
        place,
        `port ${datapath.encap_port} needs no entry: the datapath listens there and hands IKE over`,
        'take the entry out',
      );
  }
  if (ike.length === 0) {
    report.error(
      at('ike'),
      `IKE has no address of its own: port ${datapath.encap_port} belongs to the datapath`,
      'add an address with port 500',
    );
  }
  return {
    ike,
    kink: !speaksKink ? [] : values.kink === undefined ? [MY_IP] : valuesOf(values.kink),
    spmd: socket?.value,
    spmdPassword: values.spmd_password,
    pfkey: values.pfkey,
    metrics: metricsOf(values.metrics),
    applicationBypass: values.application_bypass,
    datapath: {
      device: datapath.device,
      name: datapath.name,
      mtu: datapath.mtu,
      encapPort: datapath.encap_port,
      encapsulation: datapath.encapsulation,
      addresses: valuesOf(datapath.addresses),
      cipher: datapath.cipher,
      df: datapath.df,
      pmtuFloor: datapath.pmtu_floor,
      mssClamp: datapath.mss_clamp,
      icmpErrors: datapath.icmp_errors,
      dscp: datapath.dscp === 'copy' ? 'copy' : Number(datapath.dscp),
      decapDscp: datapath.decap_dscp,
      spin: datapath.spin,
      dialect: datapath.dialect,
      ahPadding: datapath.ah_padding,
      backend: datapath.backend,
    },
    limits: {
      halfOpenSas: limits.half_open_sas,
      cookieThreshold: limits.cookie_threshold,
      ikeSas: limits.ike_sas,
      childSasPerIkeSa: limits.child_sas_per_ike_sa,
      heldPacketsPerPolicy: limits.held_packets_per_policy,
    },
  };
}

/** `metrics` takes literal addresses only. */
function metricsOf(spec: AddressSpec | undefined): InterfaceConfig['metrics'] {
  return spec?.kind === 'literal' ? { address: spec.address, port: spec.port || METRICS_PORT } : undefined;
}

/** Sections that nothing refers to are compiled too, so that their mistakes are found; that nothing refers to them is worth a note. */
function noteUnused(sections: Sections, policies: PolicyCompiler, report: Diagnostics): void {
  const { used } = policies;
  const note = (kind: string, name: string, at: Span, by: string) =>
    report.note(at, `the ${kind} ${quoted(name)} is not used by any ${by}`, 'take it out if it is not meant for later');
  for (const section of sections.policies.values()) {
    policies.policy(section);
    if (!used.policies.has(section.name)) note('policy', section.name, section.at, 'selector');
  }
  for (const { name, at } of sections.remotes.values()) if (!used.remotes.has(name)) note('remote', name, at, 'policy');
  for (const section of sections.ipsecs.values()) {
    if (used.ipsecs.has(section.name)) continue;
    policies.ipsec(section.name, section, section.at);
    note('ipsec', section.name, section.at, 'policy');
  }
  for (const section of sections.sas.values()) {
    if (used.sas.has(section.name)) continue;
    policies.sa(section.name, section, section.at);
    note('sa', section.name, section.at, 'ipsec');
  }
}
