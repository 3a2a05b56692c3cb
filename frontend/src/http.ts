// SPDX-License-Identifier: Apache-2.0
import type {
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

/** The TensorBoard plugin's backend, below `base`. */
export class HttpSource implements DataSource {
  readonly live = true;

  constructor(private readonly base: string) {}

  async runs(): Promise<Run[]> {
    return (await this.get<{ runs: Run[] }>("runs", {})).runs;
  }

  timeline(subject: Subject, range: Range): Promise<Timeline> {
    return this.get("timeline", { ...subject, ...limits(range) });
  }

  heatmap(subject: Subject, value: Value, range: Range): Promise<Heatmap> {
    return this.get("heatmap", { ...subject, value, ...limits(range) });
  }

  curve(subject: Subject, layer: string, range: Range): Promise<Curve> {
    return this.get("curve", { ...subject, layer, ...limits(range) });
  }

  profile(subject: Subject, step: number | null): Promise<Profile> {
    return this.get("profile", step === null ? { ...subject } : { ...subject, step });
  }

  events(subject: Subject): Promise<Events> {
    return this.get("events", { ...subject });
  }

  layers(subject: Subject): Promise<Layers> {
    return this.get("layers", { ...subject });
  }

  private async get<T>(route: string, parameters: Record<string, string | number>): Promise<T> {
    const query = new URLSearchParams(Object.entries(parameters).map(([name, value]) => [name, String(value)]));
    let response: Response;
    try {
      response = await fetch(`${this.base}${route}?${query}`, { headers: { Accept: "application/json" } });
    } catch {
      throw new Error("TensorBoard does not answer: is it still running?");
    }
    const answer = (await response.json().catch(() => ({ error: `TensorBoard answered ${response.status}.` }))) as T & {
      error?: string;
    };
    if (!response.ok) throw new Error(answer.error ?? `TensorBoard answered ${response.status}.`);
    return answer;
  }
}

function limits(range: Range): Record<string, number> {
  return range ? { first: range[0], last: range[1] } : {};
}
