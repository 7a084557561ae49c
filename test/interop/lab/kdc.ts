/** A throw-away MIT realm: krb5kdc with its own database in a temporary directory, on a free port of 127.0.0.1. */

import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const SCRIPTS = '../shared/kdc';

/** Why there is no MIT KDC here, or undefined. */
export function missingKdc(): string | undefined {
  if (!existsSync(join(SCRIPTS, 'start-kdc'))) return `${SCRIPTS} is absent`;
  const paths = ['/usr/sbin', '/usr/local/sbin', '/usr/bin'];
  const absent = ['krb5kdc', 'kadmin.local'].filter((name) => !paths.some((path) => existsSync(join(path, name))));
  return absent.length > 0 ? `no ${absent.join(', ')} (Debian: krb5-kdc krb5-admin-server)` : undefined;
}

export class MitKdc {
  readonly directory: string;
  readonly environment: Readonly<Record<string, string>>;

  /** `options` are the environment that start-kdc documents: KDC_MAXLIFE, KDC_SESSION and others. */
  constructor(options: Readonly<Record<string, string>> = {}, principals: readonly string[] = []) {
    this.directory = mkdtempSync(join(tmpdir(), 'tanuki-kdc-'));
    execFileSync(join(SCRIPTS, 'start-kdc'), [this.directory, ...principals], {
      env: { ...process.env, KDC_TTL: '600', ...options },
      timeout: 20_000,
      stdio: 'pipe',
    });
    this.environment = JSON.parse(readFileSync(join(this.directory, 'env.json'), 'utf8')) as Record<string, string>;
  }

  get address(): { readonly host: string; readonly port: number } {
    return { host: this.environment.TEST_KDC_HOST!, port: Number(this.environment.TEST_KDC_PORT) };
  }

  file(name: string): string {
    return join(this.directory, name);
  }

  /** Ends krb5kdc and keeps its database. */
  stop(): void {
    execFileSync(join(SCRIPTS, 'stop-kdc'), [this.directory, '--keep'], { timeout: 10_000 });
  }

  close(): void {
    execFileSync(join(SCRIPTS, 'stop-kdc'), [this.directory], { timeout: 10_000 });
    rmSync(this.directory, { recursive: true, force: true });
  }
}
