import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import * as fc from "fast-check";
import t from "tap";
import { CellTable } from "../../src/engine/cell_table.ts";
import { MemoryCells } from "../../src/engine/memory.ts";
import { LmdbStore } from "../../src/lmdb/store.ts";
import type { CellKey } from "../../src/maps/cells.ts";
import { LayeredState, unfitRuns } from "../../src/state/layers.ts";
import { RUNS, runsFolder } from "../../src/state/runs_folder.ts";
import { StateFile } from "../../src/state/state_file.ts";
import { StateWriter, type WriterLimits } from "../../src/state/writer.ts";
import { SEED } from "../support/seed.ts";

const temporary = mkdtempSync(join(tmpdir(), "mapledger-state-"));
t.teardown(() => rmSync(temporary, { recursive: true }));
let folders = 0;
const newFolder = (): string => join(temporary, String(folders++));

/** So that few cells make runs, and a fold takes many transactions. */
const SMALL: WriterLimits = {
  directCells: 2,
  runs: 4,
  runsMax: 6,
  times: 0,
  foldCells: 3,
  foldBytes: 1000,
  restMs: 1,
  startMs: 1,
};
/** Nothing is folded by itself. */
const STILL: WriterLimits = { ...SMALL, runs: 1000, runsMax: 1000, restMs: 1e9 };

type Change = readonly [CellKey, Buffer | null];

/** A state, its writer in this thread, and the cells that it should have. */
class Opened {
  readonly folder: string;
  readonly model: MemoryCells;
  readonly lmdb: LmdbStore;
  readonly layers: LayeredState;
  readonly writer: StateWriter;
  folds = 0;
  failures: string[] = [];

  constructor(folder: string, limits: WriterLimits, model = new MemoryCells()) {
    this.folder = folder;
    this.model = model;
    this.lmdb = new LmdbStore(folder, "log");
    const unfit = unfitRuns(folder, "log", this.lmdb.seq);
    if (unfit !== null) throw new Error(unfit);
    this.layers = new LayeredState(folder, this.lmdb);
    this.writer = new StateWriter(
      folder,
      "log",
      {
        folded: (seq) => {
          this.folds++;
          this.layers.look();
          this.writer.released(seq);
        },
        foldFailed: ({ message }) => this.failures.push(message),
      },
      limits,
    );
  }

  async write(changes: readonly Change[]): Promise<void> {
    const table = new CellTable();
    for (const [key, value] of changes) table.set(key, value);
    const seq = this.model.seq + 1;
    await this.writer.write({ cells: table.memory, seq, bytes: table.bytes });
    this.layers.look();
    await this.model.write(changes, seq);
  }

  /** The first difference from the model; null: none. */
  difference(bounds: readonly CellKey[]): string | null {
    if (this.layers.seq !== this.model.seq) return `seq ${this.layers.seq}, not ${this.model.seq}`;
    return differenceOf(this.layers, this.model, bounds);
  }

  /** As if the process had died, but that LMDB's file is closed: what is being folded stays as it is. */
  async kill(): Promise<void> {
    await this.writer.close();
    await this.layers.close(false);
  }

  async close(): Promise<void> {
    await this.writer.sync();
    await this.writer.close();
    await this.layers.close(true);
  }
}

function differenceOf(
  found: Pick<LayeredState, "get" | "range">,
  model: MemoryCells,
  bounds: readonly CellKey[],
): string | null {
  const listed = (cells: Iterable<readonly [CellKey, Buffer]>): string =>
    Array.from(cells, ([key, value]) => `${key}=${value.toString("hex")}`).join();
  const all = [...bounds, "\x01", "\xff".repeat(9)];
  for (const from of all) {
    if (found.get(from)?.toString("hex") !== model.get(from)?.toString("hex")) return `get ${JSON.stringify(from)}`;
    for (const to of all)
      if (from < to && listed(found.range(from, to)) !== listed(model.range(from, to)))
        return `range ${JSON.stringify([from, to])}: ${listed(found.range(from, to))}, not ${listed(model.range(from, to))}`;
  }
  return null;
}

const keys = fc
  .tuple(fc.constantFrom("a", "e", "e\0", "m"), fc.array(fc.constantFrom("\0", "\x01", "b", "\xff"), { maxLength: 3 }))
  .map(([start, rest]) => start + rest.join(""));
const changes = fc.array(fc.tuple(keys, fc.option(fc.uint8Array({ maxLength: 40 }), { freq: 3 })), { maxLength: 9 });
const steps = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: fc.record({ write: changes }) },
    { weight: 2, arbitrary: fc.record({ turns: fc.nat(6) }) },
    { weight: 1, arbitrary: fc.record({ end: fc.constantFrom("kill", "close") }) },
  ),
  { maxLength: 30 },
);
const asChanges = (changes: readonly (readonly [CellKey, Uint8Array | null])[]): Change[] =>
  [...new Map(changes)].map(([key, value]) => [key, value === null ? null : Buffer.from(value)]);

t.test("reads what was written last, after any writes, folds, deaths and starts", async (t) => {
  let folds = 0;
  await fc.assert(
    fc.asyncProperty(steps, fc.array(keys, { maxLength: 3 }), async (steps, bounds) => {
      const folder = newFolder();
      let state = new Opened(folder, SMALL);
      for (const step of steps) {
        if ("write" in step) await state.write(asChanges(step.write));
        else if ("turns" in step) for (let turn = 0; turn < step.turns; turn++) await pause(1);
        else {
          folds += state.folds;
          await state[step.end as "kill" | "close"]();
          state = new Opened(folder, SMALL, state.model);
        }
        const found = state.difference(bounds);
        if (found !== null) throw new Error(found);
      }
      folds += state.folds;
      await state.close();
      if (state.failures.length > 0) throw new Error(state.failures.join());
      rmSync(folder, { recursive: true });
    }),
    { seed: SEED, numRuns: 40 },
  );
  t.ok(folds > 0);
});

/** A state of which most is in runs. */
async function layered(folder: string, limits = STILL): Promise<Opened> {
  const state = new Opened(folder, limits);
  for (let round = 0; round < 5; round++)
    await state.write(
      Array.from({ length: 40 }, (_, at): Change => {
        const key = `e${String((round * 7919 + at * 31) % 90).padStart(3, "0")}`;
        return [key, (round + at) % 7 === 0 ? null : Buffer.from(`${round} ${at}`)];
      }),
    );
  return state;
}

t.test("a few changes go to LMDB at once, unless there are runs", async (t) => {
  const state = new Opened(newFolder(), STILL);
  await state.write([["a", Buffer.from("1")]]);
  t.equal(state.lmdb.get("a")?.toString(), "1");
  await state.write([1, 2, 3].map((number): Change => [`b${number}`, Buffer.from("2")]));
  t.equal(state.lmdb.get("b1"), undefined);
  await state.write([["a", Buffer.from("3")]]);
  t.equal(state.lmdb.get("a")?.toString(), "1", "it would be hidden by no run, but others would");
  t.equal(state.difference([]), null);
  await state.close();
});

t.test("runs are folded when nothing is written, and their files go when nobody reads them", async (t) => {
  const state = await layered(newFolder(), { ...STILL, restMs: 1 });
  while (state.folds === 0) await pause(1);
  t.equal(state.difference(["e020"]), null);
  t.equal(state.lmdb.seq, 5);
  t.strictSame(readdirSync(runsFolder(state.folder)), ["manifest.json"]);
  await state.close();
});

t.test("a write without changes beside a fold is not forgotten at its end", async (t) => {
  const state = await layered(newFolder(), { ...STILL, runs: 5, foldCells: 1 });
  const stored = (): number => [...state.lmdb.range("e", "f")].length;
  // Pieces of the fold follow one another by setImmediate, too.
  for (; stored() === 0; state.lmdb.look()) await new Promise(setImmediate);
  t.equal(state.folds, 0, "it is under way");
  await state.write([]);
  while (state.folds === 0) await pause(1);
  t.equal(state.difference(["e020"]), null);
  t.equal(state.lmdb.seq, 6);
  await state.close();
});

t.test("nor one for which all runs are folded first", async (t) => {
  const state = await layered(newFolder(), { ...STILL, runsMax: 5 });
  await state.write([]);
  t.equal(state.folds, 1);
  t.equal(state.difference(["e020"]), null);
  t.equal(state.lmdb.seq, 6);
  await state.close();
});

t.test("a walk that was begun before a fold goes on after it", async (t) => {
  const state = await layered(newFolder(), { ...STILL, restMs: 1 });
  const expected = [...state.model.range("e", "f")].map(([key]) => key);
  const found: CellKey[] = [];
  for (const [key] of state.layers.range("e", "f")) {
    found.push(key);
    if (found.length === 10) while (state.folds === 0) await pause(1);
  }
  t.strictSame(found, expected);
  await state.close();
});

t.test("a process that dies between the end of a fold and its manifest loses nothing", async (t) => {
  const folder = newFolder();
  let state = await layered(folder);
  const { model } = state;
  await state.kill();
  const before = newFolder();
  cpSync(runsFolder(folder), before, { recursive: true });
  state = new Opened(folder, { ...SMALL, restMs: 1 }, model);
  while (state.folds === 0) await pause(1);
  await state.kill();
  rmSync(runsFolder(folder), { recursive: true });
  cpSync(before, runsFolder(folder), { recursive: true });
  state = new Opened(folder, STILL, model);
  t.equal(state.difference(["e020"]), null);
  await state.write([["e020", Buffer.from("later")]]);
  t.equal(state.difference(["e020"]), null);
  await state.close();
});

t.test("runs that do not belong to the LMDB file, or are not whole, are told of", async (t) => {
  const folder = newFolder();
  await (await layered(folder)).close();
  const manifest = join(folder, RUNS, "manifest.json");
  const written = readFileSync(manifest, "utf8");
  t.equal(unfitRuns(folder, "log", 0), null);
  t.match(unfitRuns(folder, "other log", 0), /another log/);
  t.match(unfitRuns(folder, "log", 6), /do not continue/, "LMDB is beyond the runs");
  const [file] = readdirSync(join(folder, RUNS)).filter((name) => name.endsWith(".sst")) as [string];
  const whole = readFileSync(join(folder, RUNS, file));
  truncateSync(join(folder, RUNS, file), 20);
  t.match(unfitRuns(folder, "log", 0), /has 20 bytes, not/);
  rmSync(join(folder, RUNS, file));
  t.match(unfitRuns(folder, "log", 0), /is missing/);
  writeFileSync(join(folder, RUNS, file), whole);
  writeFileSync(manifest, written.replace('"seq":5', '"seq":6'));
  t.match(unfitRuns(folder, "log", 0), /checksum/);
  writeFileSync(manifest, written);
  t.equal(unfitRuns(folder, "log", 0), null);
});

t.test("files of a write that was not finished are removed by the next start", async (t) => {
  const folder = newFolder();
  const state = await layered(folder);
  await state.kill();
  const before = readdirSync(runsFolder(folder)).sort();
  writeFileSync(join(runsFolder(folder), "99999999.sst"), "cut off");
  writeFileSync(join(runsFolder(folder), "manifest.json.partial"), "{");
  const again = new Opened(folder, STILL, state.model);
  t.strictSame(readdirSync(runsFolder(folder)).sort(), before);
  t.equal(again.difference([]), null);
  await again.close();
});

t.test("another process reads one moment, whatever is written and folded meanwhile", async (t) => {
  const state = await layered(newFolder(), { ...SMALL, restMs: 1 });
  const file = new StateFile(state.folder, "log");
  for (let round = 0; round < 30; round++) {
    const moment = new MemoryCells();
    t.equal(file.look(), state.model.seq);
    await moment.write(state.model.range("\x01", "\xff"), state.model.seq);
    await state.write(
      [round, round + 1, round + 2].map((number): Change => [`e${number}`, Buffer.from(String(round))]),
    );
    await pause(2);
    t.equal(differenceOf(file, moment, ["e1", "e050"]), null);
  }
  t.ok(state.folds > 1, `${state.folds} folds`);
  await file.close();
  await state.close();
});

t.test("a fold that fails is told of, and nothing is lost", async (t) => {
  const folder = newFolder();
  const state = await layered(folder, { ...STILL, restMs: 50, foldCells: 20 });
  const [file] = readdirSync(runsFolder(folder)).filter((name) => name.endsWith(".sst")) as [string];
  const whole = readFileSync(join(runsFolder(folder), file));
  truncateSync(join(runsFolder(folder), file), whole.length - 1);
  while (state.failures.length === 0) await pause(1);
  t.match(state.failures[0], /sst/);
  t.equal(state.folds, 0);
  writeFileSync(join(runsFolder(folder), file), whole);
  t.equal(state.difference([]), null);
  await state.kill();
  const again = new Opened(folder, { ...STILL, restMs: 1 }, state.model);
  while (again.folds === 0) await pause(1);
  t.equal(again.difference([]), null);
  await again.close();
});
