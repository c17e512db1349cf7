/**
 * The tiles of a tree, of height 8: https://c2sp.org/tlog-tiles. A full tile is stored once. At the right edge each
 * level has a partial tile, which is written over until it is full (`Edge`); a partial tile of another width is the
 * beginning of the stored one. So the hash of every event is kept, and shows which event was changed.
 */

import { EMPTY_ROOT, fullRoot, HASH_BYTES, nodeHash, type Subtrees } from "./merkle.ts";

const TILE_HEIGHT = 8;
export const TILE_HASHES = 2 ** TILE_HEIGHT;
export const TILE_BYTES = TILE_HASHES * HASH_BYTES;
const LEVEL_MAX = 63;

/**
 * The name of a tile, or of the bundle of entries whose hashes are a tile of level 0. `width`: 256, or less if it is
 * partial.
 */
export interface TileName {
  readonly level: number | "entries";
  readonly index: number;
  readonly width: number;
}

/** The path below /tile/: level 0, index 1234067, width 12 -> "0/x001/x234/067.p/12". */
export function tilePath({ level, index, width }: TileName): string {
  const groups = String(index)
    .padStart(Math.ceil(String(index).length / 3) * 3, "0")
    .match(/\d{3}/g) as string[];
  const path = groups.map((group, at) => (at < groups.length - 1 ? `x${group}` : group)).join("/");
  return `${level}/${path}${width === TILE_HASHES ? "" : `.p/${width}`}`;
}

const PATH = /^(\d{1,2}|entries)\/((?:x\d{3}\/){0,4}\d{3})(?:\.p\/([1-9]\d{0,2}))?$/;

/** Reads a path below /tile/; null if it is not one, or not spelt as `tilePath` spells it. */
export function readTilePath(path: string): TileName | null {
  const [, level = "", groups = "", width] = PATH.exec(path) ?? [];
  const name: TileName = {
    level: level === "entries" ? level : Number(level),
    index: Number(groups.replace(/[x/]/g, "")),
    width: width === undefined ? TILE_HASHES : Number(width),
  };
  return tilePath(name) === path && (level === "entries" || Number(level) <= LEVEL_MAX) ? name : null;
}

/** Reads the hashes that a tile has, end to end. Callers ask only for tiles that the tree has. */
export type Tiles = (level: number, index: number) => Buffer;

/** Finds the root of a full subtree of any height in the tree's tiles. */
export function subtreesOf(tiles: Tiles): Subtrees {
  return (start, height) => {
    const level = Math.floor(height / TILE_HEIGHT);
    const first = start / TILE_HASHES ** level;
    const count = 2 ** (height % TILE_HEIGHT);
    const tile = tiles(level, Math.floor(first / TILE_HASHES));
    const at = (first % TILE_HASHES) * HASH_BYTES;
    return fullRoot(tile.subarray(at, at + count * HASH_BYTES));
  };
}

/** Called for every tile that has become full. `hashes` is memory that the edge reuses: copy it to keep it. */
export type OnFull = (level: number, index: number, hashes: Buffer) => void;

/**
 * The right edge of a tree: the one tile of each level that is not full yet. Leaves are appended to it; tiles that
 * become full are passed to `onFull`. Example: at the edge of a tree of 70,000 leaves are 112 hashes of level 0, 17 of
 * level 1 and 1 of level 2.
 */
export class Edge {
  readonly #onFull: OnFull;
  readonly #levels: Buffer[] = [Buffer.allocUnsafeSlow(TILE_BYTES)];
  #size: number;

  /** The edge of a tree that has `size` leaves already; `tiles` reads its partial tiles. */
  constructor(size: number, tiles: Tiles, onFull: OnFull) {
    this.#size = size;
    this.#onFull = onFull;
    for (let level = 0, count = size; count > 0; level++, count = Math.floor(count / TILE_HASHES)) {
      const width = count % TILE_HASHES;
      if (width > 0) tiles(level, Math.floor(count / TILE_HASHES)).copy(this.#level(level), 0, 0, width * HASH_BYTES);
    }
  }

  get size(): number {
    return this.#size;
  }

  /** Appends a leaf: `write` puts the leaf's hash (32 bytes) into `target` at offset `at`. */
  append(write: (target: Buffer, at: number) => void): void {
    write(this.#levels[0] as Buffer, (this.#size % TILE_HASHES) * HASH_BYTES);
    this.#size++;
    for (let level = 0, count = this.#size; count % TILE_HASHES === 0; level++) {
      const full = this.#level(level);
      count /= TILE_HASHES;
      this.#onFull(level, count - 1, full);
      fullRoot(full).copy(this.#level(level + 1), ((count - 1) % TILE_HASHES) * HASH_BYTES);
    }
  }

  /** The partial tiles with their hashes, as views of memory that the edge reuses. */
  *partial(): Iterable<{ readonly level: number; readonly index: number; readonly hashes: Buffer }> {
    for (let level = 0, count = this.#size; count > 0; level++, count = Math.floor(count / TILE_HASHES)) {
      const hashes = this.#level(level).subarray(0, (count % TILE_HASHES) * HASH_BYTES);
      if (hashes.length > 0) yield { level, index: Math.floor(count / TILE_HASHES), hashes };
    }
  }

  root(): Buffer {
    let root: Buffer | null = null;
    for (const { hashes } of this.partial()) {
      let end = hashes.length;
      for (let bytes = HASH_BYTES; end > 0; bytes *= 2) {
        if ((end & bytes) === 0) continue;
        const subtree = fullRoot(hashes.subarray(end - bytes, end));
        root = root === null ? subtree : nodeHash(subtree, root);
        end -= bytes;
      }
    }
    return root ?? EMPTY_ROOT;
  }

  #level(level: number): Buffer {
    const known = this.#levels[level] ?? Buffer.allocUnsafeSlow(TILE_BYTES);
    this.#levels[level] = known;
    return known;
  }
}
