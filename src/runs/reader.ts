/** Reads a store of runs that another process writes, as the store is when it is opened. */

import type { Cell, CellKey } from "../maps/cells.ts";
import { Damaged } from "../supervisor/derived_parts.ts";
import { BlockCache } from "./block_cache.ts";
import { type Manifest, readManifest } from "./manifest.ts";
import { type Filtered, RunCells } from "./run_cells.ts";
import { SstReader } from "./sst.ts";

const CACHE_BYTES = 16 * 1024 * 1024;
/** The most attempts to open a store, because a merge may delete files in between. */
const TRIES = 10;

export class RunsReader {
  readonly log: string;
  /** The last event that the store includes. */
  readonly seq: number;
  readonly #cache: BlockCache;
  readonly #cells: RunCells;

  private constructor({ log, seq, runs }: Manifest, cache: BlockCache, filtered: Filtered) {
    this.log = log;
    this.seq = seq;
    this.#cache = cache;
    this.#cells = new RunCells(new SstReader(cache), () => runs, filtered);
  }

  /** null: there is no store of this layout. Throws Damaged if the store is not as it was written. */
  static open(folder: string, filtered: Filtered): RunsReader | null {
    for (let tries = 1; ; tries++) {
      const manifest = readManifest(folder);
      if (manifest === null || manifest === "other layout") return null;
      const cache = new BlockCache(CACHE_BYTES, Number.POSITIVE_INFINITY);
      try {
        // A file that is open can be read although a merge deletes it.
        for (const { ssts } of manifest.runs) for (const { file } of ssts) cache.openFile(file);
        return new RunsReader(manifest, cache, filtered);
      } catch (error) {
        cache.close();
        if (tries === TRIES || !(error instanceof Damaged)) throw error;
      }
    }
  }

  range(from: CellKey, to: CellKey): Iterable<Cell> {
    return this.#cells.range(from, to);
  }

  close(): void {
    this.#cache.close();
  }
}
