import { execFile } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import t, { type Test } from "tap";

/**
 * CONTRIBUTING.md says where a new map type and a new command have to be named. The compiler is asked whether that is so: a type and
 * a command that do not exist are added to a copy of `src`, and the files with errors are the ones that the document lists.
 */

const ROOT = join(import.meta.dirname, "../..");
const BPF = "src/abi/bpf.ts";
const TSC = join(ROOT, "node_modules/typescript/bin/tsc");

/** Files that a section of CONTRIBUTING.md lists as those that the compiler names. */
function listed(section: string): readonly string[] {
  const text = readFileSync(join(ROOT, "CONTRIBUTING.md"), "utf8");
  const part = text.split(/^## /m).find((one) => one.startsWith(`${section}\n`)) ?? "";
  const rows = part.split("\n").filter((line) => line.startsWith("| `src/"));
  return rows.map((row) => row.split("`")[1] as string).sort();
}

const behind = (text: string, line: RegExp, added: string): string => text.replace(line, (last) => `${last}\n${added}`);

/** What is added, each with a number of its own, by one of which every error tells what it is about. */
const ADDED = {
  "Add a map type": { line: /^ {2}BPF_MAP_TYPE_ARENA: \d+,/m, name: "BPF_MAP_TYPE_MADE_UP", number: 998 },
  "Add a command": { line: /^export const BPF_CMD = \{/m, name: "BPF_MAP_MADE_UP", number: 999 },
} as const;

/** Both are added to one copy: to compile it takes longer than all else. */
async function errors(t: Test): Promise<readonly string[]> {
  const copy = mkdtempSync(join(tmpdir(), "mapledger-new-"));
  t.teardown(() => rmSync(copy, { recursive: true }));
  cpSync(join(ROOT, "src"), join(copy, "src"), { recursive: true });
  for (const file of ["package.json", "tsconfig.json"]) cpSync(join(ROOT, file), join(copy, file));
  symlinkSync(join(ROOT, "node_modules"), join(copy, "node_modules"));
  const settings = JSON.parse(readFileSync(join(copy, "tsconfig.json"), "utf8"));
  writeFileSync(join(copy, "tsconfig.json"), JSON.stringify({ ...settings, include: ["src"] }));
  let bpf = readFileSync(join(copy, BPF), "utf8");
  for (const { line, name, number } of Object.values(ADDED)) {
    const before = bpf;
    bpf = behind(before, line, `  ${name}: ${number},`);
    t.not(bpf, before, `${name} was added`);
  }
  writeFileSync(join(copy, BPF), bpf);
  const { promise, resolve } = Promise.withResolvers<string>();
  execFile(process.execPath, [TSC, "--pretty", "false"], { cwd: copy, env: {} }, (_error, stdout) => resolve(stdout));
  return (await promise).split("\n").filter((line) => /^\S+\(\d+,\d+\): error/.test(line));
}

t.test("what is new does not compile until every file that CONTRIBUTING.md lists has it", async (t) => {
  const found = await errors(t);
  const rest = new Set(found);
  for (const [section, { name, number }] of Object.entries(ADDED)) {
    const its = found.filter((error) => new RegExp(`\\b(${name}|${number})\\b`).test(error));
    for (const error of its) rest.delete(error);
    t.same([...new Set(its.map((error) => error.split("(")[0]))].sort(), listed(section), section);
  }
  t.same([...rest], [], "no other error");
});

/** A map type or a command, by its constant or its name. */
const NAMED = String.raw`(?:\w*CMD\.[A-Z]\w+|BPF_MAP_TYPE\.[A-Z]\w+|"BPF_(?:MAP|OBJ|BTF)_\w+")`;
const COMPARED = `[!=]== ${NAMED}`;
const LISTS: readonly (readonly [what: string, pattern: RegExp])[] = [
  ["an array", new RegExp(String.raw`\[[^[\]]*${NAMED}\s*,[^[\]]*${NAMED}[^[\]]*\]`)],
  ["a Set or a Map", new RegExp(String.raw`new (?:Set|Map)\b[^;]*?${NAMED}[^;]*?${NAMED}`)],
  ["a chain", new RegExp(String.raw`${COMPARED}[^;{}]*(?:\|\||&&)[^;{}]*${COMPARED}`)],
];

function found(text: string): readonly string[] {
  const code = text.replace(/\/\*[\s\S]*?\*\/|\/\/.*/g, "");
  return LISTS.filter(([, pattern]) => pattern.test(code)).map(([what]) => what);
}

t.test("outside abi/, maps/ and these files there is no list of map types or commands", async (t) => {
  const tables = [...listed("Add a map type"), ...listed("Add a command")];
  t.ok(tables.length > 4, "the document lists files");
  for (const entry of readdirSync(join(ROOT, "src"), { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    const file = relative(ROOT, path);
    if (!/\.[jt]s$/.test(file) || /^src\/(abi|maps)\//.test(file) || tables.includes(file)) continue;
    t.same(found(readFileSync(path, "utf8")), [], file);
  }
});

t.test("such lists are found", async (t) => {
  t.same(found("const A = new Set([\n  CMD.BPF_MAP_CREATE,\n  CMD.CLOSE,\n]);"), ["an array", "a Set or a Map"]);
  t.same(found("new Map([[BPF_MAP_TYPE.BPF_MAP_TYPE_HASH, 1], [BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY, 2]]);"), [
    "a Set or a Map",
  ]);
  t.same(found('if (cmd === "BPF_OBJ_GET" ||\n  cmd === "BPF_OBJ_PIN") return;'), ["a chain"]);
  t.same(found("if (cmd !== CMD.MKDIR && cmd !== CMD.RMDIR) return;"), ["a chain"]);
  t.same(found("switch (cmd) { case CMD.MKDIR: case CMD.RMDIR: return; }"), []);
  t.same(found("if (cmd === CMD.MKDIR) return 1;\nif (a || cmd === CMD.RMDIR) return 2;"), []);
});
