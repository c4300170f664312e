// One card for each rule that splits requests: its plots and its weights.

import { Charts } from "./chart";
import { h, place, say } from "./dom";
import { count, ms, percent, rate } from "./format";
import type { Change, Route } from "./model";
import { colour, onTheme } from "./palette";
import { observe, type Traffic } from "./traffic";
import { rebalance, Refused, writeWeights } from "./weights";

interface Row {
  root: HTMLElement; swatch: HTMLElement; slider: HTMLInputElement; number: HTMLInputElement; numbers: HTMLElement;
  configured: HTMLElement; observed: HTMLElement; // its parts of the two bars
}

// recent is the span of the observed numbers beside the sliders, in seconds.
const recent = 10;

export class RouteCard {
  readonly root: HTMLElement;
  private rows: Row[] = [];
  private charts: Charts | null = null;
  private draft: number[] | null = null; // what the user is choosing, or has chosen and is not in effect yet
  private awaited: number[] | null = null; // what was written and is not in effect yet
  private timer = 0; // of the pause before a draft is written
  private forget: () => void;
  private written: { at: number; object: string; text: string } | null = null;
  private changes: Change[] = [];
  private point = h("p", { class: "point" });
  private status = h("p", { class: "status", "aria-live": "polite" });
  private undo = h("button", { type: "button", class: "undo", hidden: true }, "Undo");
  private list = h("div", { class: "rows" });
  private heading = h("header", { class: "route-head" });
  private bars = { configured: h("div", { class: "bar" }), observed: h("div", { class: "bar" }) };

  constructor(private route: Route, private traffic: Traffic | null, private now: () => number) {
    const share = h("div", { class: "plot", role: "img", "aria-label": `Observed and configured shares of ${route.name} over time; the numbers are beside it` });
    const load = h("div", { class: "plot", role: "img", "aria-label": "Requests and errors per second over time" });
    const plots = h("div", { class: "plots", hidden: !traffic },
      h("div", { class: "caption" },
        h("h3", {}, "Share of requests"),
        h("ul", { class: "legend" },
          h("li", { class: "solid" }, "observed, 5 s average"), h("li", { class: "dashed" }, "configured")),
        this.point),
      share,
      h("div", { class: "caption" }, h("h3", {}, "Load"),
        h("ul", { class: "legend" }, h("li", { class: "area" }, "requests per second"), h("li", { class: "bad" }, "errors per second"))),
      load);
    const control = h("div", { class: "control" },
      h("h3", {}, "Weights"),
      h("div", { class: "bars", "aria-hidden": "true" },
        h("span", {}, "configured"), this.bars.configured,
        ...(traffic ? [h("span", {}, "observed"), this.bars.observed] : [])),
      this.list,
      !traffic && h("p", { class: "facts" }, h("span", {}, "Nothing measures the traffic: ", h("code", {}, "pilotfish up DIR --load"), " sends requests and plots here who answers.")),
      h("div", { class: "outcome" }, this.status, this.undo));
    this.root = h("article", { class: "card route", "aria-label": `VirtualService ${route.namespace}/${route.name}` },
      this.heading, h("div", { class: traffic ? "split" : "split single" }, plots, control));
    this.build();
    if (traffic) this.charts = new Charts(route, traffic, share, load, (text) => say(this.point, text ?? ""));
    this.forget = onTheme(() => this.paint());
  }

  destroy(): void {
    clearTimeout(this.timer);
    this.forget();
    this.charts?.destroy();
    this.root.remove();
  }

  setRoute(route: Route): void {
    const rebuilt = JSON.stringify([route.destinations.map((d) => d.label), route.readOnly]) !==
      JSON.stringify([this.route.destinations.map((d) => d.label), this.route.readOnly]);
    this.route = route;
    if (this.awaited && same(this.awaited, percents(route))) this.awaited = null;
    if (this.draft && !this.timer && same(this.draft, percents(route))) this.draft = null;
    if (rebuilt) this.build();
    else this.head();
    this.charts?.setRoute(route);
    this.show();
    if (!this.timer) this.flush(); // what was chosen while the last change was on its way
  }

  setTraffic(now: number, window: number): void {
    this.charts?.setData(now, window);
    this.showObserved(now);
  }

  scroll(now: number, window: number): void {
    this.charts?.scroll(now, window);
  }

  // setChanges completes the outcome of a move once the proxies have it.
  setChanges(changes: Change[]): void {
    this.changes = changes;
    const w = this.written;
    if (!w) return;
    const change = changes.find((c) => c.at >= w.at - 0.2 && c.objects.some((o) => o.object === w.object));
    if (!change || change.proxies === 0 || change.reached < change.proxies) return;
    say(this.status, `${w.text} ${change.proxies === 1 ? "The proxy that it concerns has" : `All ${change.proxies} proxies that it concerns have`} it after ${ms(change.last)}.`);
    this.written = null;
  }

  setEnabled(enabled: boolean): void {
    for (const r of this.rows) r.slider.disabled = r.number.disabled = !enabled || !!this.route.readOnly;
    this.undo.disabled = !enabled;
  }

  private head(): void {
    const r = this.route;
    this.heading.replaceChildren(
      h("div", {},
        h("h2", {}, h("span", { class: "kind" }, "VirtualService "), `${r.namespace}/${r.name}`),
        h("p", { class: "facts" },
          h("span", {}, "hosts ", h("code", {}, r.hosts.join(", ") || "–")),
          h("span", {}, "via ", h("code", {}, r.gateways?.join(", ") || "mesh")),
          h("span", {}, "rule ", h("code", {}, r.rule || r.field.replace(/^spec\.|\.route$/g, ""))),
          r.match && h("span", {}, "matches ", h("code", {}, r.match.join(" or "))))),
      place(r.file, r.line) ?? "");
  }

  private build(): void {
    this.head();
    this.draft = null;
    this.rows = this.route.destinations.map((d, i) => this.makeRow(d.label, i));
    this.list.replaceChildren(...this.rows.map((r) => r.root));
    this.bars.configured.replaceChildren(...this.rows.map((r) => r.configured));
    this.bars.observed.replaceChildren(...this.rows.map((r) => r.observed));
    if (this.route.readOnly) say(this.status, this.route.readOnly);
    this.paint();
    this.show();
  }

  private makeRow(label: string, i: number): Row {
    const slider = h("input", {
      type: "range", min: 0, max: 100, step: 1, "aria-label": `Weight of ${label} in percent`, disabled: !!this.route.readOnly,
      oninput: () => this.choose(i, slider.valueAsNumber), onchange: () => this.commit(200),
    });
    const number = h("input", {
      type: "number", min: 0, max: 100, step: 1, inputmode: "numeric", "aria-label": `Weight of ${label}, number`, disabled: !!this.route.readOnly,
      oninput: () => { if (number.checkValidity() && number.value !== "") this.choose(i, number.valueAsNumber); },
      onchange: () => { if (number.checkValidity() && number.value !== "") this.commit(200); else this.show(); },
    });
    const cancel = (e: Event) => {
      if ((e as KeyboardEvent).key !== "Escape") return;
      clearTimeout(this.timer);
      this.timer = 0;
      this.draft = this.awaited;
      this.show();
    };
    slider.addEventListener("keydown", cancel);
    number.addEventListener("keydown", cancel);
    const row: Row = {
      slider, number, swatch: h("span", { class: "swatch" }), numbers: h("p", { class: "numbers" }),
      configured: h("span"), observed: h("span"),
      root: h("div", { class: "row" }),
    };
    row.root.append(
      h("div", { class: "row-head" }, row.swatch, h("strong", {}, label),
        h("label", { class: "weight" }, number, h("span", { "aria-hidden": "true" }, "%"))),
      slider, row.numbers);
    return row;
  }

  private choose(i: number, w: number): void {
    this.draft = rebalance(this.draft ?? percents(this.route), i, Math.min(100, Math.max(0, Math.round(w))));
    this.show();
  }

  // commit writes the draft once the user has paused: a held arrow key is one
  // change of the file, not thirty.
  private commit(pause: number): void {
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => {
      this.timer = 0;
      this.flush();
    }, pause);
  }

  // flush writes the draft, one change at a time: each starts from what the one
  // before has brought about.
  private flush(): void {
    const before = percents(this.route);
    if (this.awaited || !this.draft || same(this.draft, before)) return;
    this.awaited = this.draft;
    this.root.classList.remove("refused");
    this.undo.hidden = true;
    this.write(this.draft, before).catch((e: unknown) => {
      this.draft = this.awaited = this.written = null;
      this.root.classList.add("refused");
      const p = e instanceof Refused ? e.problem : null;
      const where = p?.file ? `${p.file.split("/").at(-1)}${p.line ? ":" + p.line : ""}: ` : "";
      say(this.status, `Not changed. ${where}${p ? p.message : "The server cannot be reached."}`);
      this.show();
    });
  }

  private async write(next: number[], before: number[]): Promise<void> {
    const route = this.route, at = this.now();
    await writeWeights(route, next);
    const moved = route.destinations.map((d, i) => `${d.label} ${before[i]} → ${next[i]} %`).filter((_, i) => before[i] !== next[i]);
    const text = `${moved.join(", ")}: written to ${route.file?.split("/").at(-1)}.`;
    this.written = { at, object: `VirtualService ${route.namespace}/${route.name}`, text };
    say(this.status, text);
    this.setChanges(this.changes); // the change may have come before the answer
    this.undo.hidden = false;
    this.undo.onclick = () => {
      this.draft = before;
      this.show();
      this.commit(0);
    };
    setTimeout(() => {
      if (this.awaited !== next) return;
      say(this.status, `${text} It is not in effect yet; see the problems.`);
      this.draft = this.awaited = null;
      this.show();
    }, 5000);
  }

  // show brings sliders, numbers and the configured bar up to date, without
  // touching the field that the user is typing in.
  private show(): void {
    const shown = this.draft ?? percents(this.route);
    this.root.classList.toggle("pending", this.draft !== null);
    this.rows.forEach((r, i) => {
      const value = String(shown[i] ?? 0);
      if (r.slider.value !== value) r.slider.value = value;
      r.slider.setAttribute("aria-valuetext", `${value} percent`);
      r.slider.style.setProperty("--at", `${value}%`);
      if (r.number.value !== value && (document.activeElement !== r.number || this.draft === null)) r.number.value = value;
      r.configured.style.flexGrow = value;
      r.configured.title = `${this.route.destinations[i]?.label} ${value} %`;
    });
  }

  private showObserved(now: number): void {
    if (!this.traffic) return;
    const changed = this.route.history.at(-1)?.at ?? 0;
    const seconds = this.traffic.since(Math.max(now - recent, Math.min(changed, now - 2)));
    observe(this.route, seconds).forEach((o, i) => {
      const r = this.rows[i];
      if (!r) return;
      r.observed.style.flexGrow = String(o.share ?? 0);
      r.numbers.replaceChildren(
        h("span", {}, h("b", {}, o.share === null ? "–" : percent(o.share)), " observed"),
        h("span", {}, h("b", {}, o.rate === null ? "–" : rate(o.rate)), " req/s"),
        ...(o.p99 === null ? [] : [h("span", {}, h("b", {}, ms(o.p99)), " p99")]),
        h("span", { class: o.errors > 0 ? "bad" : "" }, h("b", {}, count(o.errors)), o.errors === 1 ? " error" : " errors"));
    });
  }

  private paint(): void {
    this.rows.forEach((r, i) => {
      r.root.style.setProperty("--version", colour(this.route.destinations[i]!.label));
      for (const part of [r.configured, r.observed]) part.style.backgroundColor = colour(this.route.destinations[i]!.label);
    });
  }
}

const percents = (r: Route): number[] => r.destinations.map((d) => d.percent);
const same = (a: number[], b: number[]): boolean => a.length === b.length && a.every((v, i) => v === b[i]);
