// SPDX-License-Identifier: Apache-2.0
import { doubles, floats, nearest, pack } from "./numbers";
import type {
  Columns,
  Curve,
  DataSource,
  Events,
  Heatmap,
  Layers,
  Profile,
  Range,
  Run,
  Subject,
  Timeline,
  Value,
} from "./types";

interface Entry extends Subject {
  timeline: Timeline;
  heatmaps: Record<Value, Heatmap>;
  events: Events;
  layers: Layers;
}

/** What lightning_gradwatch/tensorboard/report.py writes. */
export interface Embedded {
  runs: Run[];
  entries: Entry[];
}

const VALUES: Value[] = ["norm", "ratio", "nonfinite"];

/** A report: everything is in the page, at the resolution that it was written with. */
export class EmbeddedSource implements DataSource {
  readonly live = false;

  constructor(private readonly data: Embedded) {}

  async runs(): Promise<Run[]> {
    return this.data.runs;
  }

  async timeline(subject: Subject, range: Range): Promise<Timeline> {
    const whole = this.entry(subject).timeline;
    const steps = doubles(whole.steps);
    const [first, end] = within(steps, steps, range);
    const cut = (packed: string) => pack(doubles(packed).slice(first, end));
    const { logged, ...series } = whole;
    return {
      ...(Object.fromEntries(Object.entries(series).map(([name, packed]) => [name, cut(packed)])) as Omit<
        Timeline,
        "logged"
      >),
      logged,
    };
  }

  async heatmap(subject: Subject, value: Value, range: Range): Promise<Heatmap> {
    const whole = this.entry(subject).heatmaps[value];
    const columns = doubles(whole.steps).length;
    const [first, end] = within(doubles(whole.steps), doubles(whole.ends), range);
    const cells = floats(whole.cells);
    const cut = new Float32Array(whole.layers.length * (end - first));
    whole.layers.forEach((_, row) =>
      cut.set(cells.subarray(row * columns + first, row * columns + end), row * (end - first)),
    );
    return { ...whole, ...sliced(whole, first, end), cells: pack(cut) };
  }

  async curve(subject: Subject, layer: string, range: Range): Promise<Curve> {
    const maps = await Promise.all(VALUES.map((value) => this.heatmap(subject, value, range)));
    const norm = maps[0]!;
    const row = Math.max(0, Math.floor(this.entry(subject).layers.layers.indexOf(layer) / norm.merged));
    const columns = doubles(norm.steps).length;
    const [a, b, c] = maps.map((map) => pack(floats(map.cells).slice(row * columns, (row + 1) * columns)));
    return { layer, steps: norm.steps, ends: norm.ends, exact: norm.exact, norm: a!, ratio: b!, nonfinite: c! };
  }

  async profile(subject: Subject, step: number | null): Promise<Profile> {
    const { heatmaps, timeline } = this.entry(subject);
    const steps = doubles(heatmaps.norm.steps);
    const column = nearest(steps, step ?? steps[steps.length - 1] ?? 0);
    const [norm, ratio, nonfinite] = VALUES.map((value) =>
      floats(heatmaps[value].cells).filter((_, i) => i % steps.length === column),
    );
    const factors = new Float64Array(norm!.length).fill(NaN);
    norm!.forEach((value, i) => (factors[i] = i + 1 < norm!.length ? value / norm![i + 1]! : NaN));
    const whole = doubles(timeline.depth_factor)[nearest(doubles(timeline.steps), steps[column]!)] ?? NaN;
    const factor = Number.isFinite(whole) ? whole : null;
    return {
      step: steps[column]!,
      layers: heatmaps.norm.layers,
      factors: pack(factors),
      factor,
      norm: pack(norm!),
      ratio: pack(ratio!),
      nonfinite: pack(nonfinite!),
    };
  }

  async events(subject: Subject): Promise<Events> {
    return this.entry(subject).events;
  }

  async layers(subject: Subject): Promise<Layers> {
    return this.entry(subject).layers;
  }

  private entry(subject: Subject): Entry {
    const entry = this.data.entries.find(
      ({ run, optimizer }) => run === subject.run && optimizer === subject.optimizer,
    );
    if (!entry) throw new Error("This report has no such run.");
    return entry;
  }
}

function within(starts: Float64Array, ends: Float64Array, range: Range): [number, number] {
  if (!range) return [0, starts.length];
  const first = ends.findIndex((end) => end >= range[0]);
  const after = starts.findIndex((start) => start > range[1]);
  return first < 0 ? [0, 0] : [first, after < 0 ? starts.length : after];
}

function sliced(columns: Columns, first: number, end: number): Columns {
  return {
    steps: pack(doubles(columns.steps).slice(first, end)),
    ends: pack(doubles(columns.ends).slice(first, end)),
    exact: columns.exact,
  };
}
