// SPDX-License-Identifier: Apache-2.0
// Bundles the page into one ES module that the Python package ships, with the licenses of what is in it.
import { build } from "esbuild";
import { readFile, writeFile } from "node:fs/promises";

const folder = "../lightning_gradwatch/tensorboard/static/";
const { outputFiles } = await build({
  entryPoints: ["src/main.ts"],
  bundle: true,
  minify: true,
  write: false,
  format: "esm",
  target: "es2021",
  charset: "utf8",
  loader: { ".css": "text" },
  legalComments: "none", // they are in LICENSES.txt, in full
  banner: { js: "// Built from frontend/ by `make frontend`. Licenses of bundled code: LICENSES.txt." },
});
const script = outputFiles[0].text;
if (script.toLowerCase().includes("</script"))
  throw new Error("The report inlines this script: it must not close its tag.");
await writeFile(`${folder}index.js`, script);

const texts = [];
for (const [name, files] of Object.entries({
  echarts: ["LICENSE", "NOTICE"],
  zrender: ["LICENSE"],
  tslib: ["LICENSE.txt"],
})) {
  for (const file of files)
    texts.push(`==== ${name}: ${file} ====\n\n${await readFile(`node_modules/${name}/${file}`, "utf8")}`);
}
await writeFile(`${folder}LICENSES.txt`, texts.join("\n\n").replaceAll("\r\n", "\n"));
