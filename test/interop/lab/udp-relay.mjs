/**
 * A NAT of UDP ports 500 and 4500 that changes its mind: what comes to INSIDE goes to TARGET from ports of OUTSIDE, and back. SIGUSR1: from others from
 * now on. `udp-relay.mjs INSIDE OUTSIDE TARGET`
 */
import { createSocket } from 'node:dgram';

const [inside, outside, target] = process.argv.slice(2);
const doors = [500, 4500].map((port) => {
  const near = createSocket('udp4').bind(port, inside);
  const door = { near, far: undefined, client: undefined, port };
  near.on('message', (bytes, from) => {
    door.client = from;
    door.far.send(bytes, port, target);
  });
  return door;
});

function open() {
  for (const door of doors) {
    door.far?.close();
    door.far = createSocket('udp4').bind(0, outside);
    door.far.on('message', (bytes) => {
      if (door.client !== undefined) door.near.send(bytes, door.client.port, door.client.address);
    });
  }
}
open();
process.on('SIGUSR1', open);
