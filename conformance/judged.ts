import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { release } from "node:os";
import type { Judged } from "./random.ts";
import { STREAM_TYPES } from "./shapes.ts";

/** The record of random commands that a kernel and the service have answered alike. */
interface Judgement {
  readonly kernel: string;
  readonly date: string;
  /** How many were about maps of each type. */
  readonly commands: Readonly<Record<string, number>>;
  readonly seeds: readonly number[];
}

const FILE = new URL("judged.json", import.meta.url);

/** Adds a run to the record; one of another kernel, or none, is begun anew. */
export function record({ byType }: Judged, seed: number): void {
  const kernel = release();
  const found = existsSync(FILE) ? (JSON.parse(readFileSync(FILE, "utf8")) as Judgement) : null;
  const before: Pick<Judgement, "commands" | "seeds"> = found?.kernel === kernel ? found : { commands: {}, seeds: [] };
  if (before.seeds.includes(seed)) throw new Error(`recording seed ${seed}: it is in ${FILE.pathname} already`);
  const commands = Object.fromEntries(
    STREAM_TYPES.map((type) => [type, (before.commands[type] ?? 0) + (byType.get(type) ?? 0)]),
  );
  const date = new Date().toISOString().slice(0, 10);
  writeFileSync(FILE, `${JSON.stringify({ kernel, date, commands, seeds: [...before.seeds, seed] }, null, 2)}\n`);
}
