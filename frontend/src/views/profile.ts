// SPDX-License-Identifier: Apache-2.0
// The gradient over depth at one step, and what each layer multiplies it by on its way to the input.
import { axisStyle, chart, logAxis, positive, rows, tooltip, type Chart } from "../charts";
import { h } from "../dom";
import { doubles, exact, floats, plural, step, times } from "../numbers";
import type { Store } from "../store";
import { color } from "../theme";
import type { Profile } from "../types";

export class ProfileView {
  readonly element: HTMLElement;
  private readonly when = h("span", { class: "muted" });
  private readonly verdict = h("p", { class: "verdict" });
  private readonly plot = h("div", {
    class: "plot profile",
    role: "img",
    "aria-label": "Gradient norm over depth at one step",
  });
  private readonly slider: HTMLInputElement;
  private readonly chart: Chart;
  private data: Profile | null = null;
  private moving = 0;

  constructor(private readonly store: Store) {
    this.slider = h("input", {
      type: "range",
      class: "slider",
      "aria-label": "Step of the depth profile",
      oninput: () => this.slid(),
    });
    const latest = h("button", { type: "button", class: "plain", onclick: () => store.set({ step: null }) }, "latest");
    this.element = h(
      "section",
      { class: "panel" },
      h("div", { class: "bar" }, h("h2", {}, "Depth profile"), this.when, latest),
      this.slider,
      this.verdict,
      this.plot,
    );
    this.chart = chart(this.plot);
    this.chart.on("click", (event) => store.set({ layer: this.data?.layers[event.dataIndex as number] ?? null }));
  }

  show(data: Profile): void {
    this.data = data;
    this.draw();
  }

  draw(): void {
    const health = this.store.health;
    if (!this.data || !health) return;
    const data = this.data;
    const [norm, factors] = [floats(data.norm), doubles(data.factors)];
    [this.slider.min, this.slider.max, this.slider.value] = [
      String(health.first_step),
      String(health.last_step),
      String(data.step),
    ];
    this.when.textContent = `step ${step(data.step)}`;
    this.verdict.replaceChildren(...this.words());
    const largest = norm.reduce((most, value) => (Number.isFinite(value) ? Math.max(most, value) : most), 0) || 1;
    const points = data.layers.map((_, i) => ({
      value: [positive(norm[i]!), i],
      itemStyle: { color: this.shade(factors[i]!) },
    }));
    this.chart.setOption({
      animation: false,
      grid: { left: 12, right: 20, top: 8, bottom: 38 },
      xAxis: {
        ...logAxis(""),
        ...decades(norm),
        name: "gradient norm (top: input, bottom: output)",
        nameLocation: "middle",
        nameGap: 24,
        nameTextStyle: { color: color("muted"), fontSize: 11 },
      },
      yAxis: {
        ...axisStyle(),
        type: "value",
        inverse: true,
        min: -0.5,
        max: Math.max(0.5, data.layers.length - 0.5),
        axisLabel: { show: false },
        axisTick: { show: false },
        splitLine: { show: false },
      },
      tooltip: {
        ...tooltip((parameters: { dataIndex: number }[]) => this.describe(parameters[0]?.dataIndex ?? 0)),
        axisPointer: { type: "line", axis: "y" },
      },
      series: [
        {
          type: "line",
          data: points,
          showSymbol: data.layers.length <= 120,
          symbol: "circle",
          symbolSize: 7,
          lineStyle: { color: color("before"), width: 1.4 },
          emphasis: { scale: 1.4 },
        },
        // what is not finite has no place on the axis: it is marked at the largest norm
        {
          type: "scatter",
          data: [...norm].map((value, i) => [Number.isFinite(value) ? null : largest, i]),
          symbol: "diamond",
          symbolSize: 9,
          itemStyle: { color: color("bad") },
        },
      ],
    });
  }

  private words(): (Node | string)[] {
    const { factor, layers } = this.data!;
    const bad = floats(this.data!.norm).filter((norm) => !Number.isFinite(norm)).length;
    if (bad) return [h("b", { class: "bad" }, `◆ NaN or inf in ${bad} of ${plural(layers.length, "layer")}`)];
    if (factor === null) return [`${layers.length} layers, from the input (top) to the output`];
    const whole = factor ** Math.max(1, layers.length - 1);
    const verb = whole < 0.1 ? "shrinks" : whole > 10 ? "grows" : "keeps its size";
    return [`From output to input the gradient ${verb}: `, h("b", {}, `${times(factor)} per layer`)];
  }

  private describe(i: number): HTMLElement {
    const { layers, norm, ratio, nonfinite, factors } = this.data!;
    const [growth, share] = [doubles(factors)[i]!, floats(nonfinite)[i]!];
    const entries: [string, string][] = [
      ["norm", exact(floats(norm)[i]!)],
      ["factor to this layer", Number.isNaN(growth) ? "–" : times(growth)],
      ["update ratio", exact(floats(ratio)[i]!)],
    ];
    if (share > 0) entries.push(["non-finite share", exact(share)]);
    return rows(layers[i] ?? "", entries);
  }

  /** A layer that loses or adds a factor of ten stands out. */
  private shade(factor: number): string {
    return factor < 0.1 || factor > 10 ? color("limit") : color("before");
  }

  private slid(): void {
    clearTimeout(this.moving);
    this.moving = window.setTimeout(() => this.store.set({ step: Number(this.slider.value) }), 120);
  }
}

/** Whole decades around the values: past ten of them, the chart's own bounds are ten decades wide. */
function decades(values: Float32Array): object {
  const known = [...values].filter((value) => positive(value) !== null).map(Math.log10);
  if (!known.length) return {};
  const low = Math.floor(Math.min(...known));
  return { min: 10 ** low, max: 10 ** Math.max(low + 1, Math.ceil(Math.max(...known))) };
}
