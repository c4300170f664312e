// The page: takes the stream's events apart and hands them to its parts.

import { byId, h, say } from "./dom";
import { ago, clock, count } from "./format";
import type { Change, Page, Problem, Proxy, Route } from "./model";
import { learn } from "./palette";
import { showChanges, showProblems, showProxies } from "./panels";
import { RouteCard } from "./route";
import { connect, type Link } from "./stream";
import { Tiles } from "./tiles";
import { themeButton } from "./toggle";
import { Traffic } from "./traffic";

// shownRoutes is how many cards are shown at once: each one draws all the time.
const shownRoutes = 6;

// spans are the windows of the plots, in seconds.
const spans = [{ seconds: 60, name: "1 min" }, { seconds: 180, name: "3 min" }, { seconds: 600, name: "10 min" }];

let page: Page | null = null;
let offset = 0; // of the server's clock against this one, in seconds
let link: Link = "connecting";
let lostAt = 0;
let span = 60;
let changes: Change[] = [];
let routes: Route[] | null = null;
let wanted = ""; // what the user looks for among many routes
let tiles: Tiles | null = null;
const traffic = new Traffic();
const cards = new Map<string, RouteCard>();

const now = (): number => Date.now() / 1000 + offset;
const measured = (): boolean => page?.sections.includes("traffic") ?? false;

function onPage(p: Page): void {
  offset = p.now - Date.now() / 1000;
  if (page && page.boot !== p.boot) dropCards(() => false);
  const first = !page || page.boot !== p.boot;
  page = p;
  say(byId("title"), p.title);
  document.title = p.title ? `${p.title} · pilotfish` : "pilotfish";
  if (first) tiles = new Tiles(byId("tiles"), p.sections);
}

function dropCards(keep: (id: string) => boolean): void {
  for (const [id, card] of cards) {
    if (keep(id)) continue;
    card.destroy();
    cards.delete(id);
  }
}

function onRoutes(e: { routes: Route[] | null }): void {
  routes = e.routes;
  if (routes === null) return; // nothing is published yet: the skeleton stays
  learn(routes.flatMap((r) => r.destinations.map((d) => d.label)));
  showRoutes(routes);
}

// showRoutes shows a card for each route, or for the first ones that the user
// looks for.
function showRoutes(all: Route[]): void {
  const parent = byId("routes");
  parent.setAttribute("aria-busy", "false");
  parent.querySelector(".skeleton")?.remove();
  const words = wanted.toLowerCase().split(/\s+/);
  const found = all.filter((r) => {
    const text = [r.id, r.rule, ...r.hosts, ...r.destinations.map((d) => `${d.host} ${d.subset ?? ""}`)].join(" ").toLowerCase();
    return words.every((w) => text.includes(w));
  });
  const shown = found.slice(0, shownRoutes);
  dropCards((id) => shown.some((r) => r.id === id));
  // Elements are moved only where the order asks for it: moving one takes the
  // focus from it.
  let before: Element | null = null;
  const follow = (el: Element) => {
    if (el.previousElementSibling !== before || el.parentElement !== parent) parent.insertBefore(el, before ? before.nextSibling : parent.firstChild);
    before = el;
  };
  const head = parent.querySelector<HTMLElement>(".routes-head") ?? routesHead();
  head.hidden = all.length === 0;
  follow(head);
  const search = head.querySelector<HTMLElement>(".search")!;
  search.hidden = all.length <= shownRoutes;
  say(search.querySelector("span")!, `${count(shown.length)} of ${count(found.length)} routes`);
  for (const r of shown) {
    let card = cards.get(r.id);
    if (card) card.setRoute(r);
    else cards.set(r.id, card = new RouteCard(r, measured() ? traffic : null, now));
    follow(card.root);
  }
  if (all.length === 0) follow(parent.querySelector(".empty-routes") ?? noRoutes());
  else parent.querySelector(".empty-routes")?.remove();
  for (const card of cards.values()) card.setEnabled(link === "live");
  refresh();
}

function noRoutes(): HTMLElement {
  return h("div", { class: "card empty-routes" },
    h("h2", {}, "No traffic is split"),
    h("p", {}, "A VirtualService whose rule has several destinations appears here, with its weights and what was observed:"),
    h("pre", {}, "http:\n- route:\n  - destination: {host: myapp, subset: v1}\n    weight: 90\n  - destination: {host: myapp, subset: v2}\n    weight: 10"));
}

// routesHead heads the cards, with the search among many and the choice of the
// time that they show.
function routesHead(): HTMLElement {
  const search = h("input", {
    type: "search", placeholder: "Find by name or host", "aria-label": "Find a route",
    oninput: () => { wanted = search.value.trim(); showRoutes(routes ?? []); },
  });
  return h("div", { class: "routes-head" },
    h("h2", {}, "Traffic"),
    h("label", { class: "search", hidden: true }, search, h("span", { role: "status" })),
    h("fieldset", { class: "spans", hidden: !measured() }, h("legend", { class: "hidden" }, "Time shown"),
      ...spans.map((s) => h("label", {},
        h("input", { type: "radio", name: "span", value: s.seconds, checked: s.seconds === span, onchange: () => { span = s.seconds; refresh(); } }),
        h("span", {}, s.name)))));
}

function onProxies({ proxies }: { proxies: Proxy[] }): void {
  showProxies(byId("proxies"), proxies);
  tiles?.setProxies(proxies);
}

function onProblems({ problems }: { problems: Problem[] }): void {
  showProblems(byId("problems"), problems);
  tiles?.setProblems(problems);
}

function onChanges(e: { changes: Change[] }): void {
  changes = e.changes;
  showChanges(byId("changes"), changes);
  tiles?.setChanges(changes);
  tiles?.setTime(now());
  for (const card of cards.values()) card.setChanges(changes);
}

function onLink(next: Link): void {
  if (next === link) return;
  link = next;
  const live = byId("live"), banner = byId("banner");
  say(live, { connecting: "connecting", live: "live", lost: "disconnected" }[link]);
  live.className = `live ${link}`;
  document.body.classList.toggle("lost", link === "lost");
  banner.hidden = link !== "lost";
  if (link === "lost") {
    lostAt = now();
    say(banner, page
      ? `The connection to pilotfish is lost. This is the state of ${clock(lostAt)}; the page goes on by itself as soon as the server is back.`
      : "pilotfish cannot be reached. The page starts by itself as soon as the server is there.");
  }
  for (const card of cards.values()) card.setEnabled(link === "live");
}

// refresh brings everything that depends on traffic up to date.
function refresh(): void {
  if (!measured()) return;
  for (const card of cards.values()) card.setTraffic(now(), span);
  tiles?.setTraffic(traffic, now());
}

themeButton(byId("theme"));
connect({
  page: onPage, routes: onRoutes, proxies: onProxies, problems: onProblems, changes: onChanges,
  traffic: (e) => {
    traffic.add(e.seconds, e.reset, page?.keep ?? 600);
    refresh();
  },
}, onLink);

// The plots glide: at the usual widths a pixel is a tenth of a second.
const calm = matchMedia("(prefers-reduced-motion: reduce)");
let ticks = 0;
setInterval(() => {
  ticks++;
  if (document.hidden || link !== "live" || (calm.matches && ticks % 15 !== 0)) return;
  for (const card of cards.values()) card.scroll(now(), span);
}, 66);
setInterval(() => {
  for (const el of document.querySelectorAll<HTMLElement>("time[data-at]")) say(el, ago(now() - Number(el.dataset.at)));
  tiles?.setTime(now());
}, 1000);
