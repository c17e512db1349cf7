import { BPF_MAP_TYPE } from "../abi/bpf.ts";
import { array } from "./array.ts";
import { hash } from "./hash.ts";
import { lpmTrie } from "./lpm_trie.ts";
import type { MapType } from "./map.ts";

/** Every map type that is served. */
const MAP_TYPES = new Map<number, MapType>([
  [BPF_MAP_TYPE.BPF_MAP_TYPE_HASH, hash],
  [BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY, array],
  [BPF_MAP_TYPE.BPF_MAP_TYPE_LPM_TRIE, lpmTrie],
]);

/** The row of a map type's number, or undefined where it is not served. */
export function mapType(number: number): MapType | undefined {
  return MAP_TYPES.get(number);
}
