import { existsSync } from "node:fs";
import { join } from "node:path";
import { readSmall, writeWhole } from "../files/contents.ts";
import { type ArchiveFile, readName } from "./names.ts";

/** Which files an archive has, as `sha256sum -c` takes it. A file that is not listed is not the archive's. */
export const SUMS = "SHA256SUMS";
/** Of a log of 10^10 events. */
const BYTES_MAX = 64 * 1024 * 1024;
const LINE = /^([0-9a-f]{64}) [ *](.+)$/;

export type Summed = ArchiveFile & {
  /** In hex. */
  readonly sha256: string;
};

/** In the order of their seqs; none where the archive is not there. Throws an Error that names a line that is none. */
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

/** Durable when this returns. */
export function writeSums(folder: string, files: readonly Summed[]): void {
  writeWhole(join(folder, SUMS), files.map(({ sha256, name }) => `${sha256}  ${name}\n`).join(""));
}
