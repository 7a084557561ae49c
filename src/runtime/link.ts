/** The two ends of a byte stream without a kernel between, for one-process mode and tests: the very same framed bytes as over a socket. */

import { type Channel, type ChannelEvents, QUEUE_BYTES } from './unix-socket.ts';

/** Joins two ends. Bytes arrive in order, in a later turn of the event loop, as they would from a socket. */
export function link(a: (channel: Channel) => ChannelEvents, b: (channel: Channel) => ChannelEvents): void {
  const ends: { events?: ChannelEvents }[] = [{}, {}];
  let open = true;
  const close = (why: string) => {
    if (!open) return;
    open = false;
    setImmediate(() => {
      for (const end of ends) end.events?.onClose(why);
    });
  };
  const channelTo = (other: number): Channel => {
    let queued = 0;
    return {
      send(bytes, sent) {
        if (!open) return;
        const copy = bytes.slice();
        queued += copy.length;
        if (queued > QUEUE_BYTES) return close('the other end does not read');
        setImmediate(() => {
          queued -= copy.length;
          sent?.();
          if (open) ends[other]!.events?.onData(copy);
        });
      },
      close: () => close('closed by the other end'),
      get queuedBytes() {
        return queued;
      },
    };
  };
  ends[0]!.events = a(channelTo(1));
  ends[1]!.events = b(channelTo(0));
}
