// SPDX-License-Identifier: Apache-2.0
// Puts the views together: asks the source for what the reader looks at, again when that changes or the run goes on.
import { h, icon } from "./dom";
import { Store } from "./store";
import type { Choice, Theme } from "./theme";
import type { DataSource, Events, Run, State, Subject } from "./types";
import { CurveView } from "./views/curve";
import { DiagnosisView } from "./views/diagnosis";
import { HealthView } from "./views/health";
import { HeatmapView } from "./views/heatmap";
import { LayersView } from "./views/layers";
import { ProfileView } from "./views/profile";
import { TimelineView } from "./views/timeline";

const EVERY = 5000; // milliseconds between two looks at a run that may go on
const READING = 250; // and while the server is still reading it
const NONE: Events = { events: [], count: 0 };
const EXAMPLE = 'Trainer(callbacks=[GradientNormLogger()], logger=TensorBoardLogger("logs"))';
const STATES: State[] = ["alarm", "warning", "held", "quiet", "healthy"]; // worst first
const THEMES: [Choice, string][] = [
  ["auto", "Auto"],
  ["light", "Light"],
  ["dark", "Dark"],
];

export class App {
  private readonly store = new Store();
  private readonly notices = h("div", { class: "notices", role: "status", "aria-live": "polite" });
  private readonly empty = h("div", { class: "blank" });
  private readonly content: HTMLElement;
  private readonly pause = h("button", { type: "button", class: "plain" });
  private readonly health: HealthView;
  private readonly timeline: TimelineView;
  private readonly heatmap: HeatmapView;
  private readonly curve: CurveView;
  private readonly profile: ProfileView;
  private readonly layers: LayersView;
  private paused = false;
  private timer = 0;
  private errors = new Map<string, string>();

  constructor(
    private readonly source: DataSource,
    private readonly theme: Theme,
    root: HTMLElement,
  ) {
    this.health = new HealthView(this.store);
    this.timeline = new TimelineView(this.store);
    this.heatmap = new HeatmapView(this.store);
    this.curve = new CurveView(this.store);
    this.profile = new ProfileView(this.store);
    const diagnosis = new DiagnosisView(this.store);
    this.layers = new LayersView(this.store);
    const left = h("div", { class: "column" }, this.heatmap.element, this.curve.element);
    const right = h("div", { class: "column" }, this.profile.element);
    this.content = h(
      "main",
      { hidden: true },
      this.health.element,
      this.timeline.element,
      h("div", { class: "split" }, left, right),
      diagnosis.element,
      this.layers.element,
    );
    root.append(this.header(), this.notices, this.empty, this.content);
    this.store.on((changed) => this.changed(changed));
    theme.onChange(() => this.redraw());
    document.addEventListener("visibilitychange", () => void this.refresh());
  }

  /** Looks for new data now, and from then on. */
  async refresh(): Promise<void> {
    clearTimeout(this.timer);
    const runs = await this.attempt("runs", () => this.source.runs());
    if (runs) this.arrived(runs);
    if (!this.source.live || this.paused || document.hidden) return;
    const reading = runs?.some((run) => run.loading);
    this.timer = window.setTimeout(() => void this.refresh(), reading ? READING : EVERY);
  }

  private header(): HTMLElement {
    this.pause.addEventListener("click", () => this.toggle());
    this.pause.hidden = !this.source.live;
    const themes = h("div", { class: "segments", role: "radiogroup", "aria-label": "Theme" });
    for (const [choice, text] of THEMES) {
      const input = h("input", {
        type: "radio",
        name: "theme",
        value: choice,
        checked: choice === this.theme.choice,
        onchange: () => this.theme.choose(choice),
      });
      themes.append(h("label", {}, input, h("span", {}, text)));
    }
    this.toggle(false);
    return h(
      "header",
      { class: "top" },
      h("h1", {}, icon("pulse"), "GradWatch"),
      h("span", { class: "muted" }, "gradient health"),
      h("span", { class: "spring" }),
      this.pause,
      themes,
    );
  }

  private toggle(paused = !this.paused): void {
    this.paused = paused;
    this.pause.textContent = paused ? "▶ Resume" : "❚❚ Live";
    this.pause.setAttribute("aria-label", paused ? "Resume live updates" : "Live updates are on: pause");
    if (this.content) void this.refresh();
  }

  private arrived(runs: Run[]): void {
    const before = this.store.health;
    const any = runs.some((run) => run.optimizers.length);
    this.content.hidden = !any;
    this.blank(runs, any);
    const all = runs.flatMap((run) =>
      run.optimizers.map(({ optimizer, state }) => ({
        subject: { run: run.run, optimizer },
        rank: STATES.indexOf(state),
      })),
    );
    const kept = all.find(
      ({ subject }) => JSON.stringify(subject) === JSON.stringify(this.store.look.subject),
    )?.subject;
    const worst = all.sort((a, b) => a.rank - b.rank)[0]?.subject;
    this.notify(runs);
    this.store.set({ runs, subject: kept ?? worst ?? null });
    if (kept && JSON.stringify(before) !== JSON.stringify(this.store.health))
      this.load(["timeline", "heatmap", "events", "layers", "profile", "curve"]);
  }

  private blank(runs: Run[], any: boolean): void {
    this.empty.hidden = any;
    if (any) return;
    const reading = runs.some((run) => run.loading)
      ? "Reading the event files."
      : "No record could be read: see above.";
    const text = runs.length ? reading : "No gradient records in this log directory yet.";
    const todo = h("p", {}, "They appear here with the first logged step of a run like this one:");
    this.empty.replaceChildren(
      h("h2", {}, text),
      ...(runs.length
        ? []
        : [
            todo,
            h("pre", {}, h("code", {}, EXAMPLE)),
            h("p", { class: "muted" }, "A run with few batches needs Trainer(log_every_n_steps=1)."),
          ]),
    );
  }

  private changed(changed: Set<string>): void {
    if (changed.has("subject")) {
      this.store.set({ range: null, layer: null, step: null, event: null, events: NONE });
      this.load(["timeline", "heatmap", "events", "layers", "profile", "curve"]);
      return;
    }
    if (changed.has("range")) this.load(["timeline", "heatmap", "curve"]);
    if (changed.has("value")) this.load(["heatmap"]);
    if (changed.has("layer")) this.load(["curve"]);
    if (changed.has("step")) this.load(["profile"]);
  }

  private load(views: (keyof typeof this.loaders)[]): void {
    const { subject } = this.store.look;
    if (subject) for (const view of views) void this.attempt(view, () => this.loaders[view](subject));
  }

  private readonly loaders = {
    timeline: async (subject: Subject) => {
      const { range } = this.store.look;
      const [whole, detail] = await Promise.all([
        this.source.timeline(subject, null),
        range && this.source.timeline(subject, range),
      ]);
      if (this.current(subject, range)) this.timeline.show(whole, detail);
    },
    heatmap: async (subject: Subject) => {
      const { range, value } = this.store.look;
      const map = await this.source.heatmap(subject, value, range);
      if (this.current(subject, range) && value === this.store.look.value) this.heatmap.show(map);
    },
    curve: async (subject: Subject) => {
      const { range, layer } = this.store.look;
      const data = layer === null ? null : await this.source.curve(subject, layer, range);
      if (this.current(subject, range) && layer === this.store.look.layer) this.curve.show(data);
    },
    profile: async (subject: Subject) => {
      const { step } = this.store.look;
      const data = await this.source.profile(subject, step);
      if (this.current(subject, this.store.look.range) && step === this.store.look.step) this.profile.show(data);
    },
    events: async (subject: Subject) => {
      const events = await this.source.events(subject);
      if (this.current(subject, this.store.look.range)) this.store.set({ events });
    },
    layers: async (subject: Subject) => {
      const data = await this.source.layers(subject);
      if (this.current(subject, this.store.look.range)) this.layers.show(data);
    },
  };

  /** Whether an answer is still for what the reader looks at. */
  private current(subject: Subject, range: unknown): boolean {
    return JSON.stringify([subject, range]) === JSON.stringify([this.store.look.subject, this.store.look.range]);
  }

  private async attempt<T>(what: string, work: () => Promise<T>): Promise<T | undefined> {
    try {
      const answer = await work();
      if (this.errors.delete(what)) this.notify(this.store.look.runs);
      return answer;
    } catch (error) {
      this.errors.set(what, error instanceof Error ? error.message : String(error));
      this.notify(this.store.look.runs);
      return undefined;
    }
  }

  private notify(runs: Run[]): void {
    const problems = runs.flatMap((run) => run.problems.map((problem) => `${run.run}: ${problem}`));
    const errors = [...new Set(this.errors.values())];
    const retry = () =>
      h("button", { type: "button", class: "plain", onclick: () => void this.refresh() }, "Try again");
    this.notices.replaceChildren(
      ...errors.map((text) => h("div", { class: "notice error" }, icon("alarm"), text, retry())),
      ...problems.map((text) => h("div", { class: "notice" }, icon("warning"), text)),
    );
  }

  private redraw(): void {
    for (const view of [this.timeline, this.heatmap, this.curve, this.profile]) view.draw();
  }
}
