// Colours: of the theme (from the style sheet) and of the versions.

// After Okabe and Ito's set, which people with any colour blindness can tell
// apart; darkened for white and lightened for black so that lines keep a
// contrast of 3:1.
const light = ["#0067b8", "#d55e00", "#00785a", "#a8438c", "#6f6200", "#4a5260"];
const dark = ["#56b4e9", "#ff9d4a", "#35d0a0", "#e88fc6", "#ece05a", "#b9c3cf"];

const order: string[] = [];

// learn fixes the colours of labels: the first ones in alphabetical order,
// later ones behind them, so that no colour changes while the page is open.
export function learn(labels: Iterable<string>): void {
  for (const label of [...new Set(labels)].sort((a, b) => a.localeCompare(b, "en", { numeric: true }))) {
    if (!order.includes(label)) order.push(label);
  }
}

export function colour(label: string): string {
  const set = isDark() ? dark : light;
  return set[Math.max(order.indexOf(label), 0) % set.length]!;
}

export function isDark(): boolean {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

export function themeColour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

// onTheme calls f whenever the theme has changed, until the returned function
// is called.
export function onTheme(f: () => void): () => void {
  const system = matchMedia("(prefers-color-scheme: dark)");
  system.addEventListener("change", f);
  document.addEventListener("themechange", f);
  return () => {
    system.removeEventListener("change", f);
    document.removeEventListener("themechange", f);
  };
}
