import { readFileSync } from "node:fs";
import { join } from "node:path";
import Sqlite from "better-sqlite3";
import { LOG_FILE } from "../data/layout.ts";
import { isKept } from "./contents.ts";

export const MANIFEST = "manifest.json";

/** What a backup holds, and of which log up to where. */
export interface Manifest {
  /** The log's id. */
  readonly log: string;
  /** The last event in the backup, and its time in RFC 3339; null where there is none. */
  readonly seq: number;
  readonly time: string | null;
  /** The mapledger that made it. */
  readonly version: string;
  /** Whether it holds the key that signs the log's checkpoints: who reads the backup can then sign as the log does. */
  readonly has_key: boolean;
  readonly files: readonly ManifestFile[];
}

export interface ManifestFile {
  readonly name: string;
  readonly bytes: number;
  /** In hex. */
  readonly sha256: string;
}

const ID = "SELECT value FROM ledger WHERE name = 'id'";
const LAST = "SELECT seq, time_us FROM events ORDER BY seq DESC LIMIT 1";
const US = 1000;

/** Which log a file is of, and where it ends. */
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

/** Throws an Error that says why a folder is no backup. */
export function readManifest(folder: string): Manifest {
  let text: string;
  try {
    text = readFileSync(join(folder, MANIFEST), "utf8");
  } catch (error) {
    throw new Error(`${folder} is no backup: reading its ${MANIFEST}: ${(error as Error).message}`);
  }
  const manifest = parse(text);
  if (!isManifest(manifest)) throw new Error(`${folder} is no backup: its ${MANIFEST} is not a backup's`);
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
