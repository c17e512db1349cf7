/** Restores a backup into an unused data directory, completely or not at all. */

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

/** Called with the bytes of the backup's files that have been read and checked. */
export type Progress = (doneBytes: number, totalBytes: number) => void;

/**
 * Makes a data directory from an intact backup: each file has its SHA-256, and the log is a sound database that ends
 * with the event that the manifest names. The log takes its place last, because it makes the directory usable. It keeps
 * its id, and gets a new life and a new name in its checkpoints: the ledger that was backed up may have gone on, and
 * kernel maps and keepers of checkpoints may follow it. Throws an Error with the reason if it fails, and leaves `data`
 * as it was.
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
    if (digest !== sha256) throw new Error(`the backup is damaged: the SHA-256 of ${name} differs from the manifest's`);
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
  if (wrong !== undefined)
    throw new Error(`the backup's log does not have the schema of mapledger: ${LOG_FILE}: ${wrong}`);
  const end = readLogEnd(join(folder, LOG_FILE));
  if (end.log !== log || end.seq !== seq)
    throw new Error(
      `the backup is damaged: it has log ${end.log} up to event ${end.seq}, its manifest names log ${log} up to event ${seq}`,
    );
}

/** Throws unless the directory is empty but for a lock that no process holds. */
function checkUnused(data: string): void {
  if (!existsSync(data)) return;
  checkData(data);
  const entries = readdirSync(data);
  if (entries.includes(LOCK_FILE)) holdLock(join(data, LOCK_FILE), data)();
  const other = entries.find((name) => name !== LOCK_FILE);
  if (other !== undefined) throw new Error(`${data} is not empty: it has ${other}; name another directory`);
}
