import { readSmall } from "../files/contents.ts";
import { readWitnessKey, type WitnessKey } from "../tlog/cosignature.ts";

/** A note with more signatures may be refused by others. */
const KEYS_MAX = 32;

/** The URL of a witness, and the keys of its cosignatures. */
export interface WitnessAt {
  readonly url: URL;
  readonly keys: readonly WitnessKey[];
}

/**
 * Reads MAPLEDGER_WITNESSES: each line has a verifier key and a URL; # begins a comment. Keys with the same URL belong
 * to one witness. Throws an Error that names the line if it is invalid.
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
      const prefix = prefixOf(url) ?? fail("has no http or https URL after the key");
      if (rest.length > 0) fail("has more than a key and a URL");
      if (seen.has(vkey)) fail("has a key that an earlier line has");
      if (seen.add(vkey).size > KEYS_MAX) fail(`is one too many: at most ${KEYS_MAX} keys are allowed`);
      found.set(prefix, [...(found.get(prefix) ?? []), key]);
    });
  return Array.from(found, ([url, keys]) => ({ url: new URL(url), keys }));
}

/** Normalizes a URL of a witness: no credentials, no query, no trailing slash. Returns null if it cannot be one. */
function prefixOf(text: string): string | null {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !/^https?:$/.test(url.protocol) || url.search !== "" || url.hash !== "") return null;
  return url.username === "" && url.password === "" ? url.href.replace(/\/+$/, "") : null;
}
