// SPDX-License-Identifier: Apache-2.0
// Layers in depth order x steps. Drag to zoom, click for a layer's own curve; arrow keys and Enter do the same.
import { h, tip } from "../dom";
import { plural } from "../numbers";
import { NONFINITE, TITLES, ZERO, viridis, type Scale } from "../scale";
import type { Store } from "../store";
import type { Heatmap, Value } from "../types";
import { HeatCanvas, type Cell } from "./heatcanvas";

const CLICK = 5; // pixels; further is a drag
const MOVES: Record<string, [number, number]> = {
  ArrowUp: [-1, 0],
  ArrowDown: [1, 0],
  ArrowLeft: [0, -1],
  ArrowRight: [0, 1],
  Home: [0, -Infinity],
  End: [0, Infinity],
  PageUp: [-10, 0],
  PageDown: [10, 0],
};

export class HeatmapView {
  readonly element: HTMLElement;
  private readonly canvas = new HeatCanvas();
  private readonly legend = h("div", { class: "legend" });
  private readonly note = h("span", { class: "muted note" });
  private readonly spoken = h("span", { class: "spoken", role: "status", "aria-live": "polite" });
  private readonly reset: HTMLButtonElement;
  private cursor: Cell | null = null;
  private dragged: [number, number] | null = null;

  constructor(private readonly store: Store) {
    const all = { type: "button", class: "plain", onclick: () => store.set({ range: null }) };
    this.reset = h("button", all, "show all steps");
    const head = h("div", { class: "bar" }, h("h2", {}, "Layers over steps"), this.choices(), this.note, this.reset);
    this.element = h("section", { class: "panel" }, head, this.canvas.element, this.legend, this.spoken);
    new ResizeObserver(() => this.draw()).observe(this.canvas.element);
    this.listen();
    store.on((changed) => (changed.has("layer") || changed.has("step")) && this.draw());
  }

  show(map: Heatmap): void {
    this.explain(this.canvas.load(map));
    this.cursor = null;
    this.note.textContent = words(map, this.canvas.steps.length);
    this.reset.hidden = !this.store.look.range;
    this.draw();
  }

  draw(): void {
    const { layer, step } = this.store.look;
    this.canvas.draw({ layer, step, cursor: this.cursor, dragged: this.dragged });
  }

  private choices(): HTMLElement {
    const group = h("div", { class: "segments", role: "radiogroup", "aria-label": "Colour shows" });
    for (const value of Object.keys(TITLES) as Value[]) {
      const checked = value === this.store.look.value;
      const input = { type: "radio", name: "value", value, checked, onchange: () => this.store.set({ value }) };
      group.append(h("label", {}, h("input", input), h("span", {}, TITLES[value])));
    }
    return group;
  }

  private listen(): void {
    const { element } = this.canvas;
    let from: number | null = null;
    element.addEventListener("pointerdown", (event) => {
      from = event.offsetX;
      element.setPointerCapture(event.pointerId);
    });
    element.addEventListener("pointermove", (event) => {
      if (from !== null && Math.abs(event.offsetX - from) > CLICK) this.dragged = [from, event.offsetX];
      this.move(this.canvas.at(event.offsetX, event.offsetY), [event.clientX, event.clientY]);
    });
    element.addEventListener("pointerup", (event) => {
      const dragged = this.dragged;
      [from, this.dragged] = [null, null];
      if (dragged) this.zoom(dragged);
      else this.choose(this.canvas.at(event.offsetX, event.offsetY));
    });
    for (const name of ["pointerleave", "pointercancel", "blur"]) element.addEventListener(name, () => this.move(null));
    element.addEventListener("dblclick", () => this.store.set({ range: null }));
    element.addEventListener("keydown", (event) => this.key(event));
  }

  private move(cell: Cell | null, at?: [number, number]): void {
    this.cursor = cell;
    this.draw();
    if (!cell) return tip.hide();
    const [layer, value, when] = this.canvas.describe(cell);
    tip.show(...(at ?? this.canvas.middle(cell)), h("b", {}, layer), value, h("span", { class: "muted" }, when));
  }

  private choose(cell: Cell | null): void {
    const { layers, steps } = this.canvas;
    if (cell) this.store.set({ event: null, layer: layers[cell.row]!, step: steps[cell.column]! });
  }

  private zoom([a, b]: [number, number]): void {
    const { steps, ends } = this.canvas;
    const [first, last] = [steps[this.canvas.column(Math.min(a, b))]!, ends[this.canvas.column(Math.max(a, b))]!];
    if (last > first) this.store.set({ range: [first, last] });
  }

  private key(event: KeyboardEvent): void {
    const { layers, steps } = this.canvas;
    if (!steps.length) return;
    const row = Math.max(0, layers.indexOf(this.store.look.layer ?? ""));
    const cell = this.cursor ?? { row, column: steps.length - 1 };
    const move = MOVES[event.key];
    if (move) {
      this.move({
        row: within(cell.row + move[0], layers.length),
        column: within(cell.column + move[1], steps.length),
      });
      this.spoken.textContent = this.canvas.describe(this.cursor!).join(", ");
    } else if (event.key === "Enter" || event.key === " ") this.choose(cell);
    else if (event.key === "+" || event.key === "-") this.scale(steps[cell.column]!, event.key === "+" ? 0.5 : 2);
    else if (event.key === "0" || event.key === "Escape") this.store.set({ range: null });
    else return;
    event.preventDefault();
  }

  private scale(middle: number, factor: number): void {
    const [first, last] = this.store.steps;
    this.store.zoom(middle - (middle - first) * factor, middle + (last - middle) * factor);
  }

  private explain({ low, high, log, label }: Scale): void {
    const ramp = Array.from({ length: 9 }, (_, i) => `rgb(${viridis(i / 8).join(" ")})`).join(", ");
    const bar = h("span", { class: "ramp" });
    bar.style.background = `linear-gradient(90deg, ${ramp})`;
    const end = (position: number) => h("span", {}, label(log ? 10 ** position : position));
    const muted = (text: string) => h("span", { class: "muted" }, text);
    this.legend.replaceChildren(
      h("span", { class: "scale" }, end(low), bar, end(high), log && muted("log scale")),
      ...(log ? [key(NONFINITE, "NaN or inf"), key(ZERO, "exactly zero")] : []),
      key("var(--absent)", log ? "not measured" : "none"),
      muted("drag to zoom · click for a layer's curve · double-click for all"),
    );
  }
}

const within = (value: number, count: number): number => Math.min(count - 1, Math.max(0, value));

function words({ layers, merged, exact }: Heatmap, columns: number): string {
  const rows =
    merged > 1 ? `${plural(layers.length, "row")} of up to ${merged} layers` : plural(layers.length, "layer");
  const largest = exact && merged === 1 ? "" : ", the largest in each cell";
  return `${rows} × ${plural(columns, exact ? "logged step" : "column")}${largest}`;
}

function key(swatch: string, text: string): HTMLElement {
  const box = h("i", { class: "swatch box" });
  box.style.background = swatch;
  return h("span", { class: "key" }, box, text);
}
