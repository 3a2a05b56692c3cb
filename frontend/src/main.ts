// SPDX-License-Identifier: Apache-2.0
// The page in TensorBoard, which imports this module and calls `render`, or in a report, which brings its data along.
import { App } from "./app";
import { EmbeddedSource, type Embedded } from "./embedded";
import { onReload } from "./host";
import { HttpSource } from "./http";
import styles from "./style.css";
import { Theme } from "./theme";
import type { DataSource } from "./types";

function show(source: DataSource): App {
  const style = document.createElement("style");
  style.textContent = styles;
  document.head.append(style);
  const app = new App(source, new Theme(), document.body);
  void app.refresh();
  return app;
}

export function render(): void {
  const app = show(new HttpSource("./"));
  onReload(() => void app.refresh());
}

const report = document.getElementById("gradwatch-report");
if (report) show(new EmbeddedSource(JSON.parse(report.textContent ?? "") as Embedded));
