import { BPF_F, BPF_MAP_TYPE } from "../../src/abi/bpf.ts";
import type { Key, Room, Shape, StreamType, Value } from "./stream.ts";

/** What the steps of a stream mean for the maps that there are, as fields of requests. */

export type Pair<T> = readonly [service: T, kernel: T];
export type Attr = Record<string, unknown>;

/** A map that both have. */
export interface Twin {
  readonly type: StreamType;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly ids: Pair<number>;
  /** Where the last batch ended, which means something to the one who said so only. */
  positions: Pair<string> | null;
}

/** A shape for keys and values where no map is named. */
const NO_MAP = { type: "HASH", keySize: 4, valueSize: 8, maxEntries: 4 } as const;
const NO_SUCH_ID = 0x7ffffff0;

/** What a step's shape asks for: what it leaves open is such that the type takes it. */
export function createAttr({ type, keySize, valueSize, maxEntries, seed, flags, more }: Shape): Attr {
  const usual = {
    HASH: {
      key: [4, 4, 4, 1, 8, 3][seed % 6],
      flags: [0, 1, 64][seed % 3],
      entries: [1, 2, 3, 6, 9, 16, 30, 40][seed % 8],
    },
    ARRAY: { key: 4, flags: [0, 0, 0, BPF_F.BPF_F_MMAPABLE][seed % 4], entries: 1 + (seed % 6) },
    LPM_TRIE: { key: [8, 8, 5, 6][seed % 4], flags: BPF_F.BPF_F_NO_PREALLOC, entries: 2 + (seed % 11) },
  };
  const its = usual[type as StreamType] ?? usual.HASH;
  return {
    map_type: typeof type === "number" ? type : BPF_MAP_TYPE[`BPF_MAP_TYPE_${type}`],
    key_size: keySize ?? its.key,
    value_size: valueSize ?? [4, 8, 1, 5, 12][seed % 5],
    max_entries: maxEntries ?? its.entries,
    map_flags: ((its.flags as number) ^ flags) >>> 0,
    // 0 to 2 are open in the process that asks the kernel, and not in a session.
    btf_fd: -1,
    map_token_fd: -1,
    ...more,
  };
}

export function sizes(twin: Twin | null): Pick<Twin, "type" | "keySize" | "valueSize" | "maxEntries"> {
  return twin ?? NO_MAP;
}

export function idsOf(twin: Twin | undefined): Pair<number> {
  return twin?.ids ?? [NO_SUCH_ID, NO_SUCH_ID];
}

export function countOf(count: number, twin: Twin | null): number {
  return count >= 0 ? count : Math.min(sizes(twin).maxEntries, 100) - count - 1;
}

/** A key for the map, in hex: a number, or a prefix. */
export function keyOf({ number, bits, data, pointer }: Key, twin: Twin | null): string | null {
  const { type, keySize } = sizes(twin);
  const key = Buffer.alloc(keySize);
  if (type === "LPM_TRIE") {
    key.writeUInt32LE(bits > 48 || bits <= (keySize - 4) * 8 + 1 ? bits : bits % ((keySize - 4) * 8 + 1), 0);
    for (let at = 4; at < keySize; at++) key[at] = data[(at - 4) % data.length] as number;
  } else for (let at = 0; at < Math.min(4, keySize); at++) key[at] = (number >>> (at * 8)) & 255;
  return pointed(key, pointer);
}

export function valueBytes({ byte, pointer }: Value, twin: Twin | null): string | null {
  return pointed(Buffer.alloc(sizes(twin).valueSize, byte), pointer);
}

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
