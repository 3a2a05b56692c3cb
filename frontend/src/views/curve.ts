// SPDX-License-Identifier: Apache-2.0
// One layer's own curve: norm and update ratio over the steps.
import { chart, logAxis, positive, rows, stepAxis, tooltip, type Chart, type Point } from "../charts";
import { h } from "../dom";
import { doubles, exact, floats, nearest, percent, step } from "../numbers";
import type { Store } from "../store";
import { color } from "../theme";
import type { Curve } from "../types";

export class CurveView {
  readonly element: HTMLElement;
  private readonly name = h("h2");
  private readonly hint = h(
    "p",
    { class: "hint" },
    "Click a row of the heat map or of the table to see that layer's own curve.",
  );
  private readonly plot = h("div", {
    class: "plot curve",
    role: "img",
    "aria-label": "Norm and update ratio of one layer over the steps",
  });
  private readonly close: HTMLButtonElement;
  private readonly keys = h(
    "div",
    { class: "keys" },
    h("span", { class: "key" }, h("i", { class: "swatch before" }), "norm"),
    h("span", { class: "key" }, h("i", { class: "swatch scale" }), "update ratio"),
  );
  private readonly chart: Chart;
  private data: Curve | null = null;

  constructor(private readonly store: Store) {
    this.close = h(
      "button",
      { type: "button", class: "plain", "aria-label": "Close the curve", onclick: () => store.set({ layer: null }) },
      "✕",
    );
    this.element = h(
      "section",
      { class: "panel", "aria-label": "Layer curve" },
      h("div", { class: "bar" }, this.name, this.keys, this.close),
      this.hint,
      this.plot,
    );
    this.chart = chart(this.plot);
    this.show(null);
  }

  show(data: Curve | null): void {
    const shown = this.data?.layer;
    this.data = data;
    this.element.classList.toggle("empty", !data);
    this.name.textContent = data?.layer ?? "Layer curve";
    this.name.classList.toggle("mono", Boolean(data));
    [this.hint.hidden, this.plot.hidden, this.keys.hidden, this.close.hidden] = [Boolean(data), !data, !data, !data];
    if (data) this.chart.resize({ animation: { duration: 0 } });
    this.draw();
    if (data && data.layer !== shown) this.element.scrollIntoView({ block: "nearest", behavior: "smooth" });
  }

  draw(): void {
    if (!this.data) return;
    const data = this.data;
    const steps = doubles(data.steps);
    const [norm, ratio, nonfinite] = [floats(data.norm), floats(data.ratio), floats(data.nonfinite)];
    const line = (values: Float32Array, axis: number, swatch: string) => ({
      type: "line",
      xAxisIndex: axis,
      yAxisIndex: axis,
      showSymbol: steps.length < 3,
      data: [...steps].map((at, i): Point => [at, positive(values[i]!)]),
      lineStyle: { color: swatch, width: 1.5 },
      itemStyle: { color: swatch },
      emphasis: { disabled: true },
    });
    const measured = ratio.some((value) => value >= 0);
    const bad = [...steps].filter((_, i) => nonfinite[i]! > 0);
    this.chart.setOption(
      {
        animation: false,
        grid: [
          { left: 56, right: 16, top: 26, height: measured ? 110 : 190 },
          { left: 56, right: 16, top: 176, height: 64, show: false },
        ],
        xAxis: [
          { ...stepAxis(...this.store.steps), axisLabel: { show: !measured, color: color("muted"), fontSize: 11 } },
          { ...stepAxis(...this.store.steps), gridIndex: 1, show: measured },
        ],
        yAxis: [logAxis("norm"), { ...logAxis("update ratio"), gridIndex: 1, show: measured }],
        axisPointer: { link: [{ xAxisIndex: "all" }] },
        tooltip: tooltip((parameters: { axisValue: number }[]) => {
          const i = nearest(steps, parameters[0]?.axisValue ?? 0);
          const entries: [string, string, string?][] = [
            ["norm", exact(norm[i]!), color("before")],
            ["update ratio", exact(ratio[i]!), color("scale")],
          ];
          if (nonfinite[i]! > 0) entries.push(["non-finite", percent(nonfinite[i]!)]);
          return rows(`step ${step(steps[i] ?? 0)}`, entries);
        }),
        series: [
          {
            ...line(norm, 0, color("before")),
            markLine: {
              silent: true,
              symbol: "none",
              label: { show: false },
              lineStyle: { color: color("bad"), type: "solid", width: 1 },
              data: bad.slice(0, 500).map((at) => ({ xAxis: at })),
            },
          },
          line(ratio, 1, color("scale")),
        ],
      },
      { replaceMerge: ["series"] },
    );
  }
}
