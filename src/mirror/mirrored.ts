import { BPF_MAP_TYPE, mapTypeName } from "../abi/bpf.ts";
import type { MapRecord } from "../maps/map.ts";

/** What the mirror must know of a map type. To mirror another type: its row. */
export interface MirroredType {
  /** Bytes of a position in BPF_MAP_LOOKUP_BATCH: a bucket's number, or a key. */
  readonly positionBytes: (map: MapRecord) => number;
  /** What the kernel shows where the state has no element: nothing, or zeros. */
  readonly absent: "nothing" | "zeros";
  /** Two keys mean the same element if and only if this is the same. */
  readonly identity: (key: Buffer) => string;
}

const BUCKET_BYTES = 4;

function allBytes(key: Buffer): string {
  return key.toString("latin1");
}

/** prefixlen and the bits that count: those behind it are kept as they were given, but do not tell keys apart. */
function prefix(key: Buffer): string {
  const bits = key.readUInt32LE(0);
  const whole = 4 + (bits >> 3);
  if ((bits & 7) === 0) return key.toString("latin1", 0, whole);
  const last = (key[whole] as number) & (0xff00 >> (bits & 7));
  return key.toString("latin1", 0, whole) + String.fromCharCode(last);
}

const MIRRORED = new Map<number, MirroredType>([
  [BPF_MAP_TYPE.BPF_MAP_TYPE_HASH, { positionBytes: () => BUCKET_BYTES, absent: "nothing", identity: allBytes }],
  [BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY, { positionBytes: (map) => map.keySize, absent: "zeros", identity: allBytes }],
  [BPF_MAP_TYPE.BPF_MAP_TYPE_LPM_TRIE, { positionBytes: (map) => map.keySize, absent: "nothing", identity: prefix }],
]);

/** How a map is mirrored, or why it is not. */
export function mirrored(map: MapRecord): MirroredType | string {
  const type = MIRRORED.get(map.type);
  if (type === undefined) return `${mapTypeName(map.type) ?? `map type ${map.type}`} is not mirrored`;
  if (map.exclusive) return "a map with excl_prog_hash is not mirrored: the hash of its program is not kept";
  return type;
}
