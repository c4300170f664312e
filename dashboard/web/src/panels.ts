// The lists below the plots: problems, proxies and changes.

import { h, icon, keyed, place } from "./dom";
import { ago, clock, count, ms, plural } from "./format";
import type { Change, Problem, Proxy, Status, Sync } from "./model";

// limit bounds how many rows a list shows.
const limit = 200;

const icons = {
  check: "M6.5 12.2 2.3 8l1.2-1.2 3 3 6-6L13.7 5z",
  wait: "M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zM8.7 8.3 11 10.6l-1 1-2.7-2.7V4h1.4z",
  none: "M3 7.3h10v1.4H3z",
  cross: "M4.2 3 8 6.8 11.8 3 13 4.2 9.2 8l3.8 3.8-1.2 1.2L8 9.2 4.2 13 3 11.8 6.8 8 3 4.2z",
  warn: "M8 1.5 15.2 14H.8zM7.3 6v4h1.4V6zM7.3 11v1.5h1.4V11z",
  info: "M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zM7.3 7h1.4v4.5H7.3zM7.3 4.5h1.4V6H7.3z",
};

const statusLook: Record<Status, { look: string; icon: string }> = {
  "SYNCED": { look: "good", icon: icons.check },
  "STALE": { look: "wait", icon: icons.wait },
  "NOT SENT": { look: "none", icon: icons.none },
  "ERROR": { look: "bad", icon: icons.cross },
};

const severityLook = {
  error: { look: "bad", icon: icons.cross },
  warning: { look: "warn", icon: icons.warn },
  info: { look: "none", icon: icons.info },
};

// body is a section's content, after it was made visible.
function body(section: HTMLElement): HTMLElement {
  section.hidden = false;
  return section.querySelector(".body")!;
}

function empty(section: HTMLElement, text: string): void {
  body(section).replaceChildren(h("p", { class: "empty" }, text));
}

// into returns the section's list, made by make on first use or after the
// section was empty.
function into(section: HTMLElement, selector: string, make: () => HTMLElement): HTMLElement {
  const parent = body(section);
  let list = parent.querySelector<HTMLElement>(selector);
  if (!list) {
    parent.replaceChildren(make());
    list = parent.querySelector<HTMLElement>(selector)!;
  }
  return list;
}

export function showProblems(section: HTMLElement, problems: Problem[]): void {
  section.classList.toggle("quiet", problems.length === 0);
  if (problems.length === 0) return empty(section, "None. Everything that is configured is in effect.");
  const order = { error: 0, warning: 1, info: 2 };
  const sorted = [...problems].sort((a, b) => order[a.severity] - order[b.severity]).slice(0, limit);
  const list = into(section, "ul.problems", () => h("ul", { class: "problems" }));
  const seen = new Map<string, number>();
  keyed(list, sorted, (p) => {
    const name = [p.object, p.field, p.code, p.file, p.line].join("|"), n = seen.get(name) ?? 0;
    seen.set(name, n + 1);
    return `${name}|${n}`;
  }, problemItem);
}

function problemItem(p: Problem): HTMLElement {
  const look = severityLook[p.severity];
  return h("li", { class: `problem ${look.look}` },
    h("span", { class: "mark" }, icon(look.icon), h("span", { class: "hidden" }, p.severity)),
    h("div", {},
      h("p", { class: "message" }, p.message),
      h("p", { class: "facts" },
        place(p.file, p.line), p.object && h("span", {}, p.object), p.field && h("code", {}, p.field), h("span", { class: "code" }, p.code))));
}

export function showProxies(section: HTMLElement, proxies: Proxy[]): void {
  if (proxies.length === 0) return empty(section, "No proxy is connected. Each one appears here as soon as its Envoy asks for configuration.");
  const types = [...new Set(proxies.flatMap((p) => p.syncs.map((s) => s.type)))];
  const table = into(section, `table[data-types="${types.join()}"]`, () => h("table", { class: "proxies", role: "table", "data-types": types.join() },
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" },
      ...["Proxy", ...types].map((t) => h("th", { role: "columnheader", scope: "col" }, t))))));
  // Among many, those that need a look come first.
  const rank = (p: Proxy): number => Math.max(...p.syncs.map((s) => s.status === "ERROR" ? 2 : s.status === "STALE" ? 1 : 0));
  const sorted = proxies.length > 20 ? [...proxies].sort((a, b) => rank(b) - rank(a)) : proxies;
  keyed(table, sorted.slice(0, limit), (p) => p.id, (p) => proxyRow(p, types));
  const more = body(section).querySelector(".more") ?? body(section).appendChild(h("p", { class: "more" }));
  more.textContent = proxies.length > limit ? `and ${count(proxies.length - limit)} more` : "";
}

function proxyRow(p: Proxy, types: string[]): HTMLElement {
  const rejections = p.syncs.filter((s) => s.rejection);
  return h("tbody", { role: "rowgroup" },
    h("tr", { role: "row" },
      h("th", { role: "rowheader", scope: "row" },
        h("span", { class: "name" }, p.name),
        h("span", { class: "facts" }, h("span", {}, p.namespace), h("span", {}, p.type === "router" ? "gateway" : p.type), p.version && h("span", {}, `Envoy ${p.version}`))),
      ...types.map((t) => h("td", { role: "cell" }, syncCell(t, p.syncs.find((s) => s.type === t))))),
    ...rejections.map((s) => h("tr", { role: "row", class: "rejected" }, h("td", { role: "cell", colspan: types.length + 1 }, rejection(s)))));
}

function syncCell(type: string, s: Sync | undefined): HTMLElement {
  const status = s?.status ?? "NOT SENT", look = statusLook[status];
  const resources = s && s.resources >= 0 && status !== "NOT SENT" ? plural(s.resources, "resource") : "";
  return h("span", { class: "sync" },
    h("span", { class: "type", "aria-hidden": "true" }, type),
    h("span", { class: `chip ${look.look}` }, icon(look.icon), status),
    resources && h("small", {}, resources));
}

function rejection(s: Sync): HTMLElement {
  const r = s.rejection!;
  return h("div", { class: "rejection" },
    h("p", { class: "message" }, `${s.type} refused: ${r.message}`),
    h("p", { class: "facts" }, place(r.file, r.line), r.object && h("span", {}, r.object), h("span", {}, "The last good version stays in service.")));
}

export function showChanges(section: HTMLElement, changes: Change[]): void {
  if (changes.length === 0) return empty(section, "Nothing has changed since the start. Edit a file, or move a weight.");
  keyed(into(section, "ol.changes", () => h("ol", { class: "changes" })), changes, (c) => String(c.id), changeItem);
}

function changeItem(c: Change): HTMLElement {
  const done = c.reached >= c.proxies, shown = c.objects.slice(0, 4), more = c.objects.length - shown.length + (c.more ?? 0);
  const objects = shown.map((o) => h("li", {}, h("span", {}, o.object, o.gone && h("em", {}, " (gone)")), place(o.file, o.line)));
  if (more > 0) objects.push(h("li", {}, `and ${plural(more, "more object")}`));
  if (objects.length === 0) objects.push(h("li", {}, "First configuration"));
  const outcome = c.proxies === 0 ? h("span", { class: "took none" }, "no proxy concerned") : h("span", { class: `took ${done ? "good" : "wait"}` },
    h("b", {}, c.reached > 0 ? ms(c.last) : "…"),
    ` ${done ? plural(c.proxies, "proxy", "proxies") : `${count(c.reached)} of ${plural(c.proxies, "proxy", "proxies")}`}`);
  const head = h("div", { class: "change-head" },
    h("time", { "data-at": c.at, title: clock(c.at) }, ago(Date.now() / 1000 - c.at)), outcome);
  const list = h("ul", { class: "objects" }, ...objects);
  if (c.arrivals.length === 0) return h("li", {}, head, list);
  const slowest = Math.max(c.last, 1), unlisted = c.proxies - c.arrivals.length;
  return h("li", {}, head, list,
    h("details", {}, h("summary", {}, "Each proxy"),
      h("ul", { class: "arrivals" }, ...c.arrivals.map((a) => {
        const fill = h("span", { class: "fill" });
        fill.style.width = `${Math.max(2, 100 * a.after / slowest)}%`;
        return h("li", {}, h("span", { class: "who", title: a.proxy }, a.proxy), h("span", { class: "track" }, fill), h("span", { class: "when" }, ms(a.after)));
      })),
      unlisted > 0 && h("p", {}, done ? `and ${count(unlisted)} more` : `${count(c.proxies - c.reached)} on the way`)));
}
