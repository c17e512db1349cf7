import { createHash } from "node:crypto";

/** So many maps are exceptions in turn: there is no room for all of them at first. */
export const MAPS = 3000;

/** What stands for the hash of an event in tests of the progress map. */
export function hashOfSeq(seq: number): Buffer {
  return createHash("sha256").update(String(seq)).digest();
}
