/**
 * Reads a database's user_version from the bytes of its files, without SQLite, which would make files beside the
 * database even to read it.
 */

import { closeSync, openSync, readSync } from "node:fs";

/** https://www.sqlite.org/fileformat.html: the first bytes of the file, and the offset of `user_version` in page 1. */
const MAGIC = Buffer.from("SQLite format 3\0");
const VERSION_AT = 60;
const PAGE_HEAD_BYTES = 100;
/** Section 4 of the same document: the -wal file. */
const WAL_HEAD_BYTES = 32;
const WAL_MAGIC = 0x377f0682;
const PAGE_SIZE_AT = 8;
const WAL_SALTS_AT = 16;
const FRAME_HEAD_BYTES = 24;
const COMMIT_AT = 4;
const FRAME_SALTS_AT = 8;
const SALTS_BYTES = 8;

/**
 * The number of migrations that a database has. 0: it has no tables yet; null: the file does not exist or is not a
 * database. Must not be called for a file that this process has open: closing it here would release SQLite's locks on
 * it (fcntl(2)).
 */
export function schemaVersion(file: string): number | null {
  const head = headOf(file);
  if (head === null || (head.length > 0 && !head.subarray(0, MAGIC.length).equals(MAGIC))) return null;
  return versionInWal(`${file}-wal`) ?? (head.length < PAGE_HEAD_BYTES ? 0 : head.readInt32BE(VERSION_AT));
}

function headOf(file: string): Buffer | null {
  return reading(file, (read) => read(0, PAGE_HEAD_BYTES));
}

/**
 * The version in the last committed frame of page 1 in a -wal file; null if there is none. Frames left from an earlier
 * use of the file have other salts, and end the search.
 */
function versionInWal(file: string): number | null {
  return reading(file, (read) => {
    const head = read(0, WAL_HEAD_BYTES);
    // The lowest bit is the byte order of the checksums.
    if (head.length < WAL_HEAD_BYTES || (head.readUInt32BE(0) & ~1) !== WAL_MAGIC) return null;
    const pageBytes = head.readUInt32BE(PAGE_SIZE_AT);
    if (pageBytes < PAGE_HEAD_BYTES) return null;
    const salts = head.subarray(WAL_SALTS_AT, WAL_SALTS_AT + SALTS_BYTES);
    const frameBytes = FRAME_HEAD_BYTES + pageBytes;
    let committed: number | null = null;
    let written: number | null = null;
    for (let at = WAL_HEAD_BYTES; ; at += frameBytes) {
      const frame = read(at, FRAME_HEAD_BYTES + PAGE_HEAD_BYTES);
      if (frame.length < FRAME_HEAD_BYTES + PAGE_HEAD_BYTES) return committed;
      if (!frame.subarray(FRAME_SALTS_AT, FRAME_SALTS_AT + SALTS_BYTES).equals(salts)) return committed;
      // SQLite has no page 0; preallocated room consists of zeros.
      const page = frame.readUInt32BE(0);
      if (page === 0) return committed;
      if (page === 1) written = frame.readInt32BE(FRAME_HEAD_BYTES + VERSION_AT);
      if (frame.readUInt32BE(COMMIT_AT) !== 0) committed = written;
    }
  });
}

/** Reads up to `bytes` bytes from offset `at`. */
type Read = (at: number, bytes: number) => Buffer;

/** Returns null if the file does not exist. */
function reading<Answer>(file: string, use: (read: Read) => Answer): Answer | null {
  let fd: number;
  try {
    fd = openSync(file, "r");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
  try {
    return use((at, bytes) => {
      const buffer = Buffer.alloc(bytes);
      return buffer.subarray(0, readSync(fd, buffer, 0, bytes, at));
    });
  } finally {
    closeSync(fd);
  }
}
