import { readdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { openIndex } from "../src/data/open_index.ts";

/** What the index of a data directory has taken to make. */
export interface MadeIndex {
  readonly cpuUs: number;
  readonly wallMs: number;
  readonly bytes: number;
}

/** Makes the index of the data directory that is named, and removes it again. */
async function make(data: string): Promise<MadeIndex> {
  const startedMs = performance.now();
  const before = process.cpuUsage();
  const index = await openIndex(data);
  while (await index.catchUp());
  await index.write();
  await index.close();
  const { user, system } = process.cpuUsage(before);
  const wallMs = performance.now() - startedMs;
  const folder = join(data, "index");
  const bytes = readdirSync(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
  rmSync(folder, { recursive: true });
  return { cpuUs: user + system, wallMs, bytes };
}

// The first time compiles the code, which a longer log would not notice.
const [data = ""] = process.argv.slice(2);
await make(data);
process.stdout.write(JSON.stringify(await make(data)));
