// SPDX-License-Identifier: Apache-2.0
// Norm before and after clipping, the clip limit and the learning-rate scale over the steps, with the events as markers.
import { chart, logAxis, positive, rows, stepAxis, tooltip, type Chart, type Point } from "../charts";
import { h } from "../dom";
import { doubles, exact, nearest, pack, short, step } from "../numbers";
import type { Store } from "../store";
import { color } from "../theme";
import type { Timeline } from "../types";
import { Markers } from "./markers";

const LEGEND = [
  ["before", "norm before clipping"],
  ["after", "norm after clipping"],
  ["limit", "clip limit"],
  ["scale", "learning-rate scale"],
] as const;
type Named = { name: string; swatch: string; values: Float64Array };

export class TimelineView {
  readonly element: HTMLElement;
  private readonly plot = h("div", {
    class: "plot timeline",
    role: "img",
    "aria-label": "Gradient norm over the steps, logarithmic",
  });
  private readonly markers: Markers;
  private readonly chart: Chart;
  private data: Timeline | null = null;
  private zooming = 0;

  constructor(private readonly store: Store) {
    const legend = LEGEND.map(([name, text]) => h("span", { class: "key" }, h("i", { class: `swatch ${name}` }), text));
    this.markers = new Markers(store, (step) => this.place(step));
    const keys = h("div", { class: "keys" }, ...legend);
    const head = h("div", { class: "bar" }, h("h2", {}, "Timeline"), keys, this.markers.walker);
    const stage = h("div", { class: "stage" }, this.plot, this.markers.element);
    this.element = h("section", { class: "panel" }, head, stage);
    this.chart = chart(this.plot);
    this.chart.on("datazoom", () => this.zoomed());
    this.chart
      .getZr()
      .on("click", (event: { offsetX: number; offsetY: number }) => this.clicked(event.offsetX, event.offsetY));
    new ResizeObserver(() => this.markers.draw()).observe(this.plot);
    store.on((changed) => changed.has("step") && this.draw());
  }

  /** `detail` has more points of a part of the run. */
  show(whole: Timeline, detail: Timeline | null): void {
    this.data = detail ? joined(whole, detail) : whole;
    this.draw();
  }

  draw(): void {
    const health = this.store.health;
    if (!this.data || !health) return;
    const data = this.data;
    const steps = doubles(data.steps);
    const series: Named[] = [
      { name: LEGEND[0][1], swatch: color("before"), values: doubles(data.total) },
      { name: LEGEND[1][1], swatch: color("after"), values: doubles(data.total_clipped) },
      { name: LEGEND[2][1], swatch: color("limit"), values: doubles(data.limit) },
      { name: LEGEND[3][1], swatch: color("scale"), values: doubles(data.lr_scale) },
    ];
    const [first, last] = [health.first_step, Math.max(health.last_step, health.first_step + 1)];
    const [from, to] = this.store.steps;
    this.chart.setOption(
      {
        animation: false,
        grid: [
          { left: 56, right: 16, top: 26, height: 190 },
          { left: 56, right: 16, top: 244, height: 40 },
        ],
        xAxis: [
          { ...stepAxis(first, last), axisLabel: { show: false } },
          { ...stepAxis(first, last), gridIndex: 1 },
        ],
        yAxis: [
          logAxis("gradient norm"),
          { ...logAxis("LR scale"), ...bounds(series[3]!.values), gridIndex: 1, splitLine: { show: false } },
        ],
        dataZoom: [
          {
            type: "slider",
            xAxisIndex: [0, 1],
            bottom: 2,
            height: 20,
            startValue: from,
            endValue: to,
            realtime: false,
            ...zoomStyle(),
          },
          {
            type: "inside",
            xAxisIndex: [0, 1],
            zoomOnMouseWheel: "ctrl",
            moveOnMouseWheel: false,
            moveOnMouseMove: false,
          },
        ],
        axisPointer: { link: [{ xAxisIndex: "all" }] },
        tooltip: tooltip((parameters: { axisValue: number }[]) =>
          this.describe(parameters[0]?.axisValue ?? 0, steps, series),
        ),
        series: series.map(({ name, swatch, values }, i) => ({
          name,
          type: "line",
          xAxisIndex: i === 3 ? 1 : 0,
          yAxisIndex: i === 3 ? 1 : 0,
          step: i >= 2 ? "end" : undefined,
          showSymbol: steps.length < 3,
          symbolSize: 5,
          data: [...steps].map((at, k): Point => [at, positive(values[k]!)]),
          lineStyle: { color: swatch, width: i === 1 ? 1.2 : 1.6, type: i === 2 ? "dashed" : "solid" },
          itemStyle: { color: swatch },
          emphasis: { disabled: true },
          markLine: i === 0 ? this.chosen() : undefined,
        })),
      },
      { replaceMerge: ["series"] },
    );
    this.markers.draw();
  }

  private chosen(): object {
    const at = this.store.look.step;
    return {
      silent: true,
      symbol: "none",
      label: { show: false },
      lineStyle: { color: color("accent"), type: "solid" },
      data: at === null ? [] : [{ xAxis: at }],
    };
  }

  private describe(at: number, steps: Float64Array, series: Named[]): HTMLElement {
    const i = nearest(steps, at);
    return rows(
      `step ${step(steps[i] ?? 0)}`,
      series
        .filter(({ values }) => !Number.isNaN(values[i]) || values !== series[2]!.values)
        .map(({ name, swatch, values }) => [name, exact(values[i]!), swatch]),
    );
  }

  private zoomed(): void {
    const [{ startValue, endValue }] = (
      this.chart.getOption() as { dataZoom: [{ startValue: number; endValue: number }] }
    ).dataZoom;
    this.markers.draw();
    clearTimeout(this.zooming);
    this.zooming = window.setTimeout(() => this.store.zoom(startValue, endValue), 200);
  }

  private clicked(x: number, y: number): void {
    if (!this.chart.containPixel({ gridIndex: [0, 1] }, [x, y])) return;
    this.store.set({ step: Math.round(this.chart.convertFromPixel({ xAxisIndex: 0 }, x) as number) });
  }

  private place(at: number): number | null {
    if (!this.data) return null;
    const x = this.chart.convertToPixel({ xAxisIndex: 0 }, at) as number;
    return this.chart.containPixel({ gridIndex: 0 }, [x, 100]) ? x : null;
  }
}

function joined(whole: Timeline, detail: Timeline): Timeline {
  const fine = doubles(detail.steps);
  if (!fine.length) return whole;
  const coarse = doubles(whole.steps);
  const before = coarse.filter((at) => at < fine[0]!).length;
  const after = coarse.length - coarse.filter((at) => at > fine[fine.length - 1]!).length;
  const splice = (name: Exclude<keyof Timeline, "logged">) => {
    const values = doubles(whole[name]);
    return pack(Float64Array.from([...values.slice(0, before), ...doubles(detail[name]), ...values.slice(after)]));
  };
  const names = (Object.keys(whole) as (keyof Timeline)[]).filter((name) => name !== "logged");
  return {
    ...(Object.fromEntries(names.map((name) => [name, splice(name)])) as Omit<Timeline, "logged">),
    logged: whole.logged,
  };
}

/** A scale of 1 throughout is a line in the middle, not noise. */
function bounds(scale: Float64Array): object {
  const known = [...scale].filter((value) => value > 0 && Number.isFinite(value));
  return {
    min: Math.min(0.5, ...known) / 1.5,
    max: Math.max(1, ...known) * 1.5,
    logBase: 2, // the back-off halves: a decade would leave the axis without a label
    axisLabel: {
      show: true,
      color: color("muted"),
      fontSize: 10,
      hideOverlap: true,
      showMinLabel: false,
      showMaxLabel: false,
      formatter: (value: number) => short(value),
    },
  };
}

function zoomStyle(): object {
  return {
    borderColor: color("line"),
    fillerColor: color("veil"),
    handleStyle: { color: color("raised"), borderColor: color("muted") },
    moveHandleStyle: { color: color("line") },
    textStyle: { color: color("muted") },
    dataBackground: { lineStyle: { color: color("muted") }, areaStyle: { color: color("grid") } },
    selectedDataBackground: { lineStyle: { color: color("before") }, areaStyle: { color: color("grid") } },
    brushSelect: false,
    labelFormatter: (value: number) => step(Math.round(value)),
  };
}
