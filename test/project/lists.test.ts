import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import t from "tap";
import { errorsTable, metricsTable, settingsTable } from "../../scripts/document_tables.ts";
import { BPF_MAP_TYPE } from "../../src/abi/bpf.ts";
import { mapType } from "../../src/maps/types.ts";
import { COMMANDS } from "../support/all_commands.ts";

const read = (file: string): string => readFileSync(new URL(`../../${file}`, import.meta.url), "utf8");
const operating = read("docs/operating.md");

t.test("docs/operating.md has every setting, as config.ts has it", (t) => {
  t.ok(operating.includes(settingsTable()), `the table is to be:\n${settingsTable()}`);
  t.end();
});

t.test("docs/operating.md has every metric, as metrics.ts has it", (t) => {
  t.ok(operating.includes(metricsTable()), `the table is to be:\n${metricsTable()}`);
  t.end();
});

t.test("docs/api.md has every errno and problem by its status, as problems.ts has them", (t) => {
  t.ok(read("docs/api.md").includes(errorsTable()), `the table is to be:\n${errorsTable()}`);
  t.end();
});

t.test("docs/cli.md has every command and every error of the command line", (t) => {
  const page = read("docs/cli.md").replaceAll("\\|", "|");
  for (const words of COMMANDS.keys()) {
    const [group, word = ""] = words.split(" ");
    t.ok(page.includes(`\`${words}`) || new RegExp(`\`${group} .*\`${word}\``).test(page), words);
  }
  const files = readdirSync(new URL("../../src/cli/bpftool", import.meta.url), { recursive: true, encoding: "utf8" });
  const texts = files
    .filter((file) => file.endsWith(".ts"))
    .flatMap((file) => [
      ...read(`src/cli/bpftool/${file}`).matchAll(/(?:new Failure|refusal|failedTo)\(\s*(?:"([^"]+)"|`([^`]+)`)/g),
    ])
    .map(([, plain, template]) => plain ?? (template as string));
  t.ok(texts.length > 50);
  for (const text of texts) {
    const literals = text
      .split(/\$\{(?:[^{}"]|"[^"]*")*\}/)
      .map((part) => part.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&"));
    t.match(page, new RegExp(literals.join("[^`]+")), text);
  }
  t.end();
});

t.test("docs/development.md has every script", (t) => {
  const development = read("docs/development.md");
  const internal = new Set(["start", "npm", "check", "typecheck", "lint", "openapi:check"]);
  for (const script of Object.keys(JSON.parse(read("package.json")).scripts))
    if (!internal.has(script)) t.match(development, script === "test" ? "npm test" : `npm run ${script}`, script);
  t.end();
});

t.test("no dependency's script runs when it is installed, in the image neither", (t) => {
  const npmrc = read(".npmrc").split("\n");
  t.ok(npmrc.includes("ignore-scripts=true"), "any npm, by .npmrc");
  const { allowScripts } = JSON.parse(read("package.json")) as { allowScripts: Record<string, boolean> };
  const { packages } = JSON.parse(read("package-lock.json")) as {
    packages: Record<string, { hasInstallScript?: true }>;
  };
  for (const [path, { hasInstallScript }] of Object.entries(packages))
    if (hasInstallScript) t.equal(allowScripts[path.split("node_modules/").at(-1) as string], false, path);
  t.notOk(Object.values(allowScripts).includes(true), "npm 12 and later, by package.json");
  const dockerfile = read("Dockerfile");
  const copied = dockerfile.split("\n").findIndex((line) => /^COPY .*\.npmrc/.test(line));
  t.ok(copied !== -1 && copied < dockerfile.split("\n").findIndex((line) => line.startsWith("RUN npm ci")));
  t.notOk(read(".dockerignore").split("\n").includes(".npmrc"));
  t.end();
});

t.test("the image holds every file outside src/ that src/ opens", (t) => {
  const opened = readdirSync(new URL("../../src", import.meta.url), { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".ts"))
    .flatMap((file) => [...read(`src/${file}`).matchAll(/new URL\("(?:\.\.\/)+([a-z_]+\/[^"]*|[a-z]+\.json)"/g)])
    .map(([, path]) => path as string)
    .filter((path) => existsSync(new URL(`../../${path}`, import.meta.url)) && !path.startsWith("src/"));
  t.ok(opened.includes("openapi/openapi.json") && opened.some((path) => path.startsWith("migrations/")));
  const copied = [...read("Dockerfile").matchAll(/^COPY (?!--)(.+) \S+$/gm)].flatMap(([, paths]) =>
    (paths as string).split(" "),
  );
  const sent = read(".dockerignore").split("\n");
  for (const path of opened) {
    const isIn = (one: string) => path === one || path.startsWith(`${one}/`);
    t.ok(copied.some(isIn), `the Dockerfile copies ${path}`);
    t.ok(
      sent.some((line) => line.startsWith("!") && isIn(line.slice(1))),
      `.dockerignore lets ${path} through`,
    );
  }
  t.end();
});

t.test("the changelog names every map type that is served", (t) => {
  for (const [name, number] of Object.entries(BPF_MAP_TYPE))
    if (mapType(number) !== undefined) t.match(read("CHANGELOG.md"), name, name);
  t.end();
});

t.test("the mirror's situations are held by tests that there are", (t) => {
  const page = read("docs/mirror.md");
  const notes = [...page.matchAll(/^\[\^(\w+)\]: `(test\/[\w/]+\.test\.ts)`: "(.+)"$/gm)];
  for (const [, , file, name] of notes as unknown as [string, string, string, string][]) {
    const tests = existsSync(new URL(`../../${file}`, import.meta.url)) ? read(file) : "";
    t.ok(tests.includes(`"${name}"`) || tests.includes(`\`${name}\``), `${file} has the test "${name}"`);
  }
  const noted = new Set(notes.map(([, note]) => note));
  for (const [, note] of page.matchAll(/\[\^(\w+)\](?!:)/g)) t.ok(noted.has(note), `there is a note ${note}`);
  const situations = page.split("## Situations")[1]?.split("\n## ")[0] ?? "";
  const rows = situations.split("\n").filter((line) => line.startsWith("| **"));
  t.ok(rows.length > 0);
  for (const row of rows)
    for (const cell of row.split(" | ").slice(1)) t.match(cell, /\[\^\w+\]/, `a test holds "${cell}"`);
  t.end();
});

t.test("the documents' links lead to files and headings that there are", (t) => {
  const pages = ["README.md", "SECURITY.md", "ARCHITECTURE.md", "CHANGELOG.md", "COMPATIBILITY.md"];
  for (const name of readdirSync(new URL("../../docs", import.meta.url))) pages.push(`docs/${name}`);
  const anchors = (page: string): ReadonlySet<string> =>
    new Set([...read(page).matchAll(/^#+ (.+)$/gm)].map(([, heading]) => anchor(heading as string)));
  for (const page of pages)
    for (const [, path = "", heading] of read(page).matchAll(/\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)/g)) {
      const file = path === "" ? page : join(dirname(page), path);
      t.ok(existsSync(new URL(`../../${file}`, import.meta.url)), `${page} links to ${file}`);
      if (heading !== undefined) t.ok(anchors(file).has(heading), `${page} links to ${file}#${heading}`);
    }
  t.end();
});

/** A heading's anchor, as GitHub makes it. */
function anchor(heading: string): string {
  return heading
    .toLowerCase()
    .replaceAll(/[^\p{Letter}\p{Number} _-]/gu, "")
    .replaceAll(" ", "-");
}

t.test("the files that ARCHITECTURE.md and docs/security.md name are there", (t) => {
  for (const page of ["ARCHITECTURE.md", "docs/security.md"]) {
    const tests = [...read(page).matchAll(/`(test\/[\w/]+\.test\.ts)`/g)].map(([, path]) => path as string);
    const sources = [...read(page).matchAll(/`([a-z]+\/[\w/]+\.ts)`/g)].map(([, path]) => path as string);
    t.ok(tests.length > 0, page);
    const paths = [...tests, ...sources.filter((path) => !path.startsWith("test/")).map((path) => `src/${path}`)];
    for (const path of new Set(paths)) t.ok(existsSync(new URL(`../../${path}`, import.meta.url)), `${page}: ${path}`);
  }
  t.end();
});
