// SPDX-License-Identifier: Apache-2.0
// Colours of the heat map: viridis, which is even in lightness and safe for the colour-blind, and three that are not in it.
import { floats, percent, short } from "./numbers";
import type { Heatmap, Value } from "./types";

// Nine anchors of matplotlib's viridis (CC0), interpolated.
const VIRIDIS = ["440154", "472d7b", "3b528b", "2c728e", "21918c", "28ae80", "5ec962", "addc30", "fde725"].map((hex) =>
  [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)),
);
export const NONFINITE = "#ff3b6b";
export const ZERO = "#6b6b76";

export const TITLES: Record<Value, string> = {
  norm: "Gradient norm",
  ratio: "Update ratio",
  nonfinite: "Non-finite share",
};

export interface Scale {
  readonly low: number;
  readonly high: number;
  readonly log: boolean;
  readonly label: (value: number) => string;
}

/** Log10 from the 2nd to the 98th percentile, so that a few spikes do not flatten all else; shares are linear from 0 to 1. */
export function scale(map: Heatmap): Scale {
  if (map.value === "nonfinite") return { low: 0, high: 1, log: false, label: percent };
  const known = floats(map.cells)
    .filter((cell) => cell > 0 && Number.isFinite(cell))
    .sort();
  const at = (share: number) => Math.log10(known[Math.round(share * (known.length - 1))] ?? 1);
  const [low, high] = [at(0.02), at(0.98)];
  return { low, high: high > low ? high : low + 1, log: true, label: short };
}

/** Red, green, blue in [0, 255] of a position in [0, 1]. */
export function viridis(position: number): [number, number, number] {
  const place = Math.min(1, Math.max(0, position)) * (VIRIDIS.length - 1);
  const index = Math.min(VIRIDIS.length - 2, Math.floor(place));
  const [from, to] = [VIRIDIS[index]!, VIRIDIS[index + 1]!];
  const mix = (i: number) => Math.round(from[i]! + (to[i]! - from[i]!) * (place - index));
  return [mix(0), mix(1), mix(2)];
}

const bytes = (hex: string): [number, number, number] =>
  [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)) as [number, number, number];
const NONFINITE_BYTES = bytes(NONFINITE);
const ZERO_BYTES = bytes(ZERO);

/** One pixel per cell; what was not measured, and a share of zero, stays transparent. */
export function paint(map: Heatmap, scale: Scale, columns: number): HTMLCanvasElement {
  const cells = floats(map.cells);
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, columns);
  canvas.height = Math.max(1, map.layers.length);
  const context = canvas.getContext("2d")!;
  const image = context.createImageData(canvas.width, canvas.height);
  cells.forEach((cell, i) => {
    if (cell < 0 || (cell === 0 && !scale.log)) return;
    const position = ((scale.log ? Math.log10(cell) : cell) - scale.low) / (scale.high - scale.low);
    const rgb = !Number.isFinite(cell) ? NONFINITE_BYTES : cell === 0 ? ZERO_BYTES : viridis(position);
    image.data.set([...rgb, 255], 4 * i);
  });
  context.putImageData(image, 0, 0);
  return canvas;
}
