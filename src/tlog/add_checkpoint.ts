/** The request that a log sends to its witnesses: `add-checkpoint` of https://c2sp.org/tlog-witness. */

import { HASH_BYTES } from "./merkle.ts";
import { readBase64, readSize } from "./note.ts";

/**
 * The content type of a witness' 409, which refuses an `old` that is not the size that the witness cosigned last. The
 * body is that size.
 */
export const SIZE_TYPE = "text/x.tlog.size";
const HASHES_MAX = 63;

export interface AddCheckpoint {
  /** The size of the tree that the witness has cosigned last; 0 if it has cosigned none. */
  readonly old: number;
  /** RFC 6962's consistency proof from `old` to the checkpoint's size. */
  readonly proof: readonly Buffer[];
  /** The signed checkpoint, with its signature lines. */
  readonly note: string;
}

export function addCheckpointBody({ old, proof, note }: AddCheckpoint): string {
  return `${[`old ${old}`, ...proof.map((hash) => hash.toString("base64"))].join("\n")}\n\n${note}`;
}

/** Reads the body of an add-checkpoint request; null if the text is not one. */
export function readAddCheckpoint(text: string): AddCheckpoint | null {
  const end = text.indexOf("\n\n");
  if (end === -1) return null;
  const [first = "", ...lines] = text.slice(0, end).split("\n");
  const old = first.startsWith("old ") ? readSize(first.slice("old ".length)) : null;
  const proof = lines.length > HASHES_MAX ? [null] : lines.map(readBase64);
  if (old === null || !proof.every((hash) => hash !== null && hash.length === HASH_BYTES)) return null;
  return { old, proof: proof as Buffer[], note: text.slice(end + 2) };
}

/** Reads the tree size in the body of a witness' 409; null if the text is not one line with a size. */
export function readSizeBody(text: string): number | null {
  return text.endsWith("\n") ? readSize(text.slice(0, -1)) : null;
}
