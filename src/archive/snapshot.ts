/**
 * A snapshot: all cells of a state, as one zstd frame with a checksum. Its first line is the head as JSON; each other
 * line is a cell, `["key","value"]` in hex, in the order of keys.
 */

import { constants as limits } from "node:buffer";
import { createReadStream, createWriteStream } from "node:fs";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { constants, createZstdCompress, createZstdDecompress } from "node:zlib";
import { openPlain, sync } from "../files/contents.ts";
import type { Cell } from "../maps/cells.ts";

/** The log that the state is of, the last event that it includes, and the layout of its cells (LAYOUT of lmdb/store.ts). */
export interface SnapshotHead {
  readonly log: string;
  readonly seq: number;
  readonly layout: number;
}

const CHECKED = { params: { [constants.ZSTD_c_checksumFlag]: 1 } };
const CELLS_AT_ONCE = 1024;
/** The writer held a cell's line in one string, so no intact line is longer than this. */
const LINE_CHARACTERS_MAX = limits.MAX_STRING_LENGTH;

export async function writeSnapshot(file: string, head: SnapshotHead, cells: Iterable<Cell>): Promise<void> {
  await pipeline(Readable.from(snapshotText(head, cells)), createZstdCompress(CHECKED), createWriteStream(file));
  sync(file);
}

function* snapshotText(head: SnapshotHead, cells: Iterable<Cell>): Iterable<string> {
  let lines = `${JSON.stringify(head)}\n`;
  let count = 0;
  for (const [key, value] of cells) {
    lines += `["${Buffer.from(key, "latin1").toString("hex")}","${value.toString("hex")}"]\n`;
    if (++count % CELLS_AT_ONCE !== 0) continue;
    yield lines;
    lines = "";
  }
  yield lines;
}

export interface Snapshot {
  readonly head: SnapshotHead;
  /** All cells in the order of keys, in batches. */
  readonly cells: AsyncIterable<readonly Cell[]>;
}

/**
 * Opens a snapshot and reads its head. Throws an Error if the file is not a snapshot; iterating `cells` throws one if
 * they are damaged.
 */
export async function readSnapshot(file: string, lineCharactersMax = LINE_CHARACTERS_MAX): Promise<Snapshot> {
  const batches = readLines(file, lineCharactersMax);
  const [first = "", ...rest] = (await batches.next()).value ?? [];
  return { head: JSON.parse(first) as SnapshotHead, cells: readCells(rest, batches) };
}

async function* readCells(first: readonly string[], batches: AsyncIterable<readonly string[]>): Snapshot["cells"] {
  yield first.map(readCell);
  for await (const lines of batches) yield lines.map(readCell);
}

function readCell(line: string): Cell {
  const [key, value] = JSON.parse(line) as [string, string];
  return [Buffer.from(key, "hex").toString("latin1"), Buffer.from(value, "hex")];
}

/** Yields, for each piece of the text that completes a line, the lines that it completes. */
async function* readLines(file: string, lineCharactersMax: number): AsyncGenerator<readonly string[], undefined> {
  const source = createReadStream(file, { fd: openPlain(file) });
  const text = createZstdDecompress().setEncoding("latin1");
  source.on("error", (error) => text.destroy(error));
  let begun: string[] = [];
  let length = 0;
  for await (const piece of source.pipe(text) as AsyncIterable<string>) {
    const end = piece.lastIndexOf("\n");
    if (end === -1) {
      begun.push(piece);
      length += piece.length;
      if (length > lineCharactersMax)
        throw new Error(`${file} unpacks to a line of more than ${lineCharactersMax} characters`);
      continue;
    }
    yield (begun.join("") + piece.slice(0, end)).split("\n");
    begun = [piece.slice(end + 1)];
    length = begun[0]?.length ?? 0;
  }
}
