import { existsSync } from "node:fs";
import { join } from "node:path";
import { readSmall, writeWhole } from "../files/contents.ts";
import { type ArchiveFile, readName } from "./names.ts";

/**
 * Lists the archive's files in the format of `sha256sum -c`. A file that it does not list is not part of the archive.
 */
export const SUMS = "SHA256SUMS";
/** Enough for the segments of 10^10 events. */
const BYTES_MAX = 64 * 1024 * 1024;
const LINE = /^([0-9a-f]{64}) [ *](.+)$/;

export type Summed = ArchiveFile & {
  /** As 64 hex digits. */
  readonly sha256: string;
};

/**
 * The listed files, ascending by `through`; empty if SHA256SUMS does not exist. Throws an Error with the line that it
 * cannot read.
 */
export function readSums(folder: string): Summed[] {
  const file = join(folder, SUMS);
  if (!existsSync(file)) return [];
  const lines = readSmall(file, BYTES_MAX)
    .toString()
    .split("\n")
    .filter((line) => line !== "");
  const files = lines.map((line) => {
    const [, sha256 = "", name = ""] = LINE.exec(line) ?? [];
    const named = readName(name);
    if (named === null) throw new Error(`${file} is damaged: it has the line ${JSON.stringify(line.slice(0, 120))}`);
    return { ...named, sha256 };
  });
  return files.sort((a, b) => a.through - b.through);
}

/** The file is durable when this returns. */
export function writeSums(folder: string, files: readonly Summed[]): void {
  writeWhole(join(folder, SUMS), files.map(({ sha256, name }) => `${sha256}  ${name}\n`).join(""));
}
