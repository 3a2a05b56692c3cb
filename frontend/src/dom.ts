// SPDX-License-Identifier: Apache-2.0
// The only way this page makes elements: text is always text, so that no layer name or message can become markup.
type Child = Node | string | number | null | false | undefined;
type Attributes = Record<string, string | number | boolean | EventListener | undefined | null>;

function build<E extends Element>(element: E, attributes: Attributes, children: Child[]): E {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.replace(/^on/, ""), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== undefined && value !== null) element.setAttribute(name, String(value));
  }
  element.append(...children.filter(present).map((child) => (typeof child === "number" ? String(child) : child)));
  return element;
}

const present = (child: Child): child is Node | string | number =>
  child !== null && child !== false && child !== undefined && child !== "";

export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  return build(document.createElement(tag), attributes, children);
}

export function svg(tag: string, attributes: Attributes = {}, ...children: Child[]): SVGElement {
  return build(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

const shapes: Record<string, string> = {
  pulse: "M.8 9h3l2-6.5 3.6 11L12 6l1.2 3h2",
  alarm: "M8 1.2 15.2 14.4H.8Z M8 6v4 M8 12v.6",
  warning: "M8 .8 15.2 8 8 15.2 .8 8Z M8 5v3.6 M8 10.6v.6",
  info: "M8 1a7 7 0 1 1 0 14A7 7 0 0 1 8 1Z M8 7v4.4 M8 4.4V5",
  held: "M8 1a7 7 0 1 1 0 14A7 7 0 0 1 8 1Z M6 5v6 M10 5v6",
  quiet: "M13.6 5.5A6.5 6.5 0 1 0 14.5 8 M14.6 1.6v4.2h-4.2",
  healthy: "M8 1a7 7 0 1 1 0 14A7 7 0 0 1 8 1Z M4.8 8.2l2.3 2.3 4.2-4.6",
};

/** A state is told by shape and word, never by colour alone. */
export const icon = (name: string): SVGElement =>
  svg(
    "svg",
    { viewBox: "0 0 16 16", class: `icon ${name}`, "aria-hidden": "true" },
    svg("path", { d: shapes[name] ?? shapes.info }),
  );

/** One floating box for all views. */
class Tip {
  private readonly box = h("div", { class: "tip", role: "status" });

  show(x: number, y: number, ...lines: Child[]): void {
    if (!this.box.isConnected) document.body.append(this.box);
    this.box.replaceChildren(...lines.filter(present).map((line) => h("div", {}, line)));
    this.box.classList.add("on");
    const { width, height } = this.box.getBoundingClientRect();
    this.box.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - width - 8))}px`;
    this.box.style.top = `${y + 18 + height > innerHeight ? Math.max(4, y - height - 12) : y + 18}px`;
  }

  hide(): void {
    this.box.classList.remove("on");
  }
}

export const tip = new Tip();
