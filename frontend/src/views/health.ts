// SPDX-License-Identifier: Apache-2.0
// Health at a glance: one card per run and optimizer.
import { h, icon, svg } from "../dom";
import { ago, doubles, plural, step } from "../numbers";
import type { Store } from "../store";
import type { Health, Run, State } from "../types";

const WORDS: Record<State, string> = {
  alarm: "Alarm",
  warning: "Warning",
  held: "Held up by our callbacks",
  quiet: "Quiet since",
  healthy: "Healthy",
};
const FILTER_FROM = 7; // runs

export class HealthView {
  readonly element: HTMLElement;
  private readonly summary = h("p", { class: "summary" });
  private readonly cards = h("div", { class: "cards", role: "group", "aria-label": "Runs" });
  private readonly filter: HTMLInputElement;

  constructor(private readonly store: Store) {
    this.filter = h("input", { type: "search", placeholder: "Filter runs", "aria-label": "Filter runs", hidden: true });
    this.filter.addEventListener("input", () => this.draw());
    this.element = h(
      "section",
      { class: "health", "aria-label": "Health of the runs" },
      h("div", { class: "bar" }, this.summary, this.filter),
      this.cards,
    );
    store.on((changed) => (changed.has("runs") || changed.has("subject")) && this.draw());
  }

  private draw(): void {
    const { runs } = this.store.look;
    const all = runs.flatMap((run) => run.optimizers.map((health) => ({ run, health })));
    const words = (Object.keys(WORDS) as State[]).map(
      (state) => [all.filter(({ health }) => health.state === state).length, WORDS[state].toLowerCase()] as const,
    );
    this.summary.textContent = `${plural(runs.length, "run")}: ${
      words
        .filter(([count]) => count)
        .map(([count, word]) => `${count} ${word}`)
        .join(", ") || "reading"
    }`;
    this.filter.hidden = runs.length < FILTER_FROM;
    const wanted = this.filter.value.toLowerCase();
    const focused = (document.activeElement as HTMLElement | null)?.dataset["card"];
    this.cards.replaceChildren(
      ...all
        .filter(({ run }) => run.run.toLowerCase().includes(wanted))
        .map(({ run, health }) => this.card(run, health)),
    );
    if (focused) this.cards.querySelector<HTMLElement>(`[data-card="${CSS.escape(focused)}"]`)?.focus();
  }

  private card(run: Run, health: Health): HTMLElement {
    const subject = { run: run.run, optimizer: health.optimizer };
    const chosen = JSON.stringify(subject) === JSON.stringify(this.store.look.subject);
    const name = run.run === "." ? "(log directory)" : run.run;
    const counts = Object.entries(health.counts).sort((a, b) => b[1] - a[1]);
    return h(
      "button",
      {
        class: `card ${health.state}`,
        type: "button",
        "aria-pressed": String(chosen),
        "data-card": JSON.stringify(subject),
        onclick: () => this.store.set({ subject }),
      },
      h(
        "span",
        { class: "card-head" },
        h("span", { class: `pill ${health.state}` }, icon(health.state), WORDS[health.state]),
        h("span", { class: "age" }, health.updated ? ago(health.updated) : ""),
      ),
      h(
        "span",
        { class: "name", title: name },
        name,
        run.optimizers.length > 1 ? h("small", {}, ` optimizer ${health.optimizer}`) : null,
      ),
      trend(doubles(health.trend)),
      h(
        "span",
        { class: "facts" },
        h("b", {}, `step ${step(health.last_step)}`),
        ` · ${plural(health.layers, "layer")}`,
        run.loading ? " · reading" : "",
      ),
      h(
        "span",
        { class: "chips" },
        ...(counts.length
          ? counts.map(([kind, count]) => h("span", { class: "chip" }, `${kind.replaceAll("_", " ")} ${count}`))
          : [h("span", { class: "chip quiet" }, "no events")]),
      ),
    );
  }
}

/** The total norm as a small curve on a log scale; gaps are non-finite. */
function trend(total: Float64Array): SVGElement {
  const logs = [...total].map((value) => (value > 0 && Number.isFinite(value) ? Math.log10(value) : NaN));
  const known = logs.filter((value) => !Number.isNaN(value));
  const low = Math.min(...known);
  const span = Math.max(...known) - low || 1;
  let path = "";
  logs.forEach((value, i) => {
    if (Number.isNaN(value)) return;
    const x = (i / Math.max(1, logs.length - 1)) * 100;
    path += `${i === 0 || Number.isNaN(logs[i - 1]!) ? "M" : "L"}${x.toFixed(1)} ${(23 - (22 * (value - low)) / span).toFixed(1)}`;
  });
  return svg(
    "svg",
    { class: "trend", viewBox: "0 0 100 24", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("path", { d: path }),
  );
}
