import { constants as limits } from "node:buffer";
import { hash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { constants, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import type { EventRow } from "../log/event.ts";
import { readEventLine } from "./event_line.ts";
import type { Summed } from "./sums.ts";

export type Segment = Extract<Summed, { is: "events" }>;

/** A segment was one string when it was written: what unpacks to more is none. */
const TEXT_BYTES_MAX = limits.MAX_STRING_LENGTH;

const CHECKED = { params: { [constants.ZSTD_c_checksumFlag]: 1 } };

/** A segment's bytes, of its lines end to end: one frame of zstd. */
export function segmentBytes(lines: string): Buffer {
  return zstdCompressSync(lines, CHECKED);
}

/** A segment's events, ascending. Throws an Error that names the file where anything of it is not as it was written. */
export function readSegment(
  folder: string,
  { name, first, through, sha256 }: Segment,
  textBytesMax = TEXT_BYTES_MAX,
): EventRow[] {
  const damaged = (why: string): Error => new Error(`the archive is damaged: ${join(folder, name)} ${why}`);
  let bytes: Buffer;
  try {
    bytes = readFileSync(join(folder, name));
  } catch (error) {
    throw damaged(`cannot be read: ${(error as Error).message}`);
  }
  if (hash("sha256", bytes) !== sha256) throw damaged("has another SHA-256 than it had");
  let rows: EventRow[];
  try {
    rows = zstdDecompressSync(bytes, { maxOutputLength: textBytesMax })
      .toString()
      .trimEnd()
      .split("\n")
      .map(readEventLine);
  } catch (error) {
    throw damaged(`cannot be read: ${(error as Error).message}`);
  }
  if (rows.length !== through - first + 1 || rows.some(({ seq }, at) => seq !== first + at))
    throw damaged(`has not the events ${first} to ${through}`);
  return rows;
}
