/**
 * Tiles of the log's tree in an archive, below tile/ as C2SP's tlog-tiles names them. With them an archive proves its
 * events without the log (`data/offline_proof.ts`), and `mapledger verify` compares them with the hashes of the
 * archived events. The tree in the data directory keeps the tiles of archived events, too, but proves only events that
 * the log has.
 */

import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { readSmall, sync } from "../files/contents.ts";
import { HASH_BYTES } from "../tlog/merkle.ts";
import { readTilePath, TILE_HASHES, type TileName, tilePath } from "../tlog/tiles.ts";

/**
 * The hashes of a tile, 32 bytes each, end to end, as many as the tree has; undefined if the tree has no such tile.
 */
export type TileSource = (level: number, index: number) => Buffer | undefined;

export type HashTile = TileName & { readonly level: number };

const TILE_FOLDER = "tile";

/**
 * The tiles of a tree of `through` events that cover any of the events `first` to `through`, with their widths in that
 * tree. A tile may cover earlier events, too. For events 1 to 300: tile 0 of level 0 with 256 hashes, tile 1 of level 0
 * with 44, and tile 0 of level 1 with one hash.
 */
export function* tilesOver(first: number, through: number): Iterable<HashTile> {
  for (let level = 0, span = 1; span <= through; level++, span *= TILE_HASHES)
    for (let index = Math.floor((first - 1) / span / TILE_HASHES); ; index++) {
      const tile = tileOver(level, index, through);
      if (tile === null) break;
      yield tile;
    }
}

/** A tile as a tree of so many events has it; null if that tree has none of the tile's hashes. */
export function tileOver(level: number, index: number, events: number): HashTile | null {
  const width = Math.min(Math.floor(events / TILE_HASHES ** level) - index * TILE_HASHES, TILE_HASHES);
  return width > 0 ? { level, index, width } : null;
}

/**
 * Writes the tiles over events `first` to `through`. A tile replaces the narrower one that an earlier job wrote.
 * Durable when this returns.
 */
export function writeTiles(folder: string, tiles: TileSource, first: number, through: number): void {
  const folders = new Set([folder]);
  for (const name of tilesOver(first, through)) {
    const { level, index, width } = name;
    const hashes = tiles(level, index)?.subarray(0, width * HASH_BYTES);
    if (hashes?.length !== width * HASH_BYTES)
      throw new Error(
        `reading the log's tree: it does not have all of tile ${tilePath(name)}, which covers events up to ${through}`,
      );
    rmSync(fileOf(folder, { level, index, width: 1 }).replace(/\/1$/, ""), { recursive: true, force: true });
    const file = fileOf(folder, name);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, hashes, { flush: true });
    for (let above = dirname(file); above !== folder; above = dirname(above)) folders.add(above);
  }
  for (const each of folders) sync(each);
}

/** Returns undefined if the archive does not have the tile. */
export function readTile(folder: string, name: HashTile): Buffer | undefined {
  try {
    return readSmall(fileOf(folder, name));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** The tile's file name within the archive's folder. */
export function tileFile(name: HashTile): string {
  return `${TILE_FOLDER}/${tilePath(name)}`;
}

export function isTileFile(name: string): boolean {
  return name.startsWith(`${TILE_FOLDER}/`) && readTilePath(name.slice(TILE_FOLDER.length + 1)) !== null;
}

/**
 * Whether a name is that of a folder of tiles: for example tile/0/x001/234.p, which holds partial tiles of level 0.
 */
export function isTileFolder(name: string): boolean {
  return (
    name === TILE_FOLDER || (name.startsWith(`${TILE_FOLDER}/`) && FOLDER.test(name.slice(TILE_FOLDER.length + 1)))
  );
}

const FOLDER = /^\d{1,2}(\/x\d{3})*(\/\d{3}\.p)?$/;

function fileOf(folder: string, name: HashTile): string {
  return join(folder, tileFile(name));
}
