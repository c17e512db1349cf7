import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { readSmall, sync } from "../files/contents.ts";
import { HASH_BYTES } from "../tlog/merkle.ts";
import { readTilePath, TILE_HASHES, type TileName, tilePath } from "../tlog/tiles.ts";

/** Hashes of a tile of the log's tree, as many as it has; undefined where it has no such tile. */
export type TileSource = (level: number, index: number) => Buffer | undefined;

export type HashTile = TileName & { readonly level: number };

/** Where an archive has its tiles: below it they stand as C2SP's tlog-tiles serves them. */
const TILE_FOLDER = "tile";

/**
 * The tiles that have a hash of, or over, events `first` to `through` only: the tree of `through` events has these at its
 * right edge. Of 300 events: tile 0 and 44 hashes of tile 1 of level 0, one hash of tile 0 of level 1.
 */
export function* tilesOver(first: number, through: number): Iterable<HashTile> {
  for (let level = 0, span = 1; span <= through; level++, span *= TILE_HASHES)
    for (let index = Math.floor((first - 1) / span / TILE_HASHES); ; index++) {
      const tile = tileOver(level, index, through);
      if (tile === null) break;
      yield tile;
    }
}

/** A tile of a tree of so many events; null: it has no hash in that. */
export function tileOver(level: number, index: number, events: number): HashTile | null {
  const width = Math.min(Math.floor(events / TILE_HASHES ** level) - index * TILE_HASHES, TILE_HASHES);
  return width > 0 ? { level, index, width } : null;
}

/** Durable when this returns. A tile takes the place of the narrower one that was there before. */
export function writeTiles(folder: string, tiles: TileSource, first: number, through: number): void {
  const folders = new Set([folder]);
  for (const name of tilesOver(first, through)) {
    const { level, index, width } = name;
    const hashes = tiles(level, index)?.subarray(0, width * HASH_BYTES);
    if (hashes?.length !== width * HASH_BYTES)
      throw new Error(`reading the log's tree: it has no tile ${tilePath(name)}, which is of events up to ${through}`);
    rmSync(fileOf(folder, { level, index, width: 1 }).replace(/\/1$/, ""), { recursive: true, force: true });
    const file = fileOf(folder, name);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, hashes, { flush: true });
    for (let above = dirname(file); above !== folder; above = dirname(above)) folders.add(above);
  }
  for (const each of folders) sync(each);
}

/** undefined: the archive does not have it. */
export function readTile(folder: string, name: HashTile): Buffer | undefined {
  try {
    return readSmall(fileOf(folder, name));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** As a file of the archive. */
export function tileFile(name: HashTile): string {
  return `${TILE_FOLDER}/${tilePath(name)}`;
}

export function isTileFile(name: string): boolean {
  return name.startsWith(`${TILE_FOLDER}/`) && readTilePath(name.slice(TILE_FOLDER.length + 1)) !== null;
}

/** Such as tile/0/x001/234.p, in which partial tiles of level 0 are. */
export function isTileFolder(name: string): boolean {
  return (
    name === TILE_FOLDER || (name.startsWith(`${TILE_FOLDER}/`) && FOLDER.test(name.slice(TILE_FOLDER.length + 1)))
  );
}

const FOLDER = /^\d{1,2}(\/x\d{3})*(\/\d{3}\.p)?$/;

function fileOf(folder: string, name: HashTile): string {
  return join(folder, tileFile(name));
}
