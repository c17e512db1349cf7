import { closeSync, openSync, readSync } from "node:fs";

/** https://www.sqlite.org/fileformat.html: what the file begins with, and where page 1 has `user_version`. */
const MAGIC = Buffer.from("SQLite format 3\0");
const VERSION_AT = 60;
const PAGE_HEAD_BYTES = 100;
/** The same, 4: the -wal file. */
const WAL_HEAD_BYTES = 32;
const WAL_MAGIC = 0x377f0682;
const PAGE_SIZE_AT = 8;
const WAL_SALTS_AT = 16;
const FRAME_HEAD_BYTES = 24;
const COMMIT_AT = 4;
const FRAME_SALTS_AT = 8;
const SALTS_BYTES = 8;

/**
 * By how many migrations a database was made, of which it and its -wal file tell, by their bytes alone: SQLite would make files beside
 * it even to read it. 0: it has no tables yet; null: there is no such file, or it is no database. Not for a file that this process has
 * open: to close it here would end SQLite's locks on it (fcntl(2)).
 */
export function schemaVersion(file: string): number | null {
  const head = headOf(file);
  if (head === null || (head.length > 0 && !head.subarray(0, MAGIC.length).equals(MAGIC))) return null;
  return versionInWal(`${file}-wal`) ?? (head.length < PAGE_HEAD_BYTES ? 0 : head.readInt32BE(VERSION_AT));
}

function headOf(file: string): Buffer | null {
  return reading(file, (read) => read(0, PAGE_HEAD_BYTES));
}

/** As the last transaction that changed page 1 left it; null: none there did. Frames of an earlier use of the file have other salts. */
function versionInWal(file: string): number | null {
  return reading(file, (read) => {
    const head = read(0, WAL_HEAD_BYTES);
    // The lowest bit is the byte order of its checksums.
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
      // As SQLite has it: there is no page 0, also in what was only made room for.
      const page = frame.readUInt32BE(0);
      if (page === 0) return committed;
      if (page === 1) written = frame.readInt32BE(FRAME_HEAD_BYTES + VERSION_AT);
      if (frame.readUInt32BE(COMMIT_AT) !== 0) committed = written;
    }
  });
}

/** Reads up to so many bytes from a place on. */
type Read = (at: number, bytes: number) => Buffer;

/** null: there is no such file. */
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
