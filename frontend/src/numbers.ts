// SPDX-License-Identifier: Apache-2.0
import type { Packed } from "./types";

function bytes(packed: Packed): ArrayBuffer {
  const text = atob(packed);
  const array = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) array[i] = text.charCodeAt(i);
  return array.buffer;
}

export const floats = (packed: Packed): Float32Array => new Float32Array(bytes(packed));
export const doubles = (packed: Packed): Float64Array => new Float64Array(bytes(packed));

export function pack(array: Float32Array | Float64Array): Packed {
  const raw = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  let text = "";
  for (const byte of raw) text += String.fromCharCode(byte);
  return btoa(text);
}

/** A measured value in few characters; -1 stands for what was not measured. */
export function short(value: number, digits = 3): string {
  if (value === -1) return "–";
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e-3 && size < 1e5) return String(Number(value.toPrecision(digits)));
  const [mantissa, exponent] = value.toExponential(digits - 1).split("e");
  return `${Number(mantissa)}e${Number(exponent)}`;
}

export const exact = (value: number): string => short(value, 6);
export const step = (value: number): string => value.toLocaleString("en-US");
export const times = (factor: number): string => `×${short(factor)}`;
export const plural = (count: number, noun: string): string => `${step(count)} ${noun}${count === 1 ? "" : "s"}`;

export function percent(share: number): string {
  if (Number.isNaN(share)) return "NaN";
  if (share === 0 || share === -1) return short(share) + (share ? "" : " %");
  return share < 0.001 ? "<0.1 %" : `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
}

export function ago(seconds: number): string {
  const age = Math.max(0, Date.now() / 1000 - seconds);
  if (age < 90) return `${Math.round(age)} s ago`;
  if (age < 5400) return `${Math.round(age / 60)} min ago`;
  return age < 129600 ? `${Math.round(age / 3600)} h ago` : `${Math.round(age / 86400)} days ago`;
}

/** Index of the entry of a rising array that is nearest to `target`. */
export function nearest(rising: ArrayLike<number>, target: number): number {
  let low = 0;
  let high = rising.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (rising[middle]! <= target) low = middle;
    else high = middle;
  }
  return Math.abs(rising[high]! - target) < Math.abs(rising[low]! - target) ? high : low;
}

/** About `count` round numbers between two others. */
export function ticks(first: number, last: number, count: number): number[] {
  if (!(last > first)) return [first];
  const raw = (last - first) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(raw));
  const unit = Math.max(1, power * ([1, 2, 5, 10].find((factor) => factor * power >= raw) ?? 10));
  const found: number[] = [];
  for (let tick = Math.ceil(first / unit) * unit; tick <= last; tick += unit) found.push(tick);
  return found;
}
