// SPDX-License-Identifier: Apache-2.0
// Light or dark: what the reader chose here, else TensorBoard's own setting, else the system's.
export type Choice = "auto" | "light" | "dark";

const KEY = "gradwatch-theme";
const system = matchMedia("(prefers-color-scheme: dark)");

/** TensorBoard marks its body; a plugin is a frame of the same origin. */
function host(): HTMLElement | null {
  try {
    return parent !== window && parent.document.querySelector("tb-webapp") ? parent.document.body : null;
  } catch {
    return null; // a frame of another origin, as in a notebook
  }
}

function stored(): Choice {
  try {
    const choice = localStorage.getItem(KEY);
    return choice === "light" || choice === "dark" ? choice : "auto";
  } catch {
    return "auto";
  }
}

export class Theme {
  choice: Choice = stored();
  private readonly listeners: (() => void)[] = [];

  constructor() {
    system.addEventListener("change", () => this.apply());
    const body = host();
    if (body) new MutationObserver(() => this.apply()).observe(body, { attributes: true, attributeFilter: ["class"] });
    this.apply();
  }

  get dark(): boolean {
    if (this.choice !== "auto") return this.choice === "dark";
    const body = host();
    return body ? body.classList.contains("dark-mode") : system.matches;
  }

  choose(choice: Choice): void {
    this.choice = choice;
    try {
      localStorage.setItem(KEY, choice);
    } catch {
      // private mode: it holds until the page is left
    }
    this.apply();
  }

  onChange(listener: () => void): void {
    this.listeners.push(listener);
  }

  private apply(): void {
    document.documentElement.dataset.theme = this.dark ? "dark" : "light";
    for (const listener of this.listeners) listener();
  }
}

/** A colour of the style sheet. */
export const color = (name: string): string =>
  getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
