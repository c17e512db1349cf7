import type { Attr, Pair } from "./pair.ts";
import type { StreamType } from "./shapes.ts";
import type { Key, Room, Value } from "./stream.ts";
import type { Twin } from "./twins.ts";

/** What the steps of a stream mean for the maps that there are, as fields of requests. */

/** A shape for keys and values where no map is named. */
const NO_MAP: Pick<Twin, "type" | "keySize" | "valueBytes" | "maxEntries"> = {
  type: "HASH",
  keySize: 4,
  valueBytes: 8,
  maxEntries: 4,
};
const SLOT_BYTES = 8;
const NO_SUCH_ID = 0x7ffffff0;
const LOOPBACK = 1;
const NO_INTERFACE = 77_777;

export function sizes(twin: Twin | null): Pick<Twin, "type" | "keySize" | "valueBytes" | "maxEntries"> {
  return twin ?? NO_MAP;
}

export function idsOf(twin: Twin | undefined): Pair<number> {
  return twin?.ids ?? [NO_SUCH_ID, NO_SUCH_ID];
}

export function countOf(count: number, twin: Twin | null): number {
  return count >= 0 ? count : Math.min(sizes(twin).maxEntries, 100) - count - 1;
}

/** A key for the map, in hex: a number, a prefix, or a descriptor. */
export function keyFor(
  { number, bits, data, pointer }: Pick<Key, "number" | "bits" | "data" | "pointer">,
  twin: Twin | null,
  named: bigint | null,
): string | null {
  const { type, keySize } = sizes(twin);
  // A map without keys takes the null pointer.
  if (keySize === 0) return pointer === "ok" ? null : pointed(Buffer.alloc(1), pointer);
  const key = Buffer.alloc(keySize);
  if (named !== null) key.writeUInt32LE(Number(BigInt.asUintN(32, named)));
  else if (type === "LPM_TRIE") {
    key.writeUInt32LE(bits > 48 || bits <= (keySize - 4) * 8 + 1 ? bits : bits % ((keySize - 4) * 8 + 1), 0);
    for (let at = 4; at < keySize; at++) key[at] = data[(at - 4) % data.length] as number;
  } else
    key.write(u32Hex(INDEXED.has(type) ? near(number, sizes(twin).maxEntries) : number).slice(0, keySize * 2), "hex");
  return pointed(key, pointer);
}

/** A value for the map, in hex. */
export function valueFor(
  { byte, pointer }: Pick<Value, "byte" | "pointer">,
  twin: Twin | null,
  named: bigint,
): string | null {
  return pointed((WRITERS[sizes(twin).type] ?? fill)(Buffer.alloc(sizes(twin).valueBytes), byte, named), pointer);
}

/** Small numbers as indices that are there, and the first that is not. */
function near(number: number, maxEntries: number): number {
  return number > 100 ? number : number % (maxEntries + 1);
}

const INDEXED: ReadonlySet<StreamType> = new Set([
  "ARRAY",
  "PERCPU_ARRAY",
  "ARRAY_OF_MAPS",
  "DEVMAP",
  "CPUMAP",
  "PROG_ARRAY",
  "PERF_EVENT_ARRAY",
  "CGROUP_ARRAY",
  "SOCKMAP",
  "XSKMAP",
  "REUSEPORT_SOCKARRAY",
]);

type Writer = (value: Buffer, byte: number, named: bigint) => Buffer;

const fill: Writer = (value, byte) => value.fill(byte);

const slots: Writer = (value, byte) => {
  for (let at = 0; at < value.length; at += SLOT_BYTES) value.fill((byte + at) & 255, at, at + SLOT_BYTES);
  return value;
};

const descriptor: Writer = (value, _byte, named) => {
  if (value.length === 8) value.writeBigUInt64LE(BigInt.asUintN(64, named));
  else value.writeUInt32LE(Number(BigInt.asUintN(32, named)));
  return value;
};

/** A number, and behind it, where there is room, a program: none, one less than none, or a descriptor. */
function target(numbers: readonly [number, ...number[]]): Writer {
  return (value, byte, named) => {
    value.writeUInt32LE(numbers[byte % numbers.length] as number, 0);
    if (value.length === 8) value.writeInt32LE([0, -1, Number(BigInt.asIntN(32, named))][(byte >> 3) % 3] as number, 4);
    return value;
  };
}

const interfaces = target([LOOPBACK, LOOPBACK, LOOPBACK, 0, NO_INTERFACE]);

const WRITERS: Partial<Record<StreamType, Writer>> = {
  PERCPU_HASH: slots,
  PERCPU_ARRAY: slots,
  LRU_PERCPU_HASH: slots,
  PERCPU_CGROUP_STORAGE: slots,
  ARRAY_OF_MAPS: descriptor,
  HASH_OF_MAPS: descriptor,
  PROG_ARRAY: descriptor,
  PERF_EVENT_ARRAY: descriptor,
  CGROUP_ARRAY: descriptor,
  SOCKMAP: descriptor,
  SOCKHASH: descriptor,
  XSKMAP: descriptor,
  REUSEPORT_SOCKARRAY: descriptor,
  DEVMAP: interfaces,
  DEVMAP_HASH: interfaces,
  CPUMAP: target([192, 1, 0, 16_384, 16_385]),
};

function pointed(bytes: Buffer, pointer: Key["pointer"]): string | null {
  switch (pointer) {
    case "ok":
      return bytes.toString("hex");
    case "null":
      return null;
    case "short":
      return bytes.toString("hex", 0, Math.max(bytes.length - 1, 0));
    case "long":
      return `${bytes.toString("hex")}ee`;
    case "bad":
      return "";
  }
}

export function roomFor(field: string, room: Room, size: number): Attr {
  switch (room) {
    case "fits":
      return {};
    case "none":
      return { [field]: "" };
    case "short":
      return { [field]: "00".repeat(Math.max(size - 1, 0)) };
    case "long":
      return { [field]: "00".repeat(size + 3) };
  }
}

export function u32Hex(number: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(number >>> 0);
  return bytes.toString("hex");
}
