// What clients observed, second by second, and what follows from it.

import type { Route, Second } from "./model";

// average is over how many seconds an observed share is taken: one second of a
// hundred requests is off by 5 % either way from chance alone.
const average = 5;

export class Traffic {
  seconds: Second[] = [];
  lastError = "";
  lastErrorAt = 0;

  add(seconds: Second[], reset: boolean, keep: number): void {
    if (reset) this.seconds = [];
    for (const s of seconds) {
      this.seconds.push(s);
      if (s.error) [this.lastError, this.lastErrorAt] = [s.error, s.at];
    }
    const from = (this.seconds.at(-1)?.at ?? 0) - keep;
    const first = this.seconds.findIndex((s) => s.at >= from);
    if (first > 0) this.seconds.splice(0, first);
  }

  // since returns the seconds that began at or after from.
  since(from: number): Second[] {
    let i = this.seconds.length;
    while (i > 0 && this.seconds[i - 1]!.at - this.seconds[i - 1]!.length >= from) i--;
    return this.seconds.slice(i);
  }
}

export interface Observed {
  requests: number; errors: number;
  share: number | null; // percent of the route's requests
  rate: number | null;  // requests per second
  p99: number | null;   // milliseconds, the worst of the seconds
}

// observe adds up what each destination of a route answered.
export function observe(route: Route, seconds: Second[]): Observed[] {
  const length = seconds.reduce((sum, s) => sum + s.length, 0);
  const out = route.destinations.map((d) => {
    const o: Observed = { requests: 0, errors: 0, share: null, rate: null, p99: null };
    for (const s of seconds) {
      for (const name of d.series) {
        const a = s.by[name];
        if (!a) continue;
        o.requests += a.n;
        o.errors += a.e ?? 0;
        if (a.p99) o.p99 = Math.max(o.p99 ?? 0, a.p99);
      }
    }
    if (length > 0) o.rate = o.requests / length;
    return o;
  });
  const total = out.reduce((sum, o) => sum + o.requests, 0);
  if (total > 0) for (const o of out) o.share = 100 * o.requests / total;
  return out;
}

// shares gives for each second the observed shares of the route's
// destinations. Each is taken over the last five seconds, but never across a
// change of the weights: what was measured before says nothing about after,
// and the second in which they changed stands for itself.
export function shares(route: Route, seconds: Second[]): (number | null)[][] {
  const out: (number | null)[][] = route.destinations.map(() => []);
  const counts = seconds.map((s) => route.destinations.map((d) => d.series.reduce((sum, name) => sum + (s.by[name]?.n ?? 0), 0)));
  for (let i = 0; i < seconds.length; i++) {
    const end = seconds[i]!.at;
    const changed = route.history.findLast((c) => c.at < end)?.at ?? -Infinity;
    const sums = route.destinations.map(() => 0);
    for (let j = i; j >= 0; j--) {
      const start = seconds[j]!.at - seconds[j]!.length;
      if (j < i && (end - start > average + 0.1 || start < changed)) break;
      counts[j]!.forEach((n, d) => { sums[d]! += n; });
    }
    const total = sums.reduce((a, b) => a + b, 0);
    sums.forEach((n, d) => out[d]!.push(total > 0 ? 100 * n / total : null));
  }
  return out;
}

// middle is where a second is drawn: what it counts happened around then.
export const middle = (s: Second): number => s.at - s.length / 2;
