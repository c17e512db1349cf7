import { HASH_BYTES } from "./merkle.ts";
import { readBase64, readSize } from "./note.ts";

/** What a log sends to its witnesses: `add-checkpoint` of https://c2sp.org/tlog-witness. */

/** The content type of a tree's size, which a witness answers to one that begins elsewhere. */
export const SIZE_TYPE = "text/x.tlog.size";
const HASHES_MAX = 63;

export interface AddCheckpoint {
  /** The size from which the proof leads on. */
  readonly old: number;
  /** RFC 6962's consistency proof from there. */
  readonly proof: readonly Buffer[];
  /** The signed checkpoint. */
  readonly note: string;
}

export function addCheckpointBody({ old, proof, note }: AddCheckpoint): string {
  return `${[`old ${old}`, ...proof.map((hash) => hash.toString("base64"))].join("\n")}\n\n${note}`;
}

/** null: it is no such body. */
export function readAddCheckpoint(text: string): AddCheckpoint | null {
  const end = text.indexOf("\n\n");
  if (end === -1) return null;
  const [first = "", ...lines] = text.slice(0, end).split("\n");
  const old = first.startsWith("old ") ? readSize(first.slice("old ".length)) : null;
  const proof = lines.length > HASHES_MAX ? [null] : lines.map(readBase64);
  if (old === null || !proof.every((hash) => hash !== null && hash.length === HASH_BYTES)) return null;
  return { old, proof: proof as Buffer[], note: text.slice(end + 2) };
}

/** The size that a witness answers; null: the text is none. */
export function readSizeBody(text: string): number | null {
  return text.endsWith("\n") ? readSize(text.slice(0, -1)) : null;
}
