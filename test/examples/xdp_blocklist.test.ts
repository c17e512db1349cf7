import { type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import type { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import { unfitForExample } from "../../examples/xdp-blocklist/network.ts";
import { unfitForKernel } from "../support/bpffs.ts";
import { bare } from "../support/service_process.ts";

const FOLDER = new URL("../../examples/xdp-blocklist/", import.meta.url).pathname;
const skip = unfitForKernel() ?? unfitForExample() ?? false;

interface Example {
  readonly child: ChildProcessByStdio<null, Readable, Readable>;
  /** What it has said so far, on both outputs. */
  readonly said: () => string;
  /** Its exit code. */
  readonly ended: Promise<number | null>;
}

function start(environment: Readonly<Record<string, string>> = {}): Example {
  const env = { ...bare(process.env), ...environment };
  const child = spawn(process.execPath, [`${FOLDER}xdp_blocklist.ts`], { stdio: ["ignore", "pipe", "pipe"], env });
  let text = "";
  for (const output of [child.stdout, child.stderr])
    output.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk;
    });
  return { child, said: () => text, ended: once(child, "close").then(([code]) => code as number | null) };
}

/** Waits until nothing that an example started runs any more, and says what it has left on bpffs. */
async function leftOf({ child }: Example): Promise<string[]> {
  while (commandLines().some((line) => line.includes(FOLDER))) await sleep(10);
  return [`/sys/fs/bpf/mapledger_xdp_${child.pid}`].filter((path) => existsSync(path));
}

function commandLines(): string[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "utf8");
      } catch {
        return "";
      }
    });
}

t.test("the blocklist lets no packet through that it blocks, also while the service is killed", { skip }, async (t) => {
  const example = start();
  t.equal(await example.ended, 0, "it ends well", { said: example.said() });
  t.match(example.said(), /started again and ready; meanwhile [1-9]\d* packets passed, [1-9]\d* were dropped/);
  t.match(example.said(), /done: no packet of a blocked network got through, every other one did\n$/);
  t.strictSame(await leftOf(example), []);
});

t.test("Ctrl-C ends the example, and leaves nothing behind", { skip }, async (t) => {
  const example = start();
  while (!example.said().includes("\n3. ") && example.child.exitCode === null) await sleep(10);
  example.child.kill("SIGINT");
  t.equal(await example.ended, 130, "it says that it was interrupted", { said: example.said() });
  t.strictSame(await leftOf(example), []);
});

t.test("where something is not there, the example says what, and how to get it", async (t) => {
  const example = start({ PATH: "/nowhere" });
  t.equal(await example.ended, 1);
  t.equal(
    example.said(),
    "the example cannot run here: there is no ip here; it is iproute2's: apt-get install iproute2\n",
  );
});
