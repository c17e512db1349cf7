import { createHash } from "node:crypto";
import { closeSync, createReadStream, fsyncSync, openSync } from "node:fs";

/** Told of bytes that are done, of how many. */
export type Told = (doneBytes: number) => void;

/** A file's SHA-256 in hex; `told` hears of each chunk. */
export async function sha256Of(file: string, told: Told = () => {}): Promise<string> {
  const digest = createHash("sha256");
  for await (const chunk of createReadStream(file, { highWaterMark: CHUNK_BYTES })) {
    digest.update(chunk as Buffer);
    told((chunk as Buffer).length);
  }
  return digest.digest("hex");
}

const CHUNK_BYTES = 1024 * 1024;

/** Until a file, or what stands in a folder, has reached the disk. */
export function sync(path: string): void {
  const file = openSync(path, "r");
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}
