import { readSmall } from "../files/contents.ts";
import { readWitnessKey, type WitnessKey } from "../tlog/cosignature.ts";

/** More signatures than these would make notes that others refuse. */
const KEYS_MAX = 32;

/** A witness to send checkpoints to: where, and by which keys its cosignatures are known. */
export interface WitnessAt {
  readonly url: URL;
  readonly keys: readonly WitnessKey[];
}

/**
 * Reads MAPLEDGER_WITNESSES: a verifier key and a URL a line, # begins a comment. Keys of one URL are those of one witness. Throws an
 * Error that names the line.
 */
export function readWitnesses(file: string): readonly WitnessAt[] {
  if (file === "") return [];
  const found = new Map<string, WitnessKey[]>();
  const seen = new Set<string>();
  readSmall(file)
    .toString()
    .split("\n")
    .forEach((line, at) => {
      const words = line.replace(/(^|\s)#.*/, "").trim();
      if (words === "") return;
      const fail = (why: string): never => {
        throw new Error(`reading ${file}: line ${at + 1} ${why}`);
      };
      const [vkey = "", url = "", ...rest] = words.split(/\s+/);
      const key = readWitnessKey(vkey) ?? fail("has no verifier key of a witness (signature type 0x04 or 0x06)");
      const prefix = prefixOf(url) ?? fail("has no URL of http or https behind the key");
      if (rest.length > 0) fail("has more than a key and a URL");
      if (seen.has(vkey)) fail("has a key that a line before has");
      if (seen.add(vkey).size > KEYS_MAX) fail(`is one too many: there may be ${KEYS_MAX}`);
      found.set(prefix, [...(found.get(prefix) ?? []), key]);
    });
  return Array.from(found, ([url, keys]) => ({ url: new URL(url), keys }));
}

/** A URL as it is written; null: it is none to send checkpoints to. */
function prefixOf(text: string): string | null {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !/^https?:$/.test(url.protocol) || url.search !== "" || url.hash !== "") return null;
  return url.username === "" && url.password === "" ? url.href.replace(/\/+$/, "") : null;
}
