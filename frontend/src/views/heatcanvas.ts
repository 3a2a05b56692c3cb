// SPDX-License-Identifier: Apache-2.0
// Draws a heat map: its cells, the names beside, the steps below, and what is chosen; and tells which cell is where.
import { h } from "../dom";
import { doubles, exact, floats, nearest, percent, step, ticks } from "../numbers";
import { TITLES, paint, scale, type Scale } from "../scale";
import { color } from "../theme";
import type { Heatmap } from "../types";

const TOP = 6;
const BOTTOM = 24;
const RIGHT = 10;
const NAMES = 190; // pixels, at most
const LINE = 14; // pixels per name
const FONT = "11px Roboto, system-ui, sans-serif";

export interface Cell {
  row: number;
  column: number;
}

/** What is marked besides the cells. `dragged` is in pixels. */
export interface Marks {
  layer: string | null;
  step: number | null;
  cursor: Cell | null;
  dragged: [number, number] | null;
}

export class HeatCanvas {
  readonly element = h("canvas", {
    tabindex: 0,
    class: "heat",
    role: "application",
    "aria-label": "Heat map. Arrow keys move, Enter shows the layer's curve, plus and minus zoom, 0 shows all steps.",
  });
  steps: Float64Array = new Float64Array();
  ends: Float64Array = new Float64Array();
  layers: string[] = [];
  private map: Heatmap | null = null;
  private cells: Float32Array = new Float32Array();
  private image: HTMLCanvasElement | null = null;

  /** Takes in a map, and returns what its colours mean. */
  load(map: Heatmap): Scale {
    this.map = map;
    [this.cells, this.steps, this.ends, this.layers] = [
      floats(map.cells),
      doubles(map.steps),
      doubles(map.ends),
      map.layers,
    ];
    const colors = scale(map);
    this.image = paint(map, colors, this.steps.length);
    return colors;
  }

  draw(marks: Marks): void {
    const ratio = devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = this.element;
    if (!this.image || !width) return;
    [this.element.width, this.element.height] = [Math.round(width * ratio), Math.round(height * ratio)];
    const context = this.element.getContext("2d")!;
    context.scale(ratio, ratio);
    const { left, top, wide, high } = this.area();
    context.fillStyle = color("absent");
    context.fillRect(left, top, wide, high);
    context.imageSmoothingEnabled = false;
    if (this.steps.length) context.drawImage(this.image, left, top, wide, high);
    this.name(context, this.layers.indexOf(marks.layer ?? ""));
    this.number(context);
    this.mark(context, marks);
  }

  /** The cell at a point of the canvas; names belong to the first column. */
  at(x: number, y: number): Cell | null {
    const { left, top, wide, high } = this.area();
    if (!this.steps.length || x >= left + wide || y < top || y >= top + high) return null;
    return { row: Math.floor(((y - top) / high) * this.layers.length), column: this.column(x) };
  }

  /** The column nearest to a horizontal position. */
  column(x: number): number {
    const { left, wide } = this.area();
    const column = Math.floor(((x - left) / wide) * this.steps.length);
    return Math.min(this.steps.length - 1, Math.max(0, column));
  }

  /** The middle of a cell in the window. */
  middle({ row, column }: Cell): [number, number] {
    const { left, top, wide, high } = this.area();
    const box = this.element.getBoundingClientRect();
    return [
      box.x + left + ((column + 0.5) * wide) / this.steps.length,
      box.y + top + ((row + 0.5) * high) / this.layers.length,
    ];
  }

  /** Layer, value and step of a cell in words. */
  describe({ row, column }: Cell): [string, string, string] {
    const { value: kind, merged } = this.map!;
    const [first, last] = [this.steps[column]!, this.ends[column]!];
    const value = this.cells[row * this.steps.length + column]!;
    const said = value === -1 ? "not measured" : kind === "nonfinite" ? percent(value) : exact(value);
    const when = first === last ? `step ${step(first)}` : `steps ${step(first)} to ${step(last)}`;
    return [`${this.layers[row]}${merged > 1 ? ` and the next ${merged - 1}` : ""}`, `${TITLES[kind]}: ${said}`, when];
  }

  private area(): { left: number; top: number; wide: number; high: number } {
    const { clientWidth, clientHeight } = this.element;
    const left = Math.min(NAMES, Math.round(clientWidth * 0.24));
    return { left, top: TOP, wide: clientWidth - RIGHT - left, high: clientHeight - BOTTOM - TOP };
  }

  private name(context: CanvasRenderingContext2D, chosen: number): void {
    const { left, top, high } = this.area();
    context.font = FONT;
    context.textBaseline = "middle";
    context.textAlign = "right";
    const every = Math.max(1, Math.ceil((this.layers.length * LINE) / high));
    this.layers.forEach((layer, row) => {
      const crowded = chosen >= 0 && Math.abs(row - chosen) < every;
      if (row !== chosen && (row % every || crowded)) return;
      context.fillStyle = row === chosen ? color("accent") : color("muted");
      context.fillText(clipped(context, layer, left - 12), left - 6, top + ((row + 0.5) * high) / this.layers.length);
    });
  }

  private number(context: CanvasRenderingContext2D): void {
    const { left, top, wide, high } = this.area();
    context.textAlign = "center";
    context.fillStyle = color("muted");
    for (const tick of ticks(this.steps[0] ?? 0, this.ends[this.ends.length - 1] ?? 1, wide / 90)) {
      const x = left + ((nearest(this.steps, tick) + 0.5) * wide) / this.steps.length;
      context.fillText(step(tick), Math.min(x, left + wide - 16), top + high + 13);
      context.fillRect(x, top + high, 1, 4);
    }
  }

  private mark(context: CanvasRenderingContext2D, { layer, step: at, cursor, dragged }: Marks): void {
    const { left, top, wide, high } = this.area();
    const [x, y] = [wide / Math.max(1, this.steps.length), high / Math.max(1, this.layers.length)];
    const row = this.layers.indexOf(layer ?? "");
    context.strokeStyle = color("accent");
    context.lineWidth = 1.5;
    if (row >= 0) context.strokeRect(left, top + row * y, wide, Math.max(2, y));
    context.lineWidth = 1; // on either side of the column, which stays visible
    if (at !== null && at >= (this.steps[0] ?? 0) && at <= (this.ends[this.ends.length - 1] ?? 0))
      context.strokeRect(left + nearest(this.steps, at) * x - 1.5, top, x + 3, high);
    context.lineWidth = 1.5;
    context.strokeStyle = color("text");
    if (cursor)
      context.strokeRect(
        left + cursor.column * x - 1,
        top + cursor.row * y - 1,
        Math.max(3, x) + 2,
        Math.max(3, y) + 2,
      );
    context.fillStyle = color("veil");
    if (dragged) context.fillRect(dragged[0], top, dragged[1] - dragged[0], high);
  }
}

/** The end of a long name says more than its beginning. */
function clipped(context: CanvasRenderingContext2D, text: string, width: number): string {
  if (context.measureText(text).width <= width) return text;
  let cut = text.slice(-Math.ceil(width / 4));
  while (cut.length > 1 && context.measureText(`…${cut}`).width > width) cut = cut.slice(1);
  return `…${cut}`;
}
