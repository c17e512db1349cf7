import * as fc from "fast-check";
import { test } from "tap";
import { MemoryCells } from "../../src/engine/memory.ts";
import { afterPrefix } from "../../src/maps/cells.ts";
import { VersionTable } from "../../src/past/version_table.ts";
import { allVersions } from "../../src/past/version_walk.ts";
import { CellsAsOf, isGone, seqIn, versionKey, versionsOf } from "../../src/past/versions.ts";
import { SEED } from "../support/seed.ts";

/** Cells of a table and of two maps, whose keys have bytes that an encoding might stumble over. */
const cellKeys = fc
  .tuple(
    fc.constantFrom("s", "e\0\0\0\x01", "e\0\0\0\x02"),
    fc.array(fc.constantFrom("\0", "\x01", "a", "\xff"), { maxLength: 3 }),
  )
  .map(([group, rest]) => group + rest.join(""));

const changes = fc.array(fc.tuple(cellKeys, fc.option(fc.uint8Array({ maxLength: 2 }))), { maxLength: 60 });

test("cells as of any seq are what they were then: singly, in ranges, and from one end of their past to the other", async (t) => {
  await fc.assert(
    fc.asyncProperty(changes, cellKeys, cellKeys, async (changes, one, other) => {
      const store = new MemoryCells();
      const moments: Map<string, string>[] = [new Map()];
      for (const [at, [cell, bytes]] of changes.entries()) {
        const now = new Map(moments[at]);
        if (bytes === null) now.delete(cell);
        else now.set(cell, Buffer.from(bytes).toString("hex"));
        moments.push(now);
        await store.write([[versionKey(cell, 0, at + 1, bytes !== null), Buffer.from(bytes ?? [])]], at + 1);
      }
      for (const [seq, then] of moments.entries()) {
        const cells = new CellsAsOf(store, seq);
        for (const cell of new Set(changes.map(([cell]) => cell)))
          if (cells.get(cell)?.toString("hex") !== then.get(cell)) return false;
        for (const group of ["s", "e\0\0\0\x01", "e\0\0\0\x02"]) {
          const [from, to] = [group + one.slice(5), group + other.slice(5)].sort() as [string, string];
          for (const end of [to, afterPrefix(group)]) {
            const wanted = [...then]
              .filter(([cell]) => cell >= from && cell < end)
              .sort(([a], [b]) => (a < b ? -1 : 1));
            const found = [...cells.range(from, end)].map(([cell, bytes]) => [cell, bytes.toString("hex")]);
            if (JSON.stringify(found) !== JSON.stringify(wanted)) return false;
          }
        }
      }
      return true;
    }),
    { seed: SEED, numRuns: 300 },
  );
  t.pass("300 pasts");
});

test("the versions of a cell are told from the newest on, those at and before a seq", async (t) => {
  const store = new MemoryCells();
  const write = (seq: number, text: string | null) =>
    store.write([[versionKey("s\0", 0, seq, text !== null), Buffer.from(text ?? "")]], seq);
  await write(3, "a");
  await write(7, null);
  await write(2 ** 40, "b");
  await store.write([[versionKey("s\0\0", 0, 5, true), Buffer.from("another cell's")]], 5);
  const told = (seq: number) => [...versionsOf(store, "s\0", seq)].map(({ seq, bytes }) => [seq, bytes?.toString()]);
  t.same(told(2 ** 40), [
    [2 ** 40, "b"],
    [7, undefined],
    [3, "a"],
  ]);
  t.same(told(7), [
    [7, undefined],
    [3, "a"],
  ]);
  t.same(told(2), []);
});

test("a table of versions has them in order, under the keys that versionKey makes", async (t) => {
  const seqs = fc.constantFrom(0, 1, 255, 2 ** 32 - 1, 2 ** 32, Number.MAX_SAFE_INTEGER - 1);
  const version = fc.tuple(cellKeys, seqs, seqs, fc.option(fc.uint8Array({ maxLength: 9 })));
  fc.assert(
    fc.property(
      fc.uniqueArray(version, { selector: ([cell, image, seq]) => `${cell} ${image} ${seq}` }),
      (versions) => {
        const table = new VersionTable();
        for (const [cell, image, seq, bytes] of versions)
          table.addVersion(cell, image, seq, bytes === null ? null : Buffer.from(bytes));
        const wanted = versions
          .map(([cell, image, seq, bytes]) => [versionKey(cell, image, seq, bytes !== null), Buffer.from(bytes ?? [])])
          .sort(([a], [b]) => ((a as string) < (b as string) ? -1 : 1));
        t.same([...table], wanted);
      },
    ),
    { seed: SEED, numRuns: 50 },
  );
  t.end();
});

test("all versions come once and in order, however many images have copies of them", async (t) => {
  await fc.assert(
    fc.asyncProperty(changes, fc.array(fc.nat(3), { minLength: 60, maxLength: 60 }), async (changes, images) => {
      const store = new MemoryCells();
      const wanted: string[] = [];
      for (const [at, [cell, bytes]] of changes.entries()) {
        const seq = at + 1;
        const held = bytes !== null;
        const value = Buffer.from(bytes ?? []);
        for (const image of new Set([images[at] as number, images[(at * 7) % 60] as number]))
          await store.write([[versionKey(cell, image, seq, held), value]], seq);
        const group = cell[0] === "s" ? "s" : cell.slice(0, 5);
        wanted.push(`${group} ${seq} ${held} ${value.toString("hex")}`);
      }
      const places: string[] = [];
      const found: string[] = [];
      for (const { group, place, bytes } of allVersions(store)) {
        places.push(group + place);
        found.push(`${group} ${seqIn(place)} ${!isGone(place)} ${bytes.toString("hex")}`);
      }
      return (
        JSON.stringify(found.toSorted()) === JSON.stringify(wanted.toSorted()) &&
        JSON.stringify(places) === JSON.stringify(places.toSorted())
      );
    }),
    { seed: SEED, numRuns: 300 },
  );
  t.pass("300 stores");
});
