import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { bare, startService } from "../support/service_process.ts";

const COMMAND_LINE = new URL("../../src/cli/mapledger.js", import.meta.url).pathname;

/**
 * The README's commands as a reader runs them, and its printed answers. Left out are streams, which do not end by themselves, and
 * commands of other programs than curl and mapledger.
 */
t.test("the README's commands run in their order, and are answered as it prints", async (t) => {
  // A unix socket's path has 107 bytes at most.
  const folder = mkdtempSync(join(tmpdir(), "mapledger-readme-"));
  const service = await startService({ MAPLEDGER_DATA: join(folder, "data"), MAPLEDGER_MIRROR: "off" });
  t.teardown(async () => {
    await service.end("SIGKILL");
    rmSync(folder, { recursive: true });
  });
  const readme = readFileSync(new URL("../../README.md", import.meta.url), "utf8");
  const blocks = [...readme.matchAll(/^```sh\n(.*?)^```$/gms)].map(([, block]) => block as string);
  let defined = "";
  let run = 0;
  for (const { command, printed } of blocks.flatMap(commands)) {
    if (/^(curl\(\)|url=|json=)/.test(command)) defined += `${command}\n`;
    if (!/^(curl -s|npx mapledger (map|event|--at)) /.test(command) || /\||\/checkpoint|\/drift/.test(command))
      continue;
    const line = defined + command.replace(/^npx mapledger/, `'${process.execPath}' '${COMMAND_LINE}'`);
    const { stdout, stderr } = spawnSync("sh", ["-c", line], { cwd: folder, encoding: "utf8", env: bare(process.env) });
    if (printed === null) t.notMatch(stdout, /"type":"urn:mapledger:|^$/, `${command}\n${stderr}`);
    else t.match(stdout.replace(/\n$/, ""), pattern(printed), `${command}\n${stderr}`);
    run++;
  }
  t.ok(run > 15, `${run} commands were run`);
});

/** The commands of a block, each with the line that it is said to print. A quote that is open goes on in the next line. */
function commands(block: string): readonly { readonly command: string; readonly printed: string | null }[] {
  const found: { command: string; printed: string | null }[] = [];
  let open = "";
  for (const line of block.split("\n")) {
    const last = found.at(-1);
    open += `${open === "" ? "" : "\n"}${line}`;
    if (open.split("'").length % 2 === 0) continue;
    if (open.startsWith("# ") && last !== undefined) last.printed = open.slice(2);
    else if (open !== "") found.push({ command: open, printed: null });
    open = "";
  }
  return found;
}

/** Matches what the line says, where `...` stands for anything. */
function pattern(printed: string): RegExp {
  const parts = printed.split("...").map((part) => part.replaceAll(/[\\^$.*+?()[\]{}|]/g, "\\$&"));
  return new RegExp(`^${parts.join(".*")}$`);
}
