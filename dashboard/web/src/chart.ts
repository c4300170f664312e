// The two plots of a route: the destinations' shares, observed (lines) against
// configured (dashed steps), and the requests and errors per second below.

import uPlot from "../vendor/uplot/uPlot.esm.js";
import { clock, percent, rate } from "./format";
import type { Route } from "./model";
import { colour, onTheme, themeColour } from "./palette";
import { middle, shares, type Traffic } from "./traffic";

// delay keeps the newest second just outside on the right, so that lines
// glide in instead of jumping.
const delay = 1.6;

export class Charts {
  private share: uPlot;
  private load: uPlot;
  private range: [number, number] = [0, 1];
  private sized: ResizeObserver;
  private forget: () => void;

  // onPoint gets a description of the second under the pointer, or null.
  constructor(
    private route: Route, private traffic: Traffic,
    private shareBox: HTMLElement, private loadBox: HTMLElement,
    private onPoint: (text: string | null) => void,
  ) {
    this.share = this.makeShare();
    this.load = this.makeLoad();
    this.sized = new ResizeObserver(() => this.resize());
    this.sized.observe(shareBox);
    this.forget = onTheme(() => this.draw());
  }

  destroy(): void {
    this.sized.disconnect();
    this.forget();
    this.share.destroy();
    this.load.destroy();
  }

  setRoute(route: Route): void {
    const same = route.destinations.length === this.route.destinations.length;
    this.route = route;
    if (!same) {
      this.share.destroy();
      this.share = this.makeShare();
    }
  }

  // setData takes over what traffic has, for the window that ends at now.
  setData(now: number, window: number): void {
    const seconds = this.traffic.since(now - window - 15);
    const x = seconds.map(middle);
    this.share.setData([x, ...shares(this.route, seconds)], false);
    this.load.setData([x, seconds.map((s) => s.requests / s.length), seconds.map((s) => s.errors > 0 ? s.errors / s.length : null)], false);
    this.scroll(now, window);
  }

  // scroll moves the window; it is called several times a second.
  scroll(now: number, window: number): void {
    this.range = [now - delay - window, now - delay];
    for (const u of [this.share, this.load]) u.setScale("x", { min: this.range[0], max: this.range[1] });
  }

  private draw(): void {
    for (const u of [this.share, this.load]) u.redraw(false, true);
  }

  private resize(): void {
    const width = this.shareBox.clientWidth;
    if (width <= 0) return;
    this.share.setSize({ width, height: width < 480 ? 220 : 300 });
    this.load.setSize({ width, height: width < 480 ? 96 : 110 });
  }

  private base(height: number): Omit<uPlot.Options, "series"> {
    return {
      width: Math.max(this.shareBox.clientWidth, 200), height,
      padding: [12, 62, 0, 0],
      legend: { show: false },
      cursor: { sync: { key: this.route.id }, drag: { x: false, y: false }, points: { size: 7 }, y: false },
      hooks: { setCursor: [(u) => this.point(u)] },
    };
  }

  private axes(size: number, unit: (v: number) => string, splits?: number[]): uPlot.Axis[] {
    const font = `12px ${getComputedStyle(document.body).fontFamily}`;
    const stroke = () => themeColour("muted");
    const grid = { stroke: () => themeColour("grid"), width: 1 };
    return [
      { stroke, font, grid: { show: false }, ticks: { show: false }, size: 26, gap: 6, space: 84, values: (_, at) => at.map(clock) },
      {
        stroke, font, grid, ticks: { show: false }, size, gap: 8, space: 34,
        values: (_, at) => at.map(unit), ...(splits ? { splits: () => splits } : {}),
      },
    ];
  }

  private makeShare(): uPlot {
    const spline = uPlot.paths.spline!();
    const options: uPlot.Options = {
      ...this.base(300),
      scales: { x: { time: true, range: () => this.range }, y: { range: [0, 100] } },
      axes: this.axes(52, (v) => `${v} %`, [0, 25, 50, 75, 100]),
      series: [{}, ...this.route.destinations.map((_, i): uPlot.Series => ({
        stroke: () => this.colourOf(i), width: 2.5, paths: spline, points: { show: false },
      }))],
    };
    options.hooks!.drawAxes = [(u) => this.drawConfigured(u)];
    options.hooks!.draw = [(u) => this.drawNames(u)];
    return new uPlot(options, [[], ...this.route.destinations.map(() => [])], this.shareBox);
  }

  private makeLoad(): uPlot {
    const spline = uPlot.paths.spline!();
    const options: uPlot.Options = {
      ...this.base(110),
      scales: { x: { time: true, range: () => this.range }, y: { range: (_, __, max) => [0, Math.max(5, (max || 0) * 1.15)] } },
      axes: this.axes(52, (v) => rate(v).replace(/\.0$/, "")),
      series: [
        {},
        { stroke: () => themeColour("muted"), width: 1.5, fill: () => themeColour("load"), paths: spline, points: { show: false } },
        { stroke: () => themeColour("bad"), width: 0, fill: () => themeColour("bad"), paths: uPlot.paths.bars!({ size: [0.8, 12], align: -1 }), points: { show: false } },
      ],
    };
    options.hooks!.draw = [(u) => this.drawLoadName(u)];
    return new uPlot(options, [[], [], []], this.loadBox);
  }

  private colourOf(i: number): string {
    return colour(this.route.destinations[i]?.label ?? "");
  }

  // drawConfigured draws the weights as steps, exactly when they changed, and
  // a rule at each change.
  private drawConfigured(u: uPlot): void {
    const { ctx, bbox } = u, dpr = devicePixelRatio, history = this.route.history;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top - 3, bbox.width, bbox.height + 6);
    ctx.clip();
    const x = (at: number) => u.valToPos(at, "x", true), y = (v: number) => u.valToPos(v, "y", true);
    ctx.lineWidth = dpr;
    ctx.strokeStyle = themeColour("rule");
    for (const c of history.slice(1)) {
      ctx.beginPath();
      ctx.moveTo(x(c.at), bbox.top);
      ctx.lineTo(x(c.at), bbox.top + bbox.height);
      ctx.stroke();
    }
    ctx.lineWidth = 1.5 * dpr;
    ctx.setLineDash([6 * dpr, 5 * dpr]);
    for (let d = 0; d < this.route.destinations.length; d++) {
      ctx.strokeStyle = this.colourOf(d);
      ctx.globalAlpha = 0.8;
      ctx.lineDashOffset = d * 11 / this.route.destinations.length * dpr; // equal weights show all their colours
      ctx.beginPath();
      history.forEach((c, i) => {
        const v = y(c.percents[d] ?? 0), end = history[i + 1]?.at ?? this.range[1];
        if (i === 0) ctx.moveTo(x(Math.max(c.at, this.range[0])), v);
        else ctx.lineTo(x(c.at), v);
        ctx.lineTo(x(end), v);
      });
      ctx.stroke();
    }
    ctx.restore();
  }

  // drawNames writes each destination beside the end of its line: nobody has
  // to tell versions by colour alone.
  private drawNames(u: uPlot): void {
    const { ctx, bbox } = u, dpr = devicePixelRatio, gap = 30 * dpr;
    const last = this.route.history.at(-1)?.percents ?? [];
    const names = this.route.destinations.map((d, i) => {
      const column = u.data[i + 1] as (number | null)[];
      const v = column.findLast((value) => value !== null) ?? last[i] ?? 0;
      return { text: d.label, value: v, y: u.valToPos(v, "y", true), colour: this.colourOf(i) };
    }).sort((a, b) => a.y - b.y);
    names.forEach((n, i) => { if (i > 0) n.y = Math.max(n.y, names[i - 1]!.y + gap); });
    const over = (names.at(-1)?.y ?? 0) - (bbox.top + bbox.height - 8 * dpr);
    if (over > 0) for (const n of names) n.y -= over;
    ctx.save();
    ctx.textAlign = "left";
    ctx.textBaseline = "middle";
    const x = bbox.left + bbox.width + 8 * dpr, family = getComputedStyle(document.body).fontFamily;
    for (const n of names) {
      ctx.fillStyle = n.colour;
      ctx.font = `600 ${13 * dpr}px ${family}`;
      ctx.fillText(fit(ctx, n.text, 54 * dpr), x, n.y - 7 * dpr);
      ctx.font = `${12 * dpr}px ${family}`;
      ctx.fillText(percent(n.value), x, n.y + 8 * dpr);
    }
    ctx.restore();
  }

  private drawLoadName(u: uPlot): void {
    const { ctx, bbox } = u, dpr = devicePixelRatio;
    const last = (u.data[1] as number[]).at(-1);
    if (last === undefined) return;
    const y = Math.min(Math.max(u.valToPos(last, "y", true), bbox.top + 14 * dpr), bbox.top + bbox.height - 14 * dpr);
    const x = bbox.left + bbox.width + 8 * dpr, family = getComputedStyle(document.body).fontFamily;
    ctx.save();
    ctx.textAlign = "left";
    ctx.textBaseline = "middle";
    ctx.fillStyle = themeColour("text");
    ctx.font = `600 ${13 * dpr}px ${family}`;
    ctx.fillText(rate(last), x, y - 7 * dpr);
    ctx.fillStyle = themeColour("muted");
    ctx.font = `${12 * dpr}px ${family}`;
    ctx.fillText("req/s", x, y + 8 * dpr);
    ctx.restore();
  }

  private point(u: uPlot): void {
    const i = u.cursor.idx;
    if (i === null || i === undefined || (u.cursor.left ?? -1) < 0 || u.data[0].length === 0) {
      this.onPoint(null);
      return;
    }
    const at = u.data[0][i]!;
    const parts = this.route.destinations.map((d, n) => {
      const v = (this.share.data[n + 1] as (number | null)[])[i];
      return `${d.label} ${v === null || v === undefined ? "–" : percent(v)}`;
    });
    const requests = (this.load.data[1] as number[])[i] ?? 0, errors = (this.load.data[2] as (number | null)[])[i] ?? 0;
    this.onPoint([clock(at), ...parts, `${rate(requests)} req/s`, `${rate(errors)} errors/s`].join("  ·  "));
  }
}

// fit shortens a name to a width.
function fit(ctx: CanvasRenderingContext2D, text: string, width: number): string {
  if (ctx.measureText(text).width <= width) return text;
  let n = text.length;
  while (n > 1 && ctx.measureText(text.slice(0, n) + "…").width > width) n--;
  return text.slice(0, n) + "…";
}
