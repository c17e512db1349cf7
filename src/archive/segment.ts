/**
 * A segment of an archive: consecutive events, one line each (event_line.ts), as a single zstd frame with a checksum.
 * SHA256SUMS has the SHA-256 of the file.
 */

import { constants as limits } from "node:buffer";
import { createHash, hash } from "node:crypto";
import { readFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { constants, createZstdDecompress, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { AS_IT_IS } from "../files/contents.ts";
import type { EventRow } from "../log/event.ts";
import { readEventLine } from "./event_line.ts";
import type { Summed } from "./sums.ts";

export type Segment = Extract<Summed, { is: "events" }>;

/** The writer held a segment's text in one string, so no intact segment unpacks to more than this. */
const TEXT_BYTES_MAX = limits.MAX_STRING_LENGTH;

const CHECKED = { params: { [constants.ZSTD_c_checksumFlag]: 1 } };

/** Compresses the lines of a segment, which are joined without separators. */
export function segmentBytes(lines: string): Buffer {
  return zstdCompressSync(lines, CHECKED);
}

/**
 * A segment's events, ascending. Throws an Error that names the file if its SHA-256, its lines or its seqs are not
 * those of `segment`.
 */
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
  if (hash("sha256", bytes) !== sha256) throw damaged("does not match its recorded SHA-256");
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
    throw damaged(`does not have exactly the events ${first} to ${through}`);
  return rows;
}

const READ_BYTES = 256 * 1024;

/**
 * Yields a segment's events in batches, for a caller that cannot hold all of them. The SHA-256 is known only after the
 * last batch, so the caller must not use an event before the iterator has ended without an Error.
 */
export async function* segmentRows(
  folder: string,
  { name, first, through, sha256 }: Segment,
  textBytesMax = TEXT_BYTES_MAX,
): AsyncGenerator<readonly EventRow[], undefined> {
  const file = join(folder, name);
  const digest = createHash("sha256");
  let seq = first - 1;
  try {
    await using handle = await open(file, AS_IT_IS);
    if (!(await handle.stat()).isFile()) throw new Error("it is not a regular file");
    const text = createZstdDecompress();
    const packed = handle.createReadStream({ highWaterMark: READ_BYTES, autoClose: false });
    const unpacking = pipeline(packed, hashed(digest), text);
    // Without a handler node would report an unhandled rejection; the loop below fails with the same error.
    unpacking.catch(() => {});
    for await (const lines of linesOf(text.setEncoding("utf8"), textBytesMax)) {
      const rows = lines.map(readEventLine);
      for (const row of rows)
        if (row.seq !== ++seq) throw new Error(`it has event ${row.seq} in place of event ${seq}`);
      if (rows.length > 0) yield rows;
    }
    await unpacking;
    if (seq !== through) throw new Error(`it ends at event ${seq}`);
    if (digest.digest("hex") !== sha256) throw new Error("it does not match its recorded SHA-256");
  } catch (error) {
    throw new Error(`the archive is damaged: ${file} cannot be read: ${(error as Error).message}`, { cause: error });
  }
}

function hashed(digest: ReturnType<typeof createHash>) {
  return async function* (pieces: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const piece of pieces) {
      digest.update(piece);
      yield piece;
    }
  };
}

/** Yields the lines that each piece of a text completes. */
async function* linesOf(pieces: AsyncIterable<string>, charactersMax: number): AsyncGenerator<readonly string[]> {
  let begun: string[] = [];
  let characters = 0;
  for await (const piece of pieces) {
    characters += piece.length;
    if (characters > charactersMax) throw new Error(`it unpacks to more than ${charactersMax} characters`);
    const end = piece.lastIndexOf("\n");
    if (end === -1) {
      begun.push(piece);
      continue;
    }
    yield (begun.join("") + piece.slice(0, end)).split("\n");
    begun = [piece.slice(end + 1)];
  }
  if (begun.some((piece) => piece !== "")) throw new Error("its last line is incomplete");
}
