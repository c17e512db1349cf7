/**
 * The files of a store of runs, and the manifest that names them. Files that no manifest names are of writes that were
 * not finished, or of runs that were merged: whoever opens the store removes them.
 */

import {
  closeSync,
  existsSync,
  fdatasync,
  mkdirSync,
  openSync,
  readdirSync,
  rmSync,
  statSync,
  writevSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import type { ChangedCells } from "../engine/ports.ts";
import {
  type CellMemory,
  GONE,
  KEY_AT,
  KEY_BYTES,
  ordered,
  VALUE_AT,
  VALUE_BYTES,
  WIDTH,
} from "../engine/sorted_cells.ts";
import { sync } from "../files/contents.ts";
import { LAYOUT, MANIFEST, type Manifest, readManifest, writeManifest } from "./manifest.ts";
import type { Run } from "./run.ts";
import { type Sst, SstWriter } from "./sst.ts";

/** Bytes of a file, about. */
const SST_BYTES = 4 * 1024 * 1024;
/** Buffers that one writev(2) takes. */
const IOV_MAX = 1024;
const synced = promisify(fdatasync);
const NOTHING = Buffer.alloc(0);

export interface RunFolderOptions {
  /** Bytes at the end of each key that filters leave out. */
  readonly suffixBytes: number;
  /** Bytes of a file, about. */
  readonly sstBytes?: number;
  /** Whether files and manifest are on the disk before anything is built on them. */
  readonly isSynced: boolean;
}

/** Changed cells; those of a table are read as the bytes that they are. */
export type RunChanges = ChangedCells | { readonly memory: CellMemory };

export class RunFolder {
  /** Why an earlier store is not used; null: there was none, or it is. */
  readonly discarded: string | null;
  readonly folder: string;
  readonly sstBytes: number;
  readonly #suffixBytes: number;
  readonly #isSynced: boolean;
  #manifest: Manifest;

  /** `log`: the id of the log that it is made from. Throws Damaged if the manifest is not as it was written. */
  constructor(folder: string, log: string, { suffixBytes, sstBytes = SST_BYTES, isSynced }: RunFolderOptions) {
    this.folder = folder;
    this.sstBytes = sstBytes;
    this.#suffixBytes = suffixBytes;
    this.#isSynced = isSynced;
    mkdirSync(folder, { recursive: true });
    const found = readManifest(folder);
    this.discarded = reasonToDiscard(found, log);
    this.#manifest =
      found === null || this.discarded !== null ? { log, base: 0, seq: 0, nextFile: 1, runs: [] } : (found as Manifest);
  }

  get manifest(): Manifest {
    return this.#manifest;
  }

  /** Removes files that the manifest does not name. Nobody may read or write the store meanwhile. */
  removeUnnamed(): void {
    removeUnnamed(this.folder, this.#manifest);
    if (this.discarded !== null) rmSync(join(this.folder, MANIFEST), { force: true });
  }

  newWriter(): SstWriter {
    return new SstWriter(this.#suffixBytes);
  }

  /** Writes the files of a new run, of ascending changes; no manifest names them yet. */
  async add(changes: RunChanges): Promise<Run> {
    const ssts: Sst[] = [];
    try {
      const writer = this.newWriter();
      for (const _ of added(writer, changes)) if (writer.bytes >= this.sstBytes) ssts.push(await this.save(writer));
      if (writer.entries > 0) ssts.push(await this.save(writer));
    } catch (error) {
      for (const { file } of ssts) rmSync(file, { force: true });
      throw error;
    }
    return { ssts, after: null };
  }

  /** Writes a file with all that the writer has. */
  async save(writer: SstWriter): Promise<Sst> {
    const { chunks, ...facts } = writer.take();
    const file = this.#newFile();
    const fd = openSync(file, "wx", 0o600);
    try {
      writeAll(fd, chunks);
      if (this.#isSynced) await synced(fd);
    } catch (error) {
      rmSync(file, { force: true });
      throw error;
    } finally {
      closeSync(fd);
    }
    return { file, ...facts };
  }

  /** A file of that name may be left of a write that was not finished. */
  #newFile(): string {
    for (;;) {
      const file = join(this.folder, `${String(this.#manifest.nextFile).padStart(8, "0")}.sst`);
      this.#manifest = { ...this.#manifest, nextFile: this.#manifest.nextFile + 1 };
      if (!existsSync(file)) return file;
    }
  }

  /** Writes another manifest. Answers the files that it does not name any more; the caller removes them. */
  commit(change: Partial<Pick<Manifest, "base" | "seq" | "runs">>): readonly string[] {
    const before = this.#manifest;
    const next = { ...before, ...change };
    writeManifest(this.folder, next, this.#isSynced);
    this.#manifest = next;
    const named = new Set(filesOf(next));
    return filesOf(before).filter((file) => !named.has(file));
  }

  /** Afterwards, everything is on the disk. */
  async sync(): Promise<void> {
    for (const file of filesOf(this.#manifest)) {
      const fd = openSync(file, "r");
      try {
        await synced(fd);
      } finally {
        closeSync(fd);
      }
    }
    writeManifest(this.folder, this.#manifest, true);
    sync(dirname(this.folder));
  }
}

/** Removes the files in a folder that its manifest does not name. */
export function removeUnnamed(folder: string, manifest: Pick<Manifest, "runs">): void {
  const named = new Set(filesOf(manifest));
  for (const name of readdirSync(folder))
    if (!named.has(join(folder, name)) && name !== MANIFEST) rmSync(join(folder, name), { recursive: true });
}

/** The first file of a manifest that is not there with all its bytes, and how it is; null: all are. */
export function missingFile(manifest: Manifest): string | null {
  for (const { ssts } of manifest.runs)
    for (const { file, bytes } of ssts) {
      const found = statSync(file, { throwIfNoEntry: false })?.size;
      if (found === undefined) return `${file} is missing`;
      if (found !== bytes) return `${file} has ${found} bytes, not ${bytes}`;
    }
  return null;
}

function filesOf({ runs }: Pick<Manifest, "runs">): readonly string[] {
  return runs.flatMap(({ ssts }) => ssts.map(({ file }) => file));
}

/** Adds changes to a file, one at each step. */
function* added(writer: SstWriter, changes: RunChanges): Iterable<void> {
  if ("memory" in changes) {
    const { memory } = changes;
    let key = new Uint8Array(256);
    for (const entry of ordered(memory)) {
      const at = entry * WIDTH;
      const from = memory.entries[at + KEY_AT] as number;
      const keyBytes = memory.entries[at + KEY_BYTES] as number;
      const valueAt = memory.entries[at + VALUE_AT] as number;
      const valueBytes = memory.entries[at + VALUE_BYTES] as number;
      if (keyBytes > key.length) key = new Uint8Array(keyBytes * 2);
      for (let byte = 0; byte < keyBytes; byte++) key[byte] = memory.keys[from + byte] as number;
      writer.add(key, keyBytes, memory.values, valueAt, valueBytes === GONE ? -1 : valueBytes);
      yield;
    }
    return;
  }
  let keyBytes = new Uint8Array(256);
  for (const [key, value] of changes) {
    if (key.length > keyBytes.length) keyBytes = new Uint8Array(key.length * 2);
    for (let at = 0; at < key.length; at++) keyBytes[at] = key.charCodeAt(at);
    writer.add(keyBytes, key.length, value ?? NOTHING, 0, value?.length ?? -1);
    yield;
  }
}

function reasonToDiscard(found: Manifest | "other layout" | null, log: string): string | null {
  if (found === "other layout") return `its layout is not number ${LAYOUT}`;
  return found === null || found.log === log ? null : "it was made from another log";
}

function writeAll(fd: number, chunks: readonly Buffer[]): void {
  for (let left = [...chunks]; left.length > 0; ) {
    let written = writevSync(fd, left.slice(0, IOV_MAX));
    while (left.length > 0 && written >= (left[0] as Buffer).length) written -= (left.shift() as Buffer).length;
    if (written > 0) left = [(left[0] as Buffer).subarray(written), ...left.slice(1)];
  }
}
