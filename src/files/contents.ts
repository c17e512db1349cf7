import { createHash, type KeyObject } from "node:crypto";
import {
  closeSync,
  constants,
  createReadStream,
  fstatSync,
  fsyncSync,
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

/** A link is not followed, and a FIFO does not hold up who opens it. */
export const AS_IT_IS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/** Opens a file in whose place somebody may have put another since it was looked at. Throws an Error where it is no plain file. */
export function openPlain(file: string): number {
  const fd = openSync(file, AS_IT_IS);
  if (fstatSync(fd).isFile()) return fd;
  closeSync(fd);
  throw new Error(`${file} is no plain file`);
}

/** A plain file's SHA-256 in hex; `told` hears of the bytes of each chunk. */
export async function sha256Of(file: string, told: (bytes: number) => void = () => {}): Promise<string> {
  const digest = createHash("sha256");
  for await (const chunk of createReadStream(file, { fd: openPlain(file), highWaterMark: CHUNK_BYTES })) {
    digest.update(chunk as Buffer);
    told((chunk as Buffer).length);
  }
  return digest.digest("hex");
}

/** Copies a file to where none is, for its owner alone, whatever the modes of the original are: it may be a key. */
export function copyContents(from: string, to: string): void {
  const source = openSync(from, "r");
  try {
    copyOpened(source, to);
  } finally {
    closeSync(source);
  }
}

/** The same of what is open, from where it is read. */
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
 * The bytes of a small file that somebody else has put where it is. Throws an Error where it is no regular file, nobody having been
 * waited for, or has more bytes than `most`.
 */
export function readSmall(file: string, most = SMALL_BYTES): Buffer {
  const fd = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) throw new Error(`${file} is no regular file`);
    if (stat.size > most) throw new Error(`${file} has ${stat.size} bytes: more than ${most}`);
    return readFileSync(fd);
  } finally {
    closeSync(fd);
  }
}

/**
 * Writes a private key, PKCS #8 in PEM, for its owner alone, in place of one that may be there: the file is whole or not there, and on
 * the disk when this returns.
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

/** Calls `then` whenever a file is another than before. It is polled, because mounts of secrets swap links, which no watch sees. */
export function whenReplaced(file: string, then: () => void): void {
  watchFile(file, { interval: POLL_MS, persistent: false }, (now: Stats, before: Stats) => {
    if (now.mtimeMs !== before.mtimeMs || now.ino !== before.ino || now.size !== before.size) then();
  });
}

/** Until a file, or what stands in a folder, has reached the disk. */
export function sync(path: string): void {
  const file = openSync(path, "r");
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

/** Writes a small file, whole or not at all; durable when this returns. */
export function writeWhole(file: string, text: string): void {
  writeFileSync(`${file}.partial`, text, { flush: true });
  renameSync(`${file}.partial`, file);
  sync(dirname(file));
}
