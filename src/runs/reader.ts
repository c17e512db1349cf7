/** Reads a store of runs that another process writes, as the store is when it is opened. */

import { isDeepStrictEqual } from "node:util";
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
  /** As the manifest has it. */
  readonly base: number;
  readonly cells: RunCells;
  readonly #folder: string;
  readonly #manifest: Manifest;
  readonly #cache: BlockCache;

  private constructor(folder: string, manifest: Manifest, cache: BlockCache, filtered: Filtered) {
    this.log = manifest.log;
    this.seq = manifest.seq;
    this.base = manifest.base;
    this.#folder = folder;
    this.#manifest = manifest;
    this.#cache = cache;
    this.cells = new RunCells(new SstReader(cache), () => manifest.runs, filtered);
  }

  get isEmpty(): boolean {
    return this.#manifest.runs.length === 0;
  }

  /** Whether the store has not been written to since. */
  get isCurrent(): boolean {
    return isDeepStrictEqual(readManifest(this.#folder), this.#manifest);
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
        return new RunsReader(folder, manifest, cache, filtered);
      } catch (error) {
        cache.close();
        if (tries === TRIES || !(error instanceof Damaged)) throw error;
      }
    }
  }

  close(): void {
    this.#cache.close();
  }
}
