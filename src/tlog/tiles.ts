import { EMPTY_ROOT, fullRoot, HASH_BYTES, nodeHash, type Subtrees } from "./merkle.ts";

/** A tree in tiles of height 8, as https://c2sp.org/tlog-tiles has them. */

const TILE_HEIGHT = 8;
export const TILE_HASHES = 2 ** TILE_HEIGHT;
export const TILE_BYTES = TILE_HASHES * HASH_BYTES;
const LEVEL_MAX = 63;

/** A tile, or the entries whose hashes are one of level 0. Its first `width` hashes or entries: 256, unless it is partial. */
export interface TileName {
  readonly level: number | "entries";
  readonly index: number;
  readonly width: number;
}

/** What stands behind /tile/: "0/x001/x234/067.p/12". */
export function tilePath({ level, index, width }: TileName): string {
  const groups = String(index)
    .padStart(Math.ceil(String(index).length / 3) * 3, "0")
    .match(/\d{3}/g) as string[];
  const path = groups.map((group, at) => (at < groups.length - 1 ? `x${group}` : group)).join("/");
  return `${level}/${path}${width === TILE_HASHES ? "" : `.p/${width}`}`;
}

const PATH = /^(\d{1,2}|entries)\/((?:x\d{3}\/){0,4}\d{3})(?:\.p\/([1-9]\d{0,2}))?$/;

/** Reads a path; null where it is none, or not written as tlog-tiles has it. */
export function readTilePath(path: string): TileName | null {
  const [, level = "", groups = "", width] = PATH.exec(path) ?? [];
  const name: TileName = {
    level: level === "entries" ? level : Number(level),
    index: Number(groups.replace(/[x/]/g, "")),
    width: width === undefined ? TILE_HASHES : Number(width),
  };
  return tilePath(name) === path && (level === "entries" || Number(level) <= LEVEL_MAX) ? name : null;
}

/** Hashes of a tile, as many as there are; a tile that is not there is asked for by nobody. */
export type Tiles = (level: number, index: number) => Buffer;

/** Subtrees of any height, out of tiles. */
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

/** Told of every tile that has become full. Its bytes are the edge's own: they are written over. */
export type OnFull = (level: number, index: number, hashes: Buffer) => void;

/**
 * The right edge of a tree: of each level the tile that is not full yet. Leaves are appended to it, and tiles that become
 * full are handed on. A tree of 70,000 leaves has at its edge 112 hashes of level 0, 17 of level 1 and one of level 2.
 */
export class Edge {
  readonly #onFull: OnFull;
  readonly #levels: Buffer[] = [Buffer.allocUnsafeSlow(TILE_BYTES)];
  #size: number;

  /** Of a tree that has `size` leaves already. */
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

  /** Appends a leaf: `write` puts its hash where it is told to. */
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

  /** The tiles that are not full, with the hashes that they have. Their bytes are the edge's own. */
  *partial(): Iterable<{ readonly level: number; readonly index: number; readonly hashes: Buffer }> {
    for (let level = 0, count = this.#size; count > 0; level++, count = Math.floor(count / TILE_HASHES)) {
      const hashes = this.#level(level).subarray(0, (count % TILE_HASHES) * HASH_BYTES);
      if (hashes.length > 0) yield { level, index: Math.floor(count / TILE_HASHES), hashes };
    }
  }

  /** The root of the tree. */
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
