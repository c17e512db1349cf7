/** The manifest of a backup: the log that it is of, the log's end, and all files with their SHA-256. */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import Sqlite from "better-sqlite3";
import { LOG_FILE } from "../data/layout.ts";
import { isKept } from "./contents.ts";

export const MANIFEST = "manifest.json";

export interface Manifest {
  readonly log: string;
  /** The last event in the backup, 0 if it has none; below its time in RFC 3339, or null. */
  readonly seq: number;
  readonly time: string | null;
  /** The version of mapledger that made the backup. */
  readonly version: string;
  /**
   * Whether the backup has the key that signs the log's checkpoints. If it does, everybody who can read the backup can
   * sign as the log.
   */
  readonly has_key: boolean;
  readonly files: readonly ManifestFile[];
}

export interface ManifestFile {
  readonly name: string;
  readonly bytes: number;
  /** As 64 hex digits. */
  readonly sha256: string;
}

const ID = "SELECT value FROM ledger WHERE name = 'id'";
const LAST = "SELECT seq, time_us FROM events ORDER BY seq DESC LIMIT 1";
const US = 1000;

/** The id of a log, with the seq and the time of its last event. */
export function readLogEnd(file: string): Pick<Manifest, "log" | "seq" | "time"> {
  const db = new Sqlite(file, { readonly: true, fileMustExist: true });
  try {
    const log = db.prepare(ID).pluck().get() as string;
    const last = db.prepare(LAST).get() as { seq: number; time_us: number } | undefined;
    return { log, seq: last?.seq ?? 0, time: last === undefined ? null : new Date(last.time_us / US).toISOString() };
  } finally {
    db.close();
  }
}

/** Throws an Error with the reason if the folder is not a backup. */
export function readManifest(folder: string): Manifest {
  let text: string;
  try {
    text = readFileSync(join(folder, MANIFEST), "utf8");
  } catch (error) {
    throw new Error(`${folder} is not a backup: reading its ${MANIFEST}: ${(error as Error).message}`);
  }
  const manifest = parse(text);
  if (!isManifest(manifest))
    throw new Error(`${folder} is not a backup: its ${MANIFEST} does not have the fields of a backup's manifest`);
  return manifest;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function isManifest(value: unknown): value is Manifest {
  const { log, seq, files } = (value ?? {}) as Partial<Manifest>;
  return (
    typeof log === "string" &&
    Number.isSafeInteger(seq) &&
    Array.isArray(files) &&
    files.every(isFile) &&
    files.some(({ name }) => name === LOG_FILE)
  );
}

function isFile(value: unknown): value is ManifestFile {
  const { name, bytes, sha256 } = (value ?? {}) as Partial<ManifestFile>;
  return typeof name === "string" && isKept(name) && Number.isSafeInteger(bytes) && typeof sha256 === "string";
}
