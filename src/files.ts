import { createHash } from "node:crypto";
import { closeSync, createReadStream, fsyncSync, openSync, renameSync, writeFileSync } from "node:fs";
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
