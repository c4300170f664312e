// The page's JSON, as views.go and routes.go write it. Times are Unix seconds
// of the server's clock, durations milliseconds.

export interface Page {
  boot: string; title: string; now: number; keep: number; writable: boolean;
  sections: string[];
}

export interface Destination {
  host: string; subset?: string; label: string;
  weight: number; percent: number;
  series: string[];
}

export interface Route {
  id: string; namespace: string; name: string; field: string;
  rule?: string; match?: string[]; hosts: string[]; gateways?: string[];
  file?: string; line?: number; readOnly?: string;
  destinations: Destination[];
  history: { at: number; percents: number[] }[];
}

export type Status = "SYNCED" | "STALE" | "NOT SENT" | "ERROR";

export interface Problem {
  object?: string; field?: string; severity: "info" | "warning" | "error";
  code: string; message: string; file?: string; line?: number;
}

export interface Sync { type: string; status: Status; resources: number; rejection?: Problem }

export interface Proxy {
  id: string; name: string; namespace: string; type: string; version?: string;
  connected?: number; syncs: Sync[];
}

export interface Change {
  id: number; at: number;
  objects: { object: string; gone?: boolean; file?: string; line?: number }[];
  more?: number;
  proxies: number; reached: number; last: number;
  arrivals: { proxy: string; after: number }[];
}

export interface Answer { n: number; e?: number; p50?: number; p99?: number }

export interface Second {
  at: number; length: number; requests: number; errors: number; error?: string;
  by: Record<string, Answer>;
}

// What the stream's events carry.
export interface Events {
  page: Page;
  routes: { routes: Route[] | null };
  proxies: { proxies: Proxy[] };
  problems: { problems: Problem[] };
  changes: { changes: Change[] };
  traffic: { reset: boolean; seconds: Second[] };
}
