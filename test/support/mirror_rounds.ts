import Sqlite from "better-sqlite3";
import { BPF_F, type BPF_MAP_TYPE } from "../../src/abi/bpf.ts";
import type { Bpf } from "../../src/native/bpf.ts";
import type { Json, Ledger } from "./ledger.ts";
import { u32 } from "./mirror.ts";

/** Maps for rounds of commands, ends, strangers and starts: what they hold on both sides, and who may change them. */

export type Roll = (below: number) => number;
export type Policy = "import" | "report" | "repair";

/** What values are descriptors of. Programs and maps outlive the service; its sockets end with it, and others follow them. */
export type Refers = "maps" | "programs" | "sockets";

export interface Kind {
  readonly type: keyof typeof BPF_MAP_TYPE;
  readonly keyBytes: number;
  readonly valueBytes: number;
  readonly maxEntries: number;
  readonly flags: number;
  /** Elements are there from the first, and stay. */
  readonly isArray: boolean;
  readonly evicts: boolean;
  readonly policies: readonly Policy[];
  readonly key: (roll: Roll) => Buffer;
  /** What commands give, and what strangers put: bytes, or which of the things that it refers to. */
  readonly value: (roll: Roll) => Buffer;
  readonly refers: Refers | null;
  /** Strangers have made some of these maps, too. */
  readonly adopted: boolean;
}

/** Elements by what tells them apart; keys and values in hex, values as the kernel shows them. */
export type Content = ReadonlyMap<string, { readonly key: string; readonly value: string }>;

const KEYS = 24;
/** Of maps that refer to something: commands and strangers meet at the same keys. */
export const FEW = 6;
/** With so much room no CPU comes to let an element go for want of a free one. */
const LRU = { evicts: true, maxEntries: 2048 };
const ALL: readonly Policy[] = ["import", "report", "repair"];
const TOLD: readonly Policy[] = ["report", "repair"];

export function kindsOf(cpus: number): Kind[] {
  const plain = {
    keyBytes: 4,
    valueBytes: 8,
    maxEntries: 64,
    flags: 0,
    isArray: false,
    evicts: false,
    policies: ALL,
    refers: null,
    adopted: true,
    key: (roll: Roll) => u32(1 + roll(KEYS)),
    value: (roll: Roll) => bytes(roll, 8),
  };
  const perCpu = { valueBytes: 8 * cpus, value: (roll: Roll) => bytes(roll, 8 * cpus) };
  const told = { policies: TOLD, adopted: false, valueBytes: 4, value: () => u32(1) };
  const referring = { ...told, key: (roll: Roll) => u32(1 + roll(FEW)), value: (roll: Roll) => u32(roll(3)) };
  const ofMaps = { ...referring, refers: "maps" as const };
  const ofSockets = { ...referring, refers: "sockets" as const, valueBytes: 8 };
  return [
    { ...plain, type: "BPF_MAP_TYPE_HASH" },
    { ...plain, type: "BPF_MAP_TYPE_ARRAY", isArray: true },
    { ...plain, ...perCpu, type: "BPF_MAP_TYPE_PERCPU_HASH" },
    { ...plain, ...perCpu, type: "BPF_MAP_TYPE_PERCPU_ARRAY", isArray: true },
    { ...plain, type: "BPF_MAP_TYPE_LRU_HASH", ...LRU },
    { ...plain, ...perCpu, type: "BPF_MAP_TYPE_LRU_PERCPU_HASH", ...LRU },
    { ...plain, type: "BPF_MAP_TYPE_LPM_TRIE", keyBytes: 8, flags: BPF_F.BPF_F_NO_PREALLOC, key: prefix },
    { ...plain, ...ofMaps, type: "BPF_MAP_TYPE_ARRAY_OF_MAPS" },
    { ...plain, ...ofMaps, type: "BPF_MAP_TYPE_HASH_OF_MAPS" },
    { ...plain, ...referring, type: "BPF_MAP_TYPE_PROG_ARRAY", refers: "programs", adopted: true },
    { ...plain, ...ofSockets, type: "BPF_MAP_TYPE_SOCKMAP" },
    { ...plain, ...told, type: "BPF_MAP_TYPE_DEVMAP" },
    { ...plain, ...told, type: "BPF_MAP_TYPE_DEVMAP_HASH" },
    {
      ...plain,
      ...told,
      type: "BPF_MAP_TYPE_CPUMAP",
      maxEntries: cpus,
      key: (roll) => u32(roll(cpus)),
      value: (roll) => u32(64 + roll(64)),
    },
  ];
}

function bytes(roll: Roll, length: number): Buffer {
  const value = Buffer.alloc(length);
  for (let at = 0; at < length; at += 4) value.writeUInt32LE(roll(2 ** 31) + 1, at);
  return value;
}

/** A trie's key, with bits behind its prefix that tell nothing apart. */
function prefix(roll: Roll): Buffer {
  const key = Buffer.from([8 * (1 + roll(3)), 0, 0, 0, 10, 1 + roll(4), 1 + roll(2), roll(256)]);
  return key;
}

export function identityOf({ type }: Kind, key: string): string {
  if (type !== "BPF_MAP_TYPE_LPM_TRIE") return key;
  const bits = Number.parseInt(key.slice(0, 2), 16);
  return key.slice(0, 8 + bits / 4);
}

/** All that a kernel map has. `shown`: what stands for a value. */
export function kernelContent(bpf: Bpf, fd: number, kind: Kind, shown: (value: string) => string): Content {
  const content = new Map<string, { key: string; value: string }>();
  const next = Buffer.alloc(kind.keyBytes);
  const value = Buffer.alloc(kind.valueBytes);
  for (let key: Buffer | null = null; bpf.nextKey(fd, key, next) === 0; ) {
    key = Buffer.from(next);
    if (bpf.lookup(fd, key, value) < 0) continue;
    const hex = key.toString("hex");
    content.set(identityOf(kind, hex), { key: hex, value: shown(value.toString("hex")) });
  }
  return content;
}

/** All that the ledger has of a map, now or right after an event. `shown`: what stands for a value. */
export async function ledgerContent(
  ledger: Ledger,
  { id, kind }: { readonly id: number; readonly kind: Kind },
  shown: (value: string) => string,
  at?: number,
): Promise<Content> {
  const moment = at === undefined ? "" : `&at=${at}`;
  const { elements } = await ledger.must("GET", `/maps/${id}/elements?limit=1000${moment}`);
  const content = new Map<string, { key: string; value: string }>();
  for (const { key, value } of elements as { key: string; value: string }[])
    content.set(identityOf(kind, key), { key, value: shown(value) });
  return content;
}

/** What a start finds: where the ledger has a socket and the slot is empty, one that was made in its place. */
export function renewed({ refers }: Kind, ledger: Content, kernel: Content): Content {
  return refers === "sockets" ? new Map([...ledger, ...kernel]) : kernel;
}

export function isSame(a: Content, b: Content, identity: string): boolean {
  const [one, other] = [a.get(identity), b.get(identity)];
  return one?.key === other?.key && one?.value === other?.value;
}

export function identities(...contents: readonly Content[]): Set<string> {
  return new Set(contents.flatMap((content) => [...content.keys()]));
}

/** The seq of the log's last event, while nobody has it open. */
export function lastSeqIn(data: string): number {
  const db = new Sqlite(`${data}/events.sqlite`);
  const { seq } = db.prepare("SELECT max(seq) seq FROM events").get() as { seq: number };
  db.close();
  return seq;
}

/** The counts of a map's MIRROR_DRIFT at the start that followed an event. */
export async function toldAtStart(ledger: Ledger, after: number): Promise<Map<number, Json>> {
  const told = new Map<number, Json>();
  for (let from = after; ; ) {
    const { events } = (await ledger.must("GET", `/events?cmd=MIRROR_DRIFT&after=${from}&limit=1000`)) as {
      events: { seq: number; map: number; attr: Json }[];
    };
    for (const { map, attr } of events) if (attr.at === "start" && !told.has(map)) told.set(map, attr);
    const last = events.at(-1);
    if (last === undefined || events.length < 1000) return told;
    from = last.seq;
  }
}
