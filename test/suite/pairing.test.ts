/** docs/pairing.md as it stands: its program moves a tunnel of a running node, and prints what the page says. */

import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import { startSpmd } from '../../spmd/daemon.ts';
import { startDatapath } from '../../src/datapath-process/daemon.ts';
import { connectPfkey, IpAddress, type Migrate, movesOf, PfkeyError } from '../../src/pfkey.ts';
import { runDir } from '../../src/runtime/run-dir.ts';
import type { Daemon } from '../../src/runtime/shell.ts';
import { ROOT, run, until } from './nodes.ts';

const page = readFileSync(join(ROOT, 'docs/pairing.md'), 'utf8');
const [, program, printed] = /```js\n([\s\S]*?)```[\s\S]*?it prints:\n\n```\n([\s\S]*?)```/.exec(page)!;
const project = mkdtempSync(join(tmpdir(), 'tanuki-pairing-'));
const socket = runDir(join(project, 'run')).pfkey;
const ip = (text: string) => IpAddress.parse(text)!;

mkdirSync(join(project, 'node_modules'));
symlinkSync(ROOT, join(project, 'node_modules/tanuki'));
writeFileSync(join(project, 'moved.mjs'), program!);
writeFileSync(
  join(project, 'tanuki.conf'),
  `interface { ike { 127.0.0.1 port 10500; }; datapath { device memory; encap_port 14500; addresses 10.1.0.1; }; };
  remote peer { acceptable_kmp ikev2; ikev2 { peers_ipaddr 192.0.2.2; my_id fqdn "a"; peers_id fqdn "b"; kmp_auth_method psk; pre_shared_key "/x"; }; };
  policy tun { action auto_ipsec; remote_index peer; ipsec_mode tunnel; my_sa_ipaddr 192.0.2.1; peers_sa_ipaddr 192.0.2.2; ipsec_index esp; };
  ipsec esp { sa_index s; };
  sa s { sa_protocol esp; esp_enc_alg aes_gcm_16; };
  selector net { direction both; src 10.1.0.0/16; dst 10.2.0.0/16; policy_index tun; };`,
);

let running: Daemon[] = [];
const options = { runDir: join(project, 'run'), quiet: true };

/** A datapath and a spmd, whose policies are there. */
beforeEach(async () => {
  running = [await startDatapath(options), await startSpmd({ ...options, file: join(project, 'tanuki.conf') })];
  const pfkey = await connectPfkey(socket);
  await until('both policies installed', 10_000, async () => (await tunnels(pfkey)).length === 2);
  pfkey.close();
});
afterEach(async () => {
  for (const daemon of running.reverse()) await daemon.stop();
});
afterAll(() => rmSync(project, { recursive: true, force: true }));

async function tunnels(pfkey: Awaited<ReturnType<typeof connectPfkey>>): Promise<string[]> {
  return (await pfkey.policies()).flatMap(({ templates }) =>
    templates.flatMap(({ endpoints }) => (endpoints === undefined ? [] : [`${endpoints.source} ${endpoints.destination}`])),
  );
}

describe('docs/pairing.md', () => {
  test('its program has at most thirty lines', () => expect(program!.trim().split('\n').length).toBeLessThanOrEqual(30));

  test('it moves the tunnel and prints what the page says', async () => {
    const outcome = await run(join(project, 'moved.mjs'), [socket, '192.0.2.1', '198.51.100.7']);
    expect(outcome).toEqual({ code: 0, stdout: printed, stderr: '' });
  });
});

describe('a client', () => {
  test('is refused with the errno, hears what others move, and goes on after the datapath was restarted', async () => {
    const heard: Migrate[] = [];
    let times = 0;
    let lost = 0;
    const errors: Error[] = [];
    const [one, other] = [
      await connectPfkey(socket),
      await connectPfkey(socket, {
        onMigrate: (migrate) => heard.push(migrate),
        onSynchronised: () => times++,
        onLost: () => lost++,
        onError: (error) => errors.push(error),
      }),
    ];
    const moves = movesOf(await one.policies(), ip('192.0.2.2'), ip('203.0.113.9'));
    expect(
      moves.map(({ direction, kmAddress }) => `${direction} ${kmAddress!.local.address} ${kmAddress!.remote.address}`),
    ).toEqual(['outbound 192.0.2.1 203.0.113.9', 'inbound 192.0.2.1 203.0.113.9']);
    for (const migrate of moves) await one.migrate(migrate);
    const again = await one.migrate(moves[0]!).catch((error: unknown) => error);
    expect(again).toBeInstanceOf(PfkeyError);
    expect((again as PfkeyError).message).toBe('PF_KEY X_MIGRATE was answered with ENODATA');
    await until('the other heard both', 5_000, () => heard.length === 2);
    // What was moved is put back by spmd where it is now.
    await running[0]!.stop();
    running[0] = await startDatapath(options);
    await until('the other is connected again', 10_000, () => times === 2);
    await until('spmd has put the policies', 10_000, async () => (await tunnels(other)).length === 2);
    expect((await tunnels(other)).toSorted()).toEqual(['192.0.2.1 203.0.113.9', '203.0.113.9 192.0.2.1']);
    expect([lost, errors]).toEqual([1, []]);
    one.close();
    other.close();
    await expect(one.policies()).rejects.toThrow('closed');
  });

  test('is told where nobody answers', async () => {
    const nowhere = connectPfkey(join(project, 'nowhere.sock'), { patienceMs: 50 });
    await expect(nowhere).rejects.toThrow(/no datapath answers at .*nowhere.sock within 0.05 s/);
  });
});
