/** Reads, writes and copies files whose directory others may write to, and makes them durable. */

import { createHash, type KeyObject } from "node:crypto";
import {
  closeSync,
  constants,
  createReadStream,
  fstatSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  type Stats,
  watchFile,
  writeFileSync,
  writeSync,
} from "node:fs";
import { dirname } from "node:path";

const CHUNK_BYTES = 1024 * 1024;
const PRIVATE_MODE = 0o600;
const POLL_MS = 1000;
const SMALL_BYTES = 1024 * 1024;

/**
 * Open flags for a file that somebody else may have put there: a symbolic link is refused, and a FIFO does not block
 * the open.
 */
export const AS_IT_IS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/** Opens a file that may have been replaced since it was checked. Throws an Error if it is not a regular file. */
export function openPlain(file: string): number {
  const fd = openSync(file, AS_IT_IS);
  if (fstatSync(fd).isFile()) return fd;
  closeSync(fd);
  throw new Error(`${file} is not a regular file`);
}

/** The SHA-256 of a regular file, in hex. `told` gets the number of bytes of each chunk that was read. */
export async function sha256Of(file: string, told: (bytes: number) => void = () => {}): Promise<string> {
  const digest = createHash("sha256");
  for await (const chunk of createReadStream(file, { fd: openPlain(file), highWaterMark: CHUNK_BYTES })) {
    digest.update(chunk as Buffer);
    told((chunk as Buffer).length);
  }
  return digest.digest("hex");
}

/**
 * Copies a file to a new path with mode 0600, whatever the original's mode: it may be a private key. Throws if the path
 * exists.
 */
export function copyContents(from: string, to: string): void {
  const source = openSync(from, "r");
  try {
    copyOpened(source, to);
  } finally {
    closeSync(source);
  }
}

/** Copies the rest of an open file, from its current offset on, to a new path with mode 0600. */
export function copyOpened(source: number, to: string): void {
  const copy = openSync(to, "wx", PRIVATE_MODE);
  try {
    const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
    for (let read = readSync(source, chunk); read > 0; read = readSync(source, chunk))
      for (let at = 0; at < read; ) at += writeSync(copy, chunk, at, read - at);
  } finally {
    closeSync(copy);
  }
}

/**
 * Reads a small file that somebody else has put there. Throws an Error if it is not a regular file or has more than
 * `most` bytes. A FIFO does not block the call.
 */
export function readSmall(file: string, most = SMALL_BYTES): Buffer {
  const fd = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) throw new Error(`${file} is not a regular file`);
    if (stat.size > most) throw new Error(`${file} has ${stat.size} bytes: more than ${most}`);
    return readFileSync(fd);
  } finally {
    closeSync(fd);
  }
}

/**
 * Writes a private key (PKCS #8, PEM, mode 0600) in place of the file that may be there. The file is complete or absent
 * at every moment, and on the disk when this returns.
 */
export function writeKey(file: string, key: KeyObject): void {
  const unfinished = `${file}.new`;
  rmSync(unfinished, { force: true });
  writeFileSync(unfinished, key.export({ type: "pkcs8", format: "pem" }), {
    mode: PRIVATE_MODE,
    flag: "wx",
    flush: true,
  });
  renameSync(unfinished, file);
  sync(dirname(file));
}

/**
 * Calls `then` whenever the file's content or inode has changed. The file is polled: mounted secrets are replaced by
 * swapping symbolic links, which file watchers do not see.
 */
export function whenReplaced(file: string, then: () => void): void {
  watchFile(file, { interval: POLL_MS, persistent: false }, (now: Stats, before: Stats) => {
    if (now.mtimeMs !== before.mtimeMs || now.ino !== before.ino || now.size !== before.size) then();
  });
}

/** Waits until a file, or the entries of a directory, are on the disk: fsync(2). */
export function sync(path: string): void {
  const file = openSync(path, "r");
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

/** Removes a folder with all that it has, and makes an empty one. */
export function emptyFolder(folder: string): void {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
}

/**
 * Writes a small file that is complete or absent at every moment; if `isSynced`, it is on the disk when this returns.
 */
export function writeWhole(file: string, text: string, isSynced = true): void {
  writeFileSync(`${file}.partial`, text, { flush: isSynced });
  renameSync(`${file}.partial`, file);
  if (isSynced) sync(dirname(file));
}
