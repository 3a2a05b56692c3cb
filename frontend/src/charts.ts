// SPDX-License-Identifier: Apache-2.0
// The parts of ECharts that this page uses, and what all its charts share.
import { LineChart, ScatterChart } from "echarts/charts";
import { DataZoomComponent, GridComponent, MarkLineComponent, TooltipComponent } from "echarts/components";
import { init, use, type EChartsType } from "echarts/core";
import { CanvasRenderer } from "echarts/renderers";
import { h } from "./dom";
import { short, step } from "./numbers";
import { color } from "./theme";

use([LineChart, ScatterChart, DataZoomComponent, GridComponent, MarkLineComponent, TooltipComponent, CanvasRenderer]);

export type Chart = EChartsType;
export type Point = [number, number | null];

/** A chart that fills `element` and follows its size. */
export function chart(element: HTMLElement): Chart {
  const made = init(element, undefined, { renderer: "canvas" });
  new ResizeObserver(() => made.resize({ animation: { duration: 0 } })).observe(element);
  return made;
}

/** A logarithmic axis has no place for zero, NaN or infinity: the line is interrupted there. */
export const positive = (value: number): number | null => (value > 0 && Number.isFinite(value) ? value : null);

export function axisStyle(): object {
  return {
    axisLine: { lineStyle: { color: color("line") } },
    axisTick: { lineStyle: { color: color("line") } },
    axisLabel: { color: color("muted"), fontSize: 11, hideOverlap: true },
    splitLine: { lineStyle: { color: color("grid") } },
    minorSplitLine: { show: false },
    nameTextStyle: { color: color("muted"), fontSize: 11 },
  };
}

export const stepAxis = (first: number, last: number): object => ({
  ...axisStyle(),
  type: "value",
  min: first,
  max: last > first ? last : first + 1,
  minInterval: 1,
  splitLine: { show: false },
  axisLabel: {
    color: color("muted"),
    fontSize: 11,
    hideOverlap: true,
    showMaxLabel: false,
    formatter: (value: number) => step(value),
  },
});

export const logAxis = (name: string): object => ({
  ...axisStyle(),
  type: "log",
  name,
  nameGap: 10,
  nameTextStyle: { color: color("muted"), fontSize: 11, align: "left", padding: [0, 0, 0, -40] },
  axisLabel: { color: color("muted"), fontSize: 11, hideOverlap: true, formatter: (value: number) => short(value) },
});

/** ECharts writes strings into the page as HTML; elements are safe whatever the names are. */
export function tooltip(formatter: (parameters: never) => HTMLElement): object {
  return {
    trigger: "axis",
    confine: true,
    transitionDuration: 0,
    backgroundColor: color("raised"),
    borderColor: color("line"),
    textStyle: { color: color("text"), fontSize: 12 },
    axisPointer: { type: "line", lineStyle: { color: color("muted"), type: "dashed" } },
    formatter,
  };
}

export function rows(title: string, entries: [string, string, string?][]): HTMLElement {
  const lines = entries.map(([name, value, swatch]) =>
    h("div", { class: "tip-row" }, h("span", {}, swatch ? dot(swatch) : null, name), h("b", {}, value)),
  );
  return h("div", {}, h("div", { class: "tip-title" }, title), ...lines);
}

function dot(swatch: string): HTMLElement {
  const element = h("i", { class: "dot" });
  element.style.background = swatch;
  return element;
}
