import { test } from "tap";
import {
  HASH_BYTES,
  inclusionProof,
  leafHash,
  provesInclusion,
  type Subtrees,
  treeRoot,
} from "../../src/tlog/merkle.ts";
import { Edge, readTilePath, subtreesOf, TILE_BYTES, type TileName, tilePath } from "../../src/tlog/tiles.ts";

test("tilePath writes and readTilePath reads the paths of tlog-tiles", async (t) => {
  const rows: readonly [TileName, string][] = [
    [{ level: 0, index: 0, width: 256 }, "0/000"],
    [{ level: 0, index: 1234067, width: 256 }, "0/x001/x234/067"],
    [{ level: 1, index: 999, width: 17 }, "1/999.p/17"],
    [{ level: 2, index: 1000, width: 255 }, "2/x001/000.p/255"],
    [{ level: "entries", index: 273, width: 112 }, "entries/273.p/112"],
    [{ level: 63, index: 0, width: 1 }, "63/000.p/1"],
  ];
  for (const [name, path] of rows) {
    t.equal(tilePath(name), path);
    t.same(readTilePath(path), name);
  }
});

test("readTilePath takes nothing else", async (t) => {
  const wrong =
    "0/0 0/00 00/000 64/000 -1/000 0/x000/001 0/x001 0/001/002 0/000.p/0 0/000.p/256 0/000.p/01 0/000.p entries 0/000/ 0/x1/000 data/000";
  for (const path of wrong.split(" ")) t.equal(readTilePath(path), null, path);
});

/** A tree of 70,000 leaves, as the specification has it for an example, and one by one for its first sizes. */
test("Edge makes the tiles that tlog-tiles counts, and the roots that their subtrees add up to", async (t) => {
  const tiles = new Map<string, Buffer>();
  const leaf = (at: number): Buffer => leafHash(Buffer.from(String(at)));
  let edge = new Edge(0, nowhere, keep);
  function keep(level: number, index: number, hashes: Buffer): void {
    tiles.set(`${level}/${index}`, Buffer.from(hashes));
  }
  const subtrees = (): Subtrees => {
    const partial = new Map([...edge.partial()].map(({ level, index, hashes }) => [`${level}/${index}`, hashes]));
    return subtreesOf((level, index) => tiles.get(`${level}/${index}`) ?? (partial.get(`${level}/${index}`) as Buffer));
  };
  for (let size = 0; size <= 70_000; size++) {
    const looked = size < 600 || (size > 65_530 && size < 65_540) || size === 70_000;
    if (looked) {
      const root = edge.root();
      if (!treeRoot(size, subtrees()).equals(root)) t.fail(`the root of size ${size}`);
      for (const at of size < 2 ? [] : [0, size >> 1, size - 1])
        if (!provesInclusion(leaf(at), at, size, inclusionProof(at, size, subtrees()), root))
          t.fail(`${at} in ${size}`);
      // As after a restart.
      const partial = new Map([...edge.partial()].map(({ level, hashes }) => [level, Buffer.from(hashes)]));
      edge = new Edge(size, (level) => partial.get(level) as Buffer, keep);
      if (!edge.root().equals(root)) t.fail(`the root of size ${size}, read again`);
    }
    if (size < 70_000) edge.append((target, at) => void leaf(size).copy(target, at));
  }
  const levels = [...tiles.keys()].map((name) => Number(name.split("/")[0]));
  t.same(
    [levels.filter((level) => level === 0).length, levels.filter((level) => level === 1).length, levels.length],
    [273, 1, 274],
  );
  t.same(
    [...tiles.values()].every(({ length }) => length === TILE_BYTES),
    true,
  );
  t.same(
    [...edge.partial()].map(({ level, index, hashes }) => [level, index, hashes.length / HASH_BYTES]),
    [
      [0, 273, 112],
      [1, 1, 17],
      [2, 0, 1],
    ],
  );
});

function nowhere(): Buffer {
  throw new Error("an empty tree has no tiles");
}
