// SPDX-License-Identifier: Apache-2.0
// Events over a chart: buttons, so that they can be reached by keyboard and read, and a pair to walk through all of them.
import { h, icon, tip } from "../dom";
import { plural, step } from "../numbers";
import type { Store } from "../store";
import type { GradientEvent, Severity } from "../types";

const MERGE = 14; // pixels between two markers, below which they become one
const RANK: Severity[] = ["info", "warning", "alarm"];

export class Markers {
  readonly element = h("div", { class: "markers", role: "group", "aria-label": "Events" });
  readonly walker: HTMLElement;
  private readonly count = h("span", { class: "muted" });
  private readonly ends: HTMLButtonElement[];

  /** `place` tells where a step is, in pixels, or null outside of the chart. */
  constructor(
    private readonly store: Store,
    private readonly place: (step: number) => number | null,
  ) {
    const go = (by: number, name: string, sign: string) =>
      h("button", { type: "button", class: "plain", "aria-label": name, onclick: () => this.walk(by) }, sign);
    this.ends = [go(-1, "Previous event", "‹"), go(1, "Next event", "›")];
    this.walker = h("div", { class: "walker" }, this.ends[0], this.count, this.ends[1]);
    store.on((changed) => (changed.has("events") || changed.has("event")) && this.draw());
  }

  draw(): void {
    const { events, event: chosen } = this.store.look;
    const groups: { x: number; members: number[] }[] = [];
    events.events.forEach((event, i) => {
      const x = this.place(event.log_step);
      const last = groups[groups.length - 1];
      if (x === null) return;
      if (last && Math.abs(x - last.x) < MERGE) last.members.push(i);
      else groups.push({ x, members: [i] });
    });
    const focused = [...this.element.children].indexOf(document.activeElement as Element);
    this.element.replaceChildren(...groups.map(({ x, members }) => this.marker(x, members, chosen)));
    if (focused >= 0) (this.element.children[focused] as HTMLElement | undefined)?.focus();
    for (const end of this.ends) end.disabled = !events.events.length;
    const { length } = events.events;
    this.count.textContent = chosen === null ? plural(length, "event") : `event ${chosen + 1} of ${length}`;
  }

  private marker(x: number, members: number[], chosen: number | null): HTMLElement {
    const { events } = this.store.look.events;
    const rank = (i: number) => RANK.indexOf(events[i]!.severity);
    const worst = members.reduce((a, b) => (rank(b) > rank(a) ? b : a));
    const event = events[worst]!;
    const more = members.length > 1 ? ` and ${members.length - 1} more` : "";
    const title = `${event.severity}: ${event.kind.replaceAll("_", " ")} at step ${step(event.log_step)}${more}`;
    const [finding] = event.message.split("\n");
    const attributes = {
      type: "button",
      class: `marker ${event.severity}${members.includes(chosen ?? -1) ? " chosen" : ""}`,
      "aria-label": `${title}. ${finding}`,
      onmouseenter: () => tell(button, title, event),
      onfocus: () => tell(button, title, event),
      onmouseleave: () => tip.hide(),
      onblur: () => tip.hide(),
      onclick: () => this.pick(worst),
    };
    const button = h("button", attributes, icon(event.severity), more && h("small", {}, members.length));
    button.style.left = `${x}px`;
    return button;
  }

  private pick(index: number): void {
    tip.hide();
    this.store.set({ event: index, step: this.store.look.events.events[index]!.log_step });
  }

  private walk(by: number): void {
    const { events, event } = this.store.look;
    const { length } = events.events;
    this.pick(event === null ? (by > 0 ? 0 : length - 1) : (event + by + length) % length);
  }
}

function tell(button: HTMLElement, title: string, event: GradientEvent): void {
  const { x, y } = button.getBoundingClientRect();
  const did = event.action_taken && `did: ${event.action_taken}`;
  tip.show(x, y, h("b", {}, title), event.message.split("\n")[0], did, h("span", { class: "muted" }, "click for more"));
}
