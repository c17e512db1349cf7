/**
 * Makes a backup of a data directory, also while a service uses it. A backup has the files that cannot be derived
 * (contents.ts). The log is copied inside one read transaction, so that it is as of one moment while commands go on.
 */

import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import Sqlite from "better-sqlite3";
import { checkData } from "../data/entries.ts";
import { KEY_FILE, LOG_FILE, NEXT_KEY_FILE } from "../data/layout.ts";
import { copyContents, sha256Of, sync } from "../files/contents.ts";
import { VERSION } from "../version.ts";
import { keptFiles } from "./contents.ts";
import { MANIFEST, type Manifest, type ManifestFile, readLogEnd } from "./manifest.ts";

const BYTES = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";

/** Database pages that one step copies before the event loop runs again. */
const STEP_PAGES = 1024;

/**
 * Copies a data directory, which may be in use, into a folder beside `folder`; renames it to `folder` once it is
 * complete and durable. Throws an Error with the reason if it fails, and removes the partial copy.
 */
export async function makeBackup(data: string, folder: string, progress: Progress): Promise<Manifest> {
  checkData(data);
  if (!existsSync(join(data, LOG_FILE))) throw new Error(`${data} is not a data directory: it has no ${LOG_FILE}`);
  const target = resolve(folder);
  checkEmpty(target);
  mkdirSync(dirname(target), { recursive: true });
  const partial = mkdtempSync(join(dirname(target), `${basename(target)}.partial-`));
  try {
    const files: ManifestFile[] = [];
    for (const { name, is } of keptFiles(data)) {
      const copy = join(partial, name);
      if (existsSync(copy)) continue;
      mkdirSync(dirname(copy), { recursive: true });
      if (is === "file") copyContents(join(data, name), copy);
      else await copyDatabase(join(data, name), copy, progress);
      sync(copy);
      sync(dirname(copy));
      files.push({ name, bytes: statSync(copy).size, sha256: await sha256Of(copy) });
    }
    for (const name of [KEY_FILE, NEXT_KEY_FILE])
      if (!isSame(join(data, name), join(partial, name)))
        throw new Error("the key that signs the log was replaced while the backup was made: make the backup again");
    const manifest: Manifest = {
      ...readLogEnd(join(partial, LOG_FILE)),
      version: VERSION,
      has_key: files.some(({ name }) => name === KEY_FILE),
      files,
    };
    writeFileSync(join(partial, MANIFEST), `${JSON.stringify(manifest, null, 2)}\n`, { flush: true });
    sync(partial);
    renameSync(partial, target);
    sync(dirname(target));
    return manifest;
  } catch (error) {
    rmSync(partial, { recursive: true, force: true });
    throw error;
  }
}

/** Whether two files have the same bytes, or both do not exist. */
function isSame(one: string, other: string): boolean {
  const [a, b] = [one, other].map((file) => (existsSync(file) ? readFileSync(file) : null));
  return a?.equals(b ?? Buffer.alloc(0)) ?? b === null;
}

/** Called with the pages of the database that is being copied. */
export type Progress = (donePages: number, totalPages: number) => void;

function checkEmpty(folder: string): void {
  if (existsSync(folder) && readdirSync(folder).length > 0) throw new Error(`${folder} is not empty`);
}

/** Room for the manifest and the smaller files that are copied after a database. */
const SPARE_BYTES = 1024 * 1024;

/** Checks for room first, because SQLite reports a full disk as an I/O error here. */
function checkRoom(folder: string, bytes: number): void {
  const needed = bytes + SPARE_BYTES;
  const { bavail, bsize } = statfsSync(folder);
  const free = bavail * bsize;
  if (free < needed) throw new Error(`the disk is full: it has ${free} bytes left, the backup needs ${needed}`);
}

/**
 * Copies a database as of one moment while other processes write to it. The read transaction pins that moment; without
 * it, each write by another process would restart the copy. The copy needs no -wal file: its journal mode is DELETE.
 */
async function copyDatabase(from: string, to: string, progress: Progress): Promise<void> {
  const db = new Sqlite(from, { readonly: true, fileMustExist: true });
  try {
    db.exec("BEGIN");
    checkRoom(dirname(to), db.prepare(BYTES).pluck().get() as number);
    await db.backup(to, {
      progress({ totalPages, remainingPages }) {
        progress(totalPages - remainingPages, totalPages);
        return STEP_PAGES;
      },
    });
  } finally {
    db.close();
  }
  const copy = new Sqlite(to);
  copy.pragma("journal_mode = DELETE");
  copy.close();
}
