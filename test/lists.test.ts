import { readFileSync } from "node:fs";
import t from "tap";
import { metricsTable, settingsTable } from "../scripts/readme_tables.ts";
import { BPF_MAP_TYPE } from "../src/abi/bpf.ts";
import { mapType } from "../src/maps/types.ts";

const read = (file: string): string => readFileSync(new URL(`../${file}`, import.meta.url), "utf8");
const readme = read("README.md");

t.test("the README has every setting, as config.ts has it", (t) => {
  t.ok(readme.includes(settingsTable()), `the table is to be:\n${settingsTable()}`);
  t.end();
});

t.test("the README has every metric, as metrics.ts has it", (t) => {
  t.ok(readme.includes(metricsTable()), `the table is to be:\n${metricsTable()}`);
  t.end();
});

t.test("the README has every script", (t) => {
  const internal = new Set(["start", "npm", "check", "typecheck", "lint", "openapi:check"]);
  for (const script of Object.keys(JSON.parse(read("package.json")).scripts))
    if (!internal.has(script)) t.match(readme, script === "test" ? "npm test" : `npm run ${script}`, script);
  t.end();
});

t.test("the changelog and the README name every map type that is served", (t) => {
  for (const [name, number] of Object.entries(BPF_MAP_TYPE))
    if (mapType(number) !== undefined) t.match(read("CHANGELOG.md"), name, name);
  t.end();
});
