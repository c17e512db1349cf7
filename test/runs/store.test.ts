import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as fc from "fast-check";
import t from "tap";
import { MemoryCells } from "../../src/engine/memory.ts";
import type { CellKey } from "../../src/maps/cells.ts";
import { dueMerge, RunsStore } from "../../src/runs/store.ts";
import { Damaged } from "../../src/supervisor/derived_parts.ts";
import { SEED } from "../support/seed.ts";

const temporary = mkdtempSync(join(tmpdir(), "mapledger-runs-"));
t.teardown(() => rmSync(temporary, { recursive: true }));
let folders = 0;
const newFolder = (): string => join(temporary, String(folders++));

/** Small files and caches, so that few entries fill many. */
const SMALL = { sstBytes: 300, cacheBytes: 2000 };

type Change = readonly [CellKey, Buffer | null];

/** Keys that begin alike, begin each other, and have bytes that an encoding might stumble over. */
const keys = fc
  .tuple(
    fc.constantFrom("", "m", "m\0", "element"),
    fc.array(fc.constantFrom("\0", "\x01", "a", "\xff", "long".repeat(40)), { maxLength: 4 }),
  )
  .map(([start, rest]) => start + rest.join(""));
const writes = fc.array(
  fc.array(fc.tuple(keys, fc.option(fc.uint8Array({ maxLength: 90 }), { freq: 4 })), { maxLength: 25 }),
  { maxLength: 25 },
);

const ascending = (changes: readonly (readonly [CellKey, Uint8Array | null])[]): Change[] =>
  [...new Map(changes)]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => [key, value === null ? null : Buffer.from(value)]);

const listed = (cells: Iterable<readonly [CellKey, Buffer]>): string[] =>
  Array.from(cells, ([key, value]) => `${key}=${value.toString("hex")}`);

/** The first difference of a store from cells in memory, in all its reads of some ranges; null: none. */
function difference(store: RunsStore, model: MemoryCells, bounds: readonly CellKey[]): string | null {
  const all = [...bounds, "", "\xff".repeat(9)];
  for (const from of all) {
    const [got, wanted] = [store.get(from)?.toString("hex"), model.get(from)?.toString("hex")];
    if (got !== wanted) return `get ${JSON.stringify(from)}: ${got}, not ${wanted}`;
    for (const to of all)
      for (const walk of ["range", "rangeDown"] as const) {
        const [found, expected] = [listed(store[walk](from, to)), listed(model[walk](from, to))];
        if (found.join() !== expected.join())
          return `${walk} ${JSON.stringify([from, to])}: ${JSON.stringify(found)}, not ${JSON.stringify(expected)}`;
      }
  }
  return null;
}

t.test("reads what was written last, after any writes, merges and starts", async (t) => {
  let merged = 0;
  await fc.assert(
    fc.asyncProperty(writes, fc.array(keys, { maxLength: 4 }), fc.nat(30), async (writes, bounds, restartAt) => {
      const folder = newFolder();
      let store = new RunsStore(folder, "log", SMALL);
      const model = new MemoryCells();
      for (const [at, changes] of writes.entries()) {
        await store.write(ascending(changes), at + 1);
        await model.write(ascending(changes), at + 1);
        if (at === restartAt) {
          await store.close();
          store = new RunsStore(folder, "log", SMALL);
        }
      }
      if (store.size.runs < writes.length) merged++;
      const found = difference(store, model, bounds);
      if (found === null && store.seq !== model.seq) return Promise.reject(new Error(`seq ${store.seq}`));
      const files = readdirSync(folder).filter((name) => name.endsWith(".sst"));
      const bytes = files.reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
      if (bytes !== store.size.bytes)
        throw new Error(`${bytes} bytes on the disk, ${store.size.bytes} in the manifest`);
      await store.close();
      rmSync(folder, { recursive: true });
      if (found !== null) throw new Error(found);
    }),
    { seed: SEED, numRuns: 60 },
  );
  t.ok(merged > 10, "runs were merged");
});

/** A store of many files, and the cells that it should have. */
async function filled(folder: string, rounds = 40): Promise<{ store: RunsStore; model: MemoryCells }> {
  const store = new RunsStore(folder, "log", { sstBytes: 2000 });
  const model = new MemoryCells();
  for (let round = 1; round <= rounds; round++) {
    const changes = ascending(
      Array.from({ length: 50 }, (_, at) => [
        `key ${String((round * 7919 + at * 31) % 600).padStart(4, "0")}`,
        (round + at) % 9 === 0 ? null : Buffer.from(`${round} ${at}`),
      ]),
    );
    await store.write(changes, round);
    await model.write(changes, round);
  }
  return { store, model };
}

t.test("a walk that was begun before a write goes on in what merges have left", async (t) => {
  for (const walk of ["range", "rangeDown"] as const) {
    const { store, model } = await filled(newFolder());
    const expected = listed(model[walk]("", "z"));
    const found: string[] = [];
    let seq = store.seq;
    for (const [key, value] of store[walk]("", "z")) {
      found.push(`${key}=${value.toString("hex")}`);
      if (found.length % 10 === 0) await store.write([[`zz${String(++seq).padStart(9, "0")}`, Buffer.alloc(500)]], seq);
    }
    t.strictSame(found, expected, walk);
    t.ok(seq > 60, "with writes between its steps");
    await store.close();
  }
});

t.test("keeps the number of runs small, and needs little more than its entries while it merges", async (t) => {
  const { store, model } = await filled(newFolder(), 300);
  t.ok(store.size.runs < 20, `${store.size.runs} runs of 300 writes`);
  const live = listed(model.range("", "z")).length;
  t.ok(store.size.bytes < live * 200, `${store.size.bytes} bytes of ${live} entries`);
  await store.close();
});

t.test("runs of similar size are merged, four or more", (t) => {
  t.equal(dueMerge([6, 6, 6]), null);
  t.strictSame(dueMerge([6, 6, 6, 6]), { first: 0, end: 4 });
  t.strictSame(dueMerge([6, 6, 6, 6, 24]), { first: 0, end: 4 }, "not a much larger one");
  t.strictSame(dueMerge([6, 24, 24, 24, 24]), { first: 1, end: 5 }, "not a much smaller one");
  t.strictSame(dueMerge([6, 1, 6, 2]), { first: 0, end: 4 }, "smaller ones between");
  t.equal(dueMerge([1, 4, 16, 64, 256]), null);
  t.equal(dueMerge([]), null);
  t.end();
});

t.test("what a process left half done is gone at the next start", async (t) => {
  const folder = newFolder();
  const { store, model } = await filled(folder);
  await store.close();
  const before = readdirSync(folder).sort();
  writeFileSync(join(folder, "99999999.sst"), "cut off");
  writeFileSync(join(folder, "manifest.json.partial"), "{");
  writeFileSync(join(folder, "data.mdb"), "of an earlier layout");
  const again = new RunsStore(folder, "log", SMALL);
  t.strictSame(readdirSync(folder).sort(), before);
  t.equal(again.discarded, null);
  t.equal(difference(again, model, ["key 0100", "key 0300"]), null);
  await again.close();
});

t.test("a store of another log is thrown away", async (t) => {
  const folder = newFolder();
  await (await filled(folder)).store.close();
  const other = new RunsStore(folder, "another log", SMALL);
  t.equal(other.discarded, "it was made from another log");
  t.equal(other.seq, 0);
  t.strictSame([...other.range("", "z")], []);
  t.strictSame(readdirSync(folder), []);
  await other.close();
});

t.test("every file that was changed, cut or removed is found damaged, not answered from", async (t) => {
  const folder = newFolder();
  const { store, model } = await filled(folder);
  await store.close();
  const readAll = async (): Promise<string> => {
    const store = new RunsStore(folder, "log", SMALL);
    try {
      return listed(store.range("", "z")).join();
    } finally {
      await store.close();
    }
  };
  const expected = listed(model.range("", "z")).join();
  t.equal(await readAll(), expected);
  const names = readdirSync(folder);
  t.ok(names.length > 2, `${names.length} files`);
  for (const name of names) {
    const file = join(folder, name);
    const whole = readFileSync(file);
    const spoil: Record<string, () => void> = {
      cut: () => writeFileSync(file, whole.subarray(0, whole.length - 1)),
      emptied: () => writeFileSync(file, ""),
      lengthened: () => writeFileSync(file, Buffer.concat([whole, Buffer.from("}")])),
    };
    for (let at = 0; at < whole.length; at += 97)
      spoil[`changed at ${at}`] = () => {
        const changed = Buffer.from(whole);
        changed[at] = (changed[at] as number) ^ 0x10;
        writeFileSync(file, changed);
      };
    if (name.endsWith(".sst")) spoil.removed = () => rmSync(file);
    for (const [how, change] of Object.entries(spoil)) {
      change();
      // A filter is not read by a walk over all; a longer file has all that is read.
      const answer = await readAll().catch((error) => error);
      if (!(answer instanceof Damaged)) t.equal(answer, expected, `${name} ${how}`);
      writeFileSync(file, whole);
    }
  }
  t.equal(await readAll(), expected);
});

t.test("a filter that was changed is found when it is asked", async (t) => {
  const folder = newFolder();
  await (await filled(folder, 1)).store.close();
  const [name = ""] = readdirSync(folder).filter((name) => name.endsWith(".sst"));
  const file = join(folder, name);
  const whole = readFileSync(file);
  const changed = Buffer.from(whole);
  changed[whole.length - 33] = (changed[whole.length - 33] as number) ^ 1;
  writeFileSync(file, changed);
  const store = new RunsStore(folder, "log");
  t.throws(() => store.get("key 0000"), Damaged);
  await store.close();
});

t.test("a write that fails leaves what was, and its files are gone", async (t) => {
  const folder = newFolder();
  const { store, model } = await filled(folder);
  const before = readdirSync(folder).sort();
  const failing = function* (): Iterable<Change> {
    yield* ascending(Array.from({ length: 300 }, (_, at) => [`key ${at}`, Buffer.alloc(40)]));
    throw new Error("no more");
  };
  await t.rejects(store.write(failing(), 99), { message: "no more" });
  t.strictSame(readdirSync(folder).sort(), before);
  t.equal(store.seq, model.seq);
  t.equal(difference(store, model, ["key 0100", "key 0300"]), null);
  await store.write([["key 0100", Buffer.from("new")]], 100);
  t.equal(store.get("key 0100")?.toString(), "new");
  await store.close();
});

t.test("changes that do not ascend are refused, and nothing of them is kept", async (t) => {
  const store = new RunsStore(t.testdir(), "log");
  t.teardown(() => store.close());
  await store.write([["b", Buffer.from("1")]], 1);
  const value = Buffer.from("2");
  const long = Array.from({ length: 3000 }, (_, at) => [`c${at + 1000}`, value] as const);
  for (const changes of [
    [
      ["c", value],
      ["a", value],
    ],
    [
      ["c", value],
      ["c", value],
    ],
    [
      ["cc", value],
      ["c", null],
    ],
    [...long, ["!", value]],
  ] as (readonly [string, Buffer | null])[][]) {
    await t.rejects(store.write(changes, 2), { message: /keys are to ascend/ });
    t.same([...store.range("", "\xff")], [["b", Buffer.from("1")]]);
    t.equal(store.seq, 1);
  }
  await store.write([["a", value]], 2);
  t.equal(store.seq, 2);
});
