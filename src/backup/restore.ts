import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import Sqlite from "better-sqlite3";
import { kindInArchive } from "../archive/archive.ts";
import { checkData } from "../data/entries.ts";
import { ARCHIVE_FOLDER, LOCK_FILE, LOG_FILE } from "../data/layout.ts";
import { copyContents, sha256Of, sync } from "../files/contents.ts";
import { checkEntries, type Kind } from "../files/entries.ts";
import { asOwner, foreignOwner, giveTo } from "../files/owner.ts";
import { logSchemaFindings } from "../sqlite/event_log.ts";
import { holdLock } from "../sqlite/lock.ts";
import { isKept } from "./contents.ts";
import { MANIFEST, type Manifest, readLogEnd, readManifest } from "./manifest.ts";
import { beginNewLife } from "./new_life.ts";

/** Told of the backup's bytes: each is read to be checked. */
export type Progress = (doneBytes: number, totalBytes: number) => void;

/**
 * Makes a data directory of a backup that is whole: of its files' SHA-256, and of a sound log that ends where the manifest
 * says. The log comes last, with its id, a new life and another name in its checkpoints: kernel maps, and those who keep
 * checkpoints, may follow the ledger that the backup is of, which may be ahead of this one. Throws an Error that says why not; `data` is as it was then.
 */
export async function restoreBackup(folder: string, data: string, progress: Progress): Promise<Manifest> {
  checkEntries(folder, kindInBackup);
  checkEntries(join(folder, ARCHIVE_FOLDER), kindInArchive, true);
  const manifest = readManifest(folder);
  await checkFiles(folder, manifest, progress);
  checkLog(folder, manifest);
  checkUnused(data);
  const existed = existsSync(data);
  mkdirSync(data, { recursive: true });
  const owner = foreignOwner(data);
  const unlock = asOwner(data, () => holdLock(join(data, LOCK_FILE), data));
  try {
    for (const { name } of inOrder(manifest)) {
      const file = join(data, name);
      asOwner(data, () => mkdirSync(dirname(file), { recursive: true }));
      copyContents(join(folder, name), `${file}.partial`);
      giveTo(owner, `${file}.partial`);
      if (name === LOG_FILE) asOwner(data, () => beginNewLife(data, `${file}.partial`));
      sync(`${file}.partial`);
      renameSync(`${file}.partial`, file);
      sync(dirname(file));
    }
    return manifest;
  } catch (error) {
    for (const { name } of manifest.files)
      for (const suffix of ["", ".partial", ".partial-journal", ".partial-wal", ".partial-shm", "-wal", "-shm"])
        rmSync(join(data, name + suffix), { force: true });
    if (!existed) rmSync(data, { recursive: true, force: true });
    throw error;
  } finally {
    unlock();
  }
}

function kindInBackup(name: string): Kind | null {
  if (name === ARCHIVE_FOLDER) return "directory";
  return name === MANIFEST || isKept(name) ? "file" : null;
}

function inOrder({ files }: Manifest): Manifest["files"] {
  return [...files.filter(({ name }) => name !== LOG_FILE), ...files.filter(({ name }) => name === LOG_FILE)];
}

async function checkFiles(folder: string, { files }: Manifest, progress: Progress): Promise<void> {
  const totalBytes = files.reduce((sum, { bytes }) => sum + bytes, 0);
  let doneBytes = 0;
  for (const { name, bytes, sha256 } of files) {
    const found = statSync(join(folder, name), { throwIfNoEntry: false })?.size;
    if (found !== bytes)
      throw new Error(
        `the backup is damaged: ${name} ${found === undefined ? "is missing" : `has ${found} of ${bytes} bytes`}`,
      );
    const digest = await sha256Of(join(folder, name), (read) => {
      doneBytes += read;
      progress(doneBytes, totalBytes);
    });
    if (digest !== sha256) throw new Error(`the backup is damaged: ${name} has another SHA-256 than its manifest says`);
  }
}

function checkLog(folder: string, { log, seq }: Manifest): void {
  const db = new Sqlite(join(folder, LOG_FILE), { readonly: true, fileMustExist: true });
  try {
    const verdict = db.pragma("integrity_check(1)", { simple: true });
    if (verdict !== "ok") throw new Error(`the backup is damaged: ${LOG_FILE}: ${verdict}`);
  } finally {
    db.close();
  }
  const [wrong] = logSchemaFindings(join(folder, LOG_FILE));
  if (wrong !== undefined) throw new Error(`the backup is not what mapledger makes: ${LOG_FILE}: ${wrong}`);
  const end = readLogEnd(join(folder, LOG_FILE));
  if (end.log !== log || end.seq !== seq)
    throw new Error(
      `the backup is damaged: its log is ${end.log} up to ${end.seq}, the manifest says ${log} up to ${seq}`,
    );
}

/** A lock that nobody holds any more may lie there. */
function checkUnused(data: string): void {
  if (!existsSync(data)) return;
  checkData(data);
  const entries = readdirSync(data);
  if (entries.includes(LOCK_FILE)) holdLock(join(data, LOCK_FILE), data)();
  const other = entries.find((name) => name !== LOCK_FILE);
  if (other !== undefined) throw new Error(`${data} is not empty: it has ${other}; name another directory`);
}
