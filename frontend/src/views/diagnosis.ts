// SPDX-License-Identifier: Apache-2.0
// One card per finding and cause: symptom, evidence, what was done, likely cause, remedies, a line of code.
import { h, icon } from "../dom";
import { plural, step } from "../numbers";
import type { Store } from "../store";
import type { GradientEvent, Severity } from "../types";

const ORDER: Severity[] = ["alarm", "warning", "info"];
const LAYERS = 4;

export class DiagnosisView {
  readonly element: HTMLElement;
  private readonly list = h("div", { class: "diagnoses" });

  constructor(private readonly store: Store) {
    this.element = h(
      "section",
      { class: "panel", "aria-label": "Diagnosis" },
      h("div", { class: "bar" }, h("h2", {}, "Diagnosis")),
      this.list,
    );
    store.on((changed) => {
      if (changed.has("events") || changed.has("event")) this.draw();
      if (changed.has("event"))
        this.list.querySelector(".chosen")?.scrollIntoView({ block: "nearest", behavior: "smooth" });
    });
    this.draw();
  }

  private draw(): void {
    const { events, event: chosen } = this.store.look;
    const groups = new Map<string, number[]>();
    events.events.forEach((event, i) => {
      const key = JSON.stringify([event.kind, event.severity, event.cause]);
      groups.set(key, [...(groups.get(key) ?? []), i]);
    });
    const last = (members: number[]) => members[members.length - 1]!;
    const rank = (members: number[]) =>
      ORDER.indexOf(events.events[last(members)]!.severity) * 1e9 - events.events[last(members)]!.log_step;
    const sorted = [...groups.values()].sort((a, b) => rank(a) - rank(b));
    const cards = sorted.map((members) =>
      this.card(members, members.includes(chosen ?? -1) ? chosen! : last(members), members.includes(chosen ?? -1)),
    );
    this.list.replaceChildren(
      ...(cards.length ? cards : [h("p", { class: "hint" }, icon("healthy"), "Nothing to report: no event so far.")]),
    );
  }

  private card(members: number[], shown: number, chosen: boolean): HTMLElement {
    const event = this.store.look.events.events[shown]!;
    const [finding, ...evidence] = event.message.split("\n");
    const fields = evidence
      .map((line) => line.split(/: (.*)/s))
      .map(([label, text]) => [label ?? "", text ?? ""] as const);
    const lines: (readonly [string, string | Node])[] = [
      ...fields,
      ["did", event.action_taken],
      ["likely", event.cause ?? ""],
    ];
    return h(
      "article",
      { class: `diagnosis ${event.severity}${chosen ? " chosen" : ""}` },
      h(
        "header",
        {},
        icon(event.severity),
        h("b", {}, event.kind.replaceAll("_", " ")),
        h("span", { class: "muted" }, this.when(members, event)),
      ),
      h("p", { class: "finding" }, finding),
      h(
        "dl",
        {},
        ...lines.filter(([, text]) => text).flatMap(([label, text]) => [h("dt", {}, label), h("dd", {}, text)]),
      ),
      event.layers.length ? h("p", { class: "layers" }, ...this.links(event.layers)) : null,
      event.remedies.length
        ? h("ol", { class: "remedies" }, ...event.remedies.map((remedy) => h("li", {}, remedy.text)))
        : null,
      event.code ? copyable(event.code) : null,
      event.remedies.length
        ? h(
            "footer",
            { class: "muted" },
            [...new Set(event.remedies.map(({ id, source }) => `${id} · ${source}`))].join("; "),
          )
        : null,
    );
  }

  private when(members: number[], event: GradientEvent): string {
    const where = `step ${step(event.log_step)} · epoch ${event.epoch}, batch ${event.batch_idx}${event.rank === null ? "" : `, rank ${event.rank}`}`;
    return members.length > 1
      ? `${where} · ${plural(members.length, "time")} since step ${step(this.store.look.events.events[members[0]!]!.log_step)}`
      : where;
  }

  private links(layers: string[]): Node[] {
    const shown = layers
      .slice(0, LAYERS)
      .map((layer) =>
        h("button", { type: "button", class: "chip link mono", onclick: () => this.store.set({ layer }) }, layer),
      );
    return layers.length > LAYERS
      ? [...shown, h("span", { class: "muted" }, `and ${layers.length - LAYERS} more`)]
      : shown;
  }
}

function copyable(code: string): HTMLElement {
  const button = h(
    "button",
    {
      type: "button",
      class: "plain copy",
      onclick: () => void copy(code).then((done) => (button.textContent = done ? "copied" : "select and copy")),
    },
    "copy",
  );
  return h("div", { class: "code" }, h("code", {}, code), button);
}

async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false; // a page that is not served over https, or a frame without the permission
  }
}
