// The one connection to the server: server-sent events, taken up again after
// every interruption for as long as the page is open.

import type { Events } from "./model";

export type Link = "connecting" | "live" | "lost";

type Handlers = { [name in keyof Events]: (data: Events[name]) => void };

// silence is how long nothing may come, not even the server's heartbeat (every
// 10 s), before the connection counts as lost.
const silence = 25_000;

export function connect(handlers: Handlers, onLink: (link: Link) => void): void {
  let source: EventSource;
  let heard = 0;

  const open = () => {
    source = new EventSource("api/stream");
    heard = Date.now();
    source.onopen = () => { heard = Date.now(); };
    source.onerror = () => {
      onLink("lost");
      // The browser tries again by itself unless the answer was an error.
      if (source.readyState === EventSource.CLOSED) setTimeout(open, 2000);
    };
    for (const name of Object.keys(handlers) as (keyof Events)[]) {
      source.addEventListener(name, (e) => {
        heard = Date.now();
        onLink("live");
        (handlers[name] as (data: unknown) => void)(JSON.parse((e as MessageEvent<string>).data));
      });
    }
  };

  onLink("connecting");
  open();
  setInterval(() => {
    if (source.readyState === EventSource.OPEN && Date.now() - heard > silence) {
      onLink("lost");
      source.close();
      open();
    }
  }, 5000);
}
