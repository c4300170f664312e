// The button that switches the theme.

import { icon } from "./dom";
import { isDark, onTheme } from "./palette";

const sun = "M8 4.5a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7zM7.3 0h1.4v2.6H7.3zM7.3 13.4h1.4V16H7.3zM0 7.3h2.6v1.4H0zM13.4 7.3H16v1.4h-2.6zM1.9 2.9l1-1 1.8 1.8-1 1zM11.3 12.3l1-1 1.8 1.8-1 1zM1.9 13.1l1.8-1.8 1 1-1.8 1.8zM11.3 3.7l1.8-1.8 1 1-1.8 1.8z";
const moon = "M6.2 1.3a6.9 6.9 0 1 0 8.5 8.5A5.6 5.6 0 0 1 6.2 1.3z";

// themeButton makes button switch between light and dark, and remember it.
export function themeButton(button: HTMLElement): void {
  const show = () => {
    button.replaceChildren(icon(isDark() ? sun : moon));
    button.setAttribute("aria-label", isDark() ? "Switch to the light theme" : "Switch to the dark theme");
  };
  button.addEventListener("click", () => {
    const next = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    try {
      localStorage.setItem("theme", next);
    } catch {
      // It is then chosen for this page only.
    }
    document.dispatchEvent(new Event("themechange"));
  });
  onTheme(show);
  show();
}
