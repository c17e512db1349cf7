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

/** Pages that are copied before others have their turn. */
const STEP_PAGES = 1024;

/**
 * Makes a backup of a data directory that may be in use, beside `folder`, and gives it that name when it is complete and
 * on the disk. Throws an Error that says why there is none; nothing is left of it then.
 */
export async function makeBackup(data: string, folder: string, progress: Progress): Promise<Manifest> {
  checkData(data);
  if (!existsSync(join(data, LOG_FILE))) throw new Error(`${data} is no data directory: it has no ${LOG_FILE}`);
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
        throw new Error("the key that signs the log was replaced meanwhile: make the backup again");
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

/** Whether two files have the same bytes, or neither is there. */
function isSame(one: string, other: string): boolean {
  const [a, b] = [one, other].map((file) => (existsSync(file) ? readFileSync(file) : null));
  return a?.equals(b ?? Buffer.alloc(0)) ?? b === null;
}

/** Told of a database's pages. */
export type Progress = (donePages: number, totalPages: number) => void;

function checkEmpty(folder: string): void {
  if (existsSync(folder) && readdirSync(folder).length > 0) throw new Error(`${folder} is not empty`);
}

/** What stands beside a database while it is copied. */
const SPARE_BYTES = 1024 * 1024;

/** SQLite would call a full disk an I/O error here. */
function checkRoom(folder: string, bytes: number): void {
  const needed = bytes + SPARE_BYTES;
  const { bavail, bsize } = statfsSync(folder);
  const free = bavail * bsize;
  if (free < needed) throw new Error(`the disk is full: it has ${free} bytes left, the backup needs ${needed}`);
}

/**
 * Copies a database as of one moment, while others may write to it: the transaction holds that moment, without which
 * each write by another process would begin the copy anew. The copy is one file.
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
