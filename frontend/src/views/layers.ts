// SPDX-License-Identifier: Apache-2.0
// All layers, to sort and filter.
import { h } from "../dom";
import { doubles, exact, floats, percent, plural, short } from "../numbers";
import type { Store } from "../store";
import type { Layers } from "../types";

interface Row {
  layer: string;
  numbers: number[]; // as COLUMNS, from the second on
}

interface Column {
  title: string;
  hint: string;
  text: (value: number) => string;
}

const COLUMNS: Column[] = [
  { title: "#", hint: "depth, from the input", text: String },
  { title: "norm", hint: "gradient norm at the last logged step", text: short },
  { title: "typical", hint: "median norm over the run", text: short },
  { title: "peak", hint: "largest norm of the run", text: short },
  { title: "share", hint: "of the squared total norm at the last logged step", text: percent },
  { title: "update ratio", hint: "median of weight change over weight; 1e-3 is a good target", text: short },
  {
    title: "non-finite",
    hint: "largest share of NaN or inf entries",
    text: (value) => (value > 0 ? percent(value) : "–"),
  },
  { title: "events", hint: "events that name this layer", text: (value) => (value ? String(value) : "–") },
];
const SHOWN = 200; // rows; a filter finds the others

export class LayersView {
  readonly element: HTMLElement;
  private readonly filter: HTMLInputElement;
  private readonly count = h("span", { class: "muted" });
  private readonly head = h("tr");
  private readonly body = h("tbody");
  private rows: Row[] = [];
  private column = 0; // 0 is depth, -1 the name
  private descending = false;

  constructor(private readonly store: Store) {
    this.filter = h("input", {
      type: "search",
      placeholder: "Filter layers",
      "aria-label": "Filter layers",
      oninput: () => this.draw(),
    });
    const table = h("table", {}, h("thead", {}, this.head), this.body);
    this.element = h(
      "section",
      { class: "panel" },
      h("div", { class: "bar" }, h("h2", {}, "Layers"), this.filter, this.count),
      h("div", { class: "scroll", tabindex: 0, "aria-label": "Table of layers" }, table),
    );
    store.on((changed) => changed.has("layer") && this.draw());
  }

  show(data: Layers): void {
    const [norm, typical, peak, ratio, nonfinite] = [
      data.norm,
      data.typical,
      data.peak,
      data.ratio,
      data.nonfinite,
    ].map(floats) as [Float32Array, Float32Array, Float32Array, Float32Array, Float32Array];
    const share = doubles(data.share);
    this.rows = data.layers.map((layer, i) => ({
      layer,
      numbers: [i + 1, norm[i]!, typical[i]!, peak[i]!, share[i]!, ratio[i]!, nonfinite[i]!, data.events[i]!],
    }));
    this.draw();
  }

  private draw(): void {
    const header = (title: string, hint: string, column: number) => {
      const sorted = column === this.column ? (this.descending ? "descending" : "ascending") : "none";
      const button = h(
        "button",
        { type: "button", class: "plain", title: hint, onclick: () => this.sort(column) },
        title,
        sorted === "none" ? "" : this.descending ? " ↓" : " ↑",
      );
      return h("th", { scope: "col", "aria-sort": sorted, class: column === -1 ? "name" : "" }, button);
    };
    const headers = COLUMNS.map(({ title, hint }, i) => header(title, hint, i));
    const focused = [...this.head.querySelectorAll("button")].indexOf(document.activeElement as HTMLButtonElement);
    this.head.replaceChildren(headers[0]!, header("layer", "name of the module", -1), ...headers.slice(1));
    if (focused >= 0) this.head.querySelectorAll("button")[focused]?.focus();
    const wanted = this.filter.value.toLowerCase();
    const found = this.rows
      .filter(({ layer }) => layer.toLowerCase().includes(wanted))
      .sort((a, b) => this.compare(a, b));
    this.count.textContent =
      found.length > SHOWN
        ? `first ${SHOWN} of ${plural(found.length, "layer")}: filter to see others`
        : plural(found.length, "layer");
    this.body.replaceChildren(...found.slice(0, SHOWN).map((row) => this.line(row)));
    if (!found.length && this.rows.length)
      this.body.append(
        h("tr", {}, h("td", { colspan: COLUMNS.length + 1, class: "hint" }, "No layer has this in its name.")),
      );
  }

  private line({ layer, numbers }: Row): HTMLElement {
    const cells = numbers.map((value, i) =>
      h(
        "td",
        { title: i ? exact(value) : undefined, class: Number.isFinite(value) ? "" : "bad" },
        COLUMNS[i]!.text(value),
      ),
    );
    const name = h(
      "td",
      { class: "name" },
      h(
        "button",
        { type: "button", class: "link mono", title: layer, onclick: () => this.store.set({ layer }) },
        layer,
      ),
    );
    return h("tr", { class: layer === this.store.look.layer ? "chosen" : "" }, cells[0], name, ...cells.slice(1));
  }

  private sort(column: number): void {
    this.descending = column === this.column ? !this.descending : column > 0;
    this.column = column;
    this.draw();
  }

  /** NaN sorts as the largest. */
  private compare(a: Row, b: Row): number {
    const sign = this.descending ? -1 : 1;
    if (this.column < 0) return sign * a.layer.localeCompare(b.layer, "en", { numeric: true });
    const [x, y] = [a.numbers[this.column]!, b.numbers[this.column]!].map((value) =>
      Number.isNaN(value) ? Infinity : value,
    ) as [number, number];
    return x === y ? 0 : sign * (x < y ? -1 : 1);
  }
}
