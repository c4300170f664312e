// The row of numbers at the top.

import { h, say } from "./dom";
import { ago, count, ms, percent, plural, rate } from "./format";
import type { Change, Problem, Proxy } from "./model";
import type { Traffic } from "./traffic";

class Tile {
  readonly root: HTMLElement;
  private value = h("span", { class: "value" }, "–");
  private unit = h("span", { class: "unit" });
  private note = h("span", { class: "note" });

  constructor(name: string, href?: string) {
    const inside = [h("span", { class: "label" }, name), h("span", { class: "figure" }, this.value, this.unit), this.note];
    this.root = href ? h("a", { class: "tile", href }, ...inside) : h("div", { class: "tile" }, ...inside);
  }

  set(value: string, unit: string, note: string, look: "" | "good" | "warn" | "bad" = ""): void {
    say(this.value, value);
    say(this.unit, unit);
    say(this.note, note);
    this.root.className = `tile ${look}`;
  }
}

export class Tiles {
  private requests = new Tile("Requests");
  private errors = new Tile("Errors");
  private proxies = new Tile("Proxies", "#proxies");
  private change = new Tile("Last change", "#changes");
  private problems = new Tile("Problems", "#problems");
  private last: Change | undefined;

  constructor(parent: HTMLElement, sections: string[]) {
    const shown: [string, Tile][] = [["traffic", this.requests], ["traffic", this.errors], ["proxies", this.proxies], ["changes", this.change], ["problems", this.problems]];
    parent.replaceChildren(...shown.filter(([s]) => sections.includes(s)).map(([, t]) => t.root));
    this.change.set("–", "", "nothing since the start");
  }

  setTraffic(traffic: Traffic, now: number): void {
    const five = traffic.since(now - 6), minute = traffic.since(now - 60);
    const length = five.reduce((sum, s) => sum + s.length, 0);
    if (length === 0) this.requests.set("–", "", "no measurements yet");
    else this.requests.set(rate(five.reduce((sum, s) => sum + s.requests, 0) / length), "req/s", "average of the last 5 s");
    const requests = minute.reduce((sum, s) => sum + s.requests, 0), errors = minute.reduce((sum, s) => sum + s.errors, 0);
    if (errors === 0) this.errors.set("0", "", `of ${count(requests)} in the last minute`, requests > 0 ? "good" : "");
    else this.errors.set(count(errors), percent(100 * errors / requests), traffic.lastError || `of ${count(requests)} in the last minute`, "bad");
  }

  setProxies(proxies: Proxy[]): void {
    const bad = proxies.filter((p) => p.syncs.some((s) => s.status === "ERROR")).length;
    const behind = proxies.filter((p) => p.syncs.some((s) => s.status === "STALE")).length;
    const synced = proxies.length - proxies.filter((p) => p.syncs.some((s) => s.status === "ERROR" || s.status === "STALE")).length;
    if (proxies.length === 0) this.proxies.set("0", "", "none connected");
    else this.proxies.set(`${count(synced)}`, `of ${count(proxies.length)}`,
      bad > 0 ? `in sync, ${bad} refused configuration` : behind > 0 ? `in sync, ${behind} on the way` : "in sync", bad > 0 ? "bad" : behind > 0 ? "warn" : "good");
  }

  setProblems(problems: Problem[]): void {
    const errors = problems.filter((p) => p.severity === "error").length, warnings = problems.filter((p) => p.severity === "warning").length;
    const note = [errors > 0 && plural(errors, "error"), warnings > 0 && plural(warnings, "warning")].filter(Boolean).join(", ");
    this.problems.set(count(problems.length), "", problems.length === 0 ? "all in effect" : note || "remarks only", errors > 0 ? "bad" : warnings > 0 ? "warn" : "good");
  }

  setChanges(changes: Change[]): void {
    this.last = changes.find((c) => c.proxies > 0) ?? changes[0];
  }

  // setTime refreshes what is told relative to now.
  setTime(now: number): void {
    if (!this.last) return;
    const c = this.last, when = ago(now - c.at);
    if (c.proxies === 0) this.change.set("–", "", `no proxy concerned, ${when}`);
    else if (c.reached < c.proxies) this.change.set(`${c.reached} of ${c.proxies}`, "", `proxies have it, ${when}`, "warn");
    else {
      const [value, unit] = ms(c.last).split(" ");
      this.change.set(value!, unit!, `to reach ${plural(c.proxies, "proxy", "proxies")}, ${when}`, "good");
    }
  }
}
