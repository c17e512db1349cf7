import { createHash } from "node:crypto";
import {
  closeSync,
  createReadStream,
  fsyncSync,
  openSync,
  readSync,
  renameSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { dirname } from "node:path";

const CHUNK_BYTES = 1024 * 1024;

/** A file's SHA-256 in hex; `told` hears of the bytes of each chunk. */
export async function sha256Of(file: string, told: (bytes: number) => void = () => {}): Promise<string> {
  const digest = createHash("sha256");
  for await (const chunk of createReadStream(file, { highWaterMark: CHUNK_BYTES })) {
    digest.update(chunk as Buffer);
    told((chunk as Buffer).length);
  }
  return digest.digest("hex");
}

/** Copies a file to where none is: unlike copyFile(3), without the modes of the original. */
export function copyContents(from: string, to: string): void {
  const [source, copy] = [openSync(from, "r"), openSync(to, "wx")];
  try {
    const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
    for (let read = readSync(source, chunk); read > 0; read = readSync(source, chunk))
      for (let at = 0; at < read; ) at += writeSync(copy, chunk, at, read - at);
  } finally {
    closeSync(source);
    closeSync(copy);
  }
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
