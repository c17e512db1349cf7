import { existsSync, readFileSync } from "node:fs";
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

t.test("the mirror's situations are held by tests that there are", (t) => {
  const page = read("docs/mirror.md");
  const notes = [...page.matchAll(/^\[\^(\w+)\]: `(test\/\w+\.test\.ts)`: "(.+)"$/gm)];
  for (const [, , file, name] of notes as unknown as [string, string, string, string][]) {
    const tests = existsSync(new URL(`../${file}`, import.meta.url)) ? read(file) : "";
    t.ok(tests.includes(`"${name}"`) || tests.includes(`\`${name}\``), `${file} has the test "${name}"`);
  }
  const noted = new Set(notes.map(([, note]) => note));
  for (const [, note] of page.matchAll(/\[\^(\w+)\](?!:)/g)) t.ok(noted.has(note), `there is a note ${note}`);
  const situations = page.split("## What happens when")[1]?.split("\n## ")[0] ?? "";
  const rows = situations.split("\n").filter((line) => line.startsWith("| **"));
  t.ok(rows.length > 0);
  for (const row of rows)
    for (const cell of row.split(" | ").slice(1)) t.match(cell, /\[\^\w+\]/, `a test holds "${cell}"`);
  t.end();
});
