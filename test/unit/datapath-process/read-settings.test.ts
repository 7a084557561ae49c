/** `configure` takes what spmd tells and nothing else, and names what is wrong. */
import { expect, test } from 'vitest';
import { readSettings } from '../../../src/datapath-process/settings.ts';
import { datapathSettings } from './settings.ts';

test('what spmd tells is taken as it is', () => {
  const settings = { ...datapathSettings({}, ['192.0.2.1', 'fd00::1']), pfkey: '/x' };
  expect(readSettings(JSON.parse(JSON.stringify(settings)))).toEqual(settings);
});

test.each([
  ['nothing', undefined, 'expected "settings"'],
  ['a list', [], 'expected "settings"'],
  ['no members', {}, 'settings.datapath is not'],
  ['a device of another kind', datapathSettings({ device: 'tap' as 'tun' }), 'settings.datapath.device is not .*found "tap"'],
  ['a port out of range', datapathSettings({ encapPort: 65_536 }), 'settings.datapath.encapPort is not .*found 65536'],
  ['no address', datapathSettings({}, ['nowhere']), 'settings.localAddresses is not .*found \\["nowhere"\\]'],
  [
    'a limit that is no number',
    { ...datapathSettings(), limits: { ...datapathSettings().limits, ikeSas: '1' } },
    'settings.limits.ikeSas',
  ],
  ['no word for what is unmatched', { ...datapathSettings(), unmatched: undefined }, 'settings.unmatched is not .*found nothing'],
])('%s', (_, settings, message) => expect(() => readSettings(settings)).toThrow(new RegExp(`^configure: .*${message}`)));
