// SPDX-License-Identifier: Apache-2.0
import type { Events, Health, Range, Run, Subject, Value } from "./types";

/** What the reader looks at. Views read it, and change it only through `set`. */
export interface Look {
  runs: Run[];
  subject: Subject | null;
  range: Range;
  value: Value;
  layer: string | null;
  step: number | null;
  events: Events;
  event: number | null;
}

type Listener = (changed: Set<keyof Look>) => void;

export class Store {
  look: Look = {
    runs: [],
    subject: null,
    range: null,
    value: "norm",
    layer: null,
    step: null,
    events: { events: [], count: 0 },
    event: null,
  };
  private readonly listeners: Listener[] = [];

  on(listener: Listener): void {
    this.listeners.push(listener);
  }

  set(change: Partial<Look>): void {
    const names = Object.keys(change) as (keyof Look)[];
    const changed = new Set(names.filter((name) => JSON.stringify(this.look[name]) !== JSON.stringify(change[name])));
    if (!changed.size) return;
    this.look = { ...this.look, ...change };
    for (const listener of this.listeners) listener(changed);
  }

  /** Looks at a part of the run; all of it where the part is no smaller. */
  zoom(first: number, last: number): void {
    const health = this.health;
    if (!health) return;
    const [from, to] = [Math.max(health.first_step, Math.round(first)), Math.min(health.last_step, Math.round(last))];
    const whole = from <= health.first_step && to >= health.last_step;
    if (whole || to > from) this.set({ range: whole ? null : [from, to] });
  }

  /** The optimizer looked at, as the list of runs has it. */
  get health(): Health | null {
    const { subject, runs } = this.look;
    return (
      runs
        .find((run) => run.run === subject?.run)
        ?.optimizers.find((entry) => entry.optimizer === subject?.optimizer) ?? null
    );
  }

  /** The steps looked at; [0, 1] before there are any. */
  get steps(): [number, number] {
    const health = this.health;
    return (
      this.look.range ?? (health ? [health.first_step, Math.max(health.last_step, health.first_step + 1)] : [0, 1])
    );
  }
}
