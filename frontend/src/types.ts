// SPDX-License-Identifier: Apache-2.0
// The answers of the backend (lightning_gradwatch/tensorboard/routes.py). `Packed` is base64 of little-endian floats.
export type Packed = string;
export type Value = "norm" | "ratio" | "nonfinite";
export type State = "alarm" | "warning" | "held" | "quiet" | "healthy";
export type Severity = "alarm" | "warning" | "info";

export interface Health {
  optimizer: number;
  state: State;
  first_step: number;
  last_step: number;
  logged: number;
  layers: number;
  counts: Record<string, number>;
  severities: Partial<Record<Severity, number>>;
  last_alarm: number | null;
  updated: number | null;
  trend: Packed;
}

export interface Run {
  run: string;
  loading: boolean;
  problems: string[];
  optimizers: Health[];
}

export interface Columns {
  steps: Packed;
  ends: Packed;
  exact: boolean;
}

export interface Timeline {
  steps: Packed;
  total: Packed;
  total_clipped: Packed;
  max_abs: Packed;
  limit: Packed;
  factor: Packed;
  lr_scale: Packed;
  depth_factor: Packed;
  logged: number;
}

export interface Heatmap extends Columns {
  value: Value;
  layers: string[];
  merged: number;
  cells: Packed;
}

export interface Curve extends Columns {
  layer: string;
  norm: Packed;
  ratio: Packed;
  nonfinite: Packed;
}

export interface Profile {
  step: number;
  layers: string[];
  factors: Packed;
  factor: number | null;
  norm: Packed;
  ratio: Packed;
  nonfinite: Packed;
}

export interface GradientEvent {
  kind: string;
  severity: Severity;
  step: number;
  log_step: number;
  epoch: number;
  batch_idx: number;
  rank: number | null;
  layers: string[];
  value: number | string;
  limit: number | string;
  message: string;
  cause: string | null;
  remedies: { id: string; text: string; source: string }[];
  action_taken: string;
  code: string;
}

export interface Events {
  events: GradientEvent[];
  count: number;
}

export interface Layers {
  layers: string[];
  norm: Packed;
  typical: Packed;
  peak: Packed;
  share: Packed;
  ratio: Packed;
  nonfinite: Packed;
  events: number[];
}

/** First and last step, inclusive; null is the whole run. */
export type Range = [number, number] | null;

/** One optimizer of one run. */
export interface Subject {
  run: string;
  optimizer: number;
}

/** Where the views get their data from: a server, or a report's own page. */
export interface DataSource {
  /** Whether there may be more later. */
  readonly live: boolean;
  runs(): Promise<Run[]>;
  timeline(subject: Subject, range: Range): Promise<Timeline>;
  heatmap(subject: Subject, value: Value, range: Range): Promise<Heatmap>;
  curve(subject: Subject, layer: string, range: Range): Promise<Curve>;
  profile(subject: Subject, step: number | null): Promise<Profile>;
  events(subject: Subject): Promise<Events>;
  layers(subject: Subject): Promise<Layers>;
}
