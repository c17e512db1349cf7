/**
 * The manifest: the list of a store's runs, the newest first, and the last event that they include. It is replaced as a
 * whole, after the files that it names are on the disk, so that a store never has a part of a write.
 */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { writeWhole } from "../files/contents.ts";
import { Damaged } from "../supervisor/derived_parts.ts";
import type { Run } from "./run.ts";

export const MANIFEST = "manifest.json";
/**
 * The layout of files and manifest. A store of another layout is made again. Layout 1 was the same, but its histories
 * may have files whose keys do not ascend, in which versions are not found.
 */
export const LAYOUT = 2;

export interface Manifest {
  /** The log that the store is made from, and the last event that it includes. */
  readonly log: string;
  readonly seq: number;
  /** Where the runs lie above another store: the last event of that store when the oldest run was added; otherwise 0. */
  readonly base: number;
  /** The number of the next file. */
  readonly nextFile: number;
  /** The newest first. */
  readonly runs: readonly Run[];
}

interface ManifestJson extends Omit<Manifest, "runs" | "base"> {
  /** Left out: 0. */
  readonly base?: number;
  readonly layout: number;
  readonly runs: readonly {
    readonly after: string | null;
    readonly ssts: readonly { file: string; entries: number; bytes: number; last: string }[];
  }[];
}

/** Writes the manifest. If `isSynced`, it is on the disk when this returns. */
export function writeManifest(folder: string, { log, seq, base, nextFile, runs }: Manifest, isSynced: boolean): void {
  const json: ManifestJson = {
    layout: LAYOUT,
    log,
    seq,
    ...(base > 0 && { base }),
    nextFile,
    runs: runs.map(({ after, ssts }) => ({
      after: after?.toString("hex") ?? null,
      ssts: ssts.map(({ file, last, ...rest }) => ({
        ...rest,
        file: nameOf(folder, file),
        last: last.toString("hex"),
      })),
    })),
  };
  const text = JSON.stringify(json);
  writeWhole(join(folder, MANIFEST), `${text}\n${crc32(text)}\n`, isSynced);
}

/** null: there is no manifest. Throws Damaged if it is not as it was written. */
export function readManifest(folder: string): Manifest | "other layout" | null {
  let written: string;
  try {
    written = readFileSync(join(folder, MANIFEST), "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
  const [text = "", checksum] = written.split("\n");
  if (String(crc32(text)) !== checksum) throw new Damaged(`the checksum of ${MANIFEST} is not that of its text`);
  const { layout, log, seq, base = 0, nextFile, runs } = JSON.parse(text) as ManifestJson;
  if (layout !== LAYOUT) return "other layout";
  return {
    log,
    seq,
    base,
    nextFile,
    runs: runs.map(({ after, ssts }) => ({
      after: after === null ? null : Buffer.from(after, "hex"),
      ssts: ssts.map(({ file, last, ...rest }) => ({
        ...rest,
        file: join(folder, file),
        last: Buffer.from(last, "hex"),
      })),
    })),
  };
}

function nameOf(folder: string, file: string): string {
  return file.slice(join(folder, "/").length);
}

/** The layout of a store; null: there is no manifest, or it cannot be read. */
export function runsLayoutOf(folder: string): number | null {
  try {
    return (JSON.parse(readFileSync(join(folder, MANIFEST), "utf8").split("\n")[0] as string) as ManifestJson).layout;
  } catch {
    return null;
  }
}
