/** The guest's own proof: it boots, loads ESP, and charon in it (the real kernel's ESP) answers charon in a namespace. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Charon, type CharonConnection } from './lab/charon.ts';
import { type HostAddresses, Lab, namespacesMissing } from './lab/namespaces.ts';
import { waitUntil } from './lab/process.ts';
import { skipNote } from './lab/skip.ts';
import { ping } from './lab/traffic.ts';
import { UmlCharon, UmlGuest, umlMissing } from './lab/uml.ts';

const missing = namespacesMissing('charon-systemd', 'swanctl') ?? umlMissing();
const why = skipNote('the user-mode-linux guest', missing);

const connection = (local: HostAddresses, remote: HostAddresses): CharonConnection => ({
  name: 'pair',
  local: local.outer.v4,
  remote: remote.outer.v4,
  localId: local.outer.v4,
  remoteId: remote.outer.v4,
  psk: 'guest proof, not a secret',
  ike: 'aes128gcm16-prfsha256-x25519',
  children: [
    { name: 'net', esp: 'aes128gcm16', localTs: [local.net.v4, local.net.v6], remoteTs: [remote.net.v4, remote.net.v6] },
  ],
});

describe.skipIf(missing !== undefined)(`a user-mode-linux guest${why}`, () => {
  let lab: Lab;
  let guest: UmlGuest;
  beforeAll(async () => {
    lab = await Lab.open({ link: false, label: 'uml' });
    guest = await UmlGuest.boot(lab.a, join(lab.dir, 'guest'), lab.b.addresses);
  });
  afterAll(async () => {
    await guest?.close();
    await lab?.close();
  });

  test('is a Linux kernel with ESP and answers pings through the tap', async () => {
    expect(await guest.must('uname -sr; lsmod')).toMatch(/^Linux 6\.[\s\S]*\besp4\b[\s\S]*\bxfrm_user\b/);
    expect((await guest.exec('cat modules-missing')).stdout).toBe('');
    expect((await ping(lab.a, lab.b.addresses.outer.v4, 3)).lost).toEqual([]);
    expect((await ping(lab.a, lab.b.addresses.outer.v6, 3)).lost).toEqual([]);
    expect((await guest.exec('exit 7')).code).toBe(7);
  });

  test('charon with the kernel ESP in it and charon with userspace ESP outside protect pings (ESP in UDP)', async () => {
    const inside = new UmlCharon(guest);
    await inside.start([connection(lab.b.addresses, lab.a.addresses)]);
    const outside = await new Charon(lab.a, join(lab.dir, 'outside')).start([connection(lab.a.addresses, lab.b.addresses)]);
    await outside.initiate('net');
    const children = await waitUntil(
      async () => (await inside.children())[0] && (await inside.sas()),
      5,
      'the guest installed its child',
    );
    expect(children[0]).toMatchObject({ name: 'pair', state: 'ESTABLISHED', initiator: false });
    for (const family of ['v4', 'v6'] as const) {
      const from = lab.a.addresses.inner[family];
      expect((await ping(lab.a, lab.b.addresses.inner[family], 5, { from })).lost).toEqual([]);
    }
    expect((await inside.children())[0]).toMatchObject({ encap: true, packetsIn: 10, packetsOut: 10 });
    expect(await inside.xfrmState()).toMatch(/rfc4106\(gcm\(aes\)\)[\s\S]*encap type espinudp/);
  });
});
