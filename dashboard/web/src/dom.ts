// The few words of DOM that the page is written in. Nothing here takes HTML:
// text stays text.

type Child = Node | string | number | null | undefined | false;
type Props = { [name: string]: string | number | boolean | undefined | ((e: Event) => void) };

// h makes an element. Functions become listeners ("onclick"), false and
// undefined leave an attribute out, true makes it empty.
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K, props: Props = {}, ...children: Child[]
): HTMLElementTagNameMap[K] {
  const el = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (typeof value === "function") el.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) el.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children) {
    if (child !== null && child !== undefined && child !== false) el.append(child instanceof Node ? child : String(child));
  }
  return el;
}

// icon makes an icon of one path on a grid of 16.
export function icon(path: string): SVGSVGElement {
  const ns = "http://www.w3.org/2000/svg";
  const el = document.createElementNS(ns, "svg");
  el.setAttribute("viewBox", "0 0 16 16");
  el.setAttribute("aria-hidden", "true");
  const p = document.createElementNS(ns, "path");
  p.setAttribute("d", path);
  el.append(p);
  return el;
}

export function byId(id: string): HTMLElement {
  const el = document.getElementById(id);
  if (!el) throw new Error(`no element #${id}`);
  return el;
}

// say sets text only where it differs, so that selections and screen readers
// are left alone.
export function say(el: Element, text: string): void {
  if (el.textContent !== text) el.textContent = text;
}

// keyed shows one element per item under parent, in order. An element is made
// again only when its item's content has changed; what was opened stays open
// and what had the focus keeps it.
export function keyed<T>(parent: Element, items: T[], key: (item: T) => string, make: (item: T) => HTMLElement): void {
  const old = new Map<string, HTMLElement>();
  for (const el of Array.from(parent.children) as HTMLElement[]) {
    if (el.dataset.key !== undefined) old.set(el.dataset.key, el);
  }
  let at: Element | null = parent.querySelector(":scope > [data-key]");
  for (const item of items) {
    const name = key(item), content = JSON.stringify(item);
    let el = old.get(name);
    old.delete(name);
    if (!el || el.dataset.content !== content) {
      const next = make(item);
      next.dataset.key = name;
      next.dataset.content = content;
      if (el) {
        keepOpen(el, next);
        const focused = el.contains(document.activeElement);
        if (at === el) at = el.nextElementSibling;
        el.replaceWith(next);
        if (focused) next.querySelector<HTMLElement>("summary, a, button")?.focus();
      }
      el = next;
    }
    if (el === at) at = at.nextElementSibling;
    else parent.insertBefore(el, at);
  }
  for (const el of old.values()) el.remove();
}

function keepOpen(from: Element, to: Element): void {
  const a = from.querySelectorAll("details"), b = to.querySelectorAll("details");
  for (let i = 0; i < Math.min(a.length, b.length); i++) b[i]!.open = a[i]!.open;
}

// place shows where an object was read: the file's name, with its folder on
// hover, and the line.
export function place(file?: string, line?: number): HTMLElement | null {
  if (!file) return null;
  const name = file.slice(file.lastIndexOf("/") + 1);
  return h("code", { class: "place", title: file }, line ? `${name}:${line}` : name);
}
