import * as fc from "fast-check";
import { BPF_ATTR_BYTES, COMMAND_ATTR } from "../src/abi/attr.ts";
import { BPF_F, type MapCmdName } from "../src/abi/bpf.ts";
import type { ObjectSpec } from "../src/syscall/command.ts";
import { seldom } from "./chance.ts";
import { type Shape, type StreamType, shape, usualShape } from "./shapes.ts";
import { ALL_SPECS, COMPANIONS, SPECS, specsFor } from "./wanted.ts";

/**
 * Random streams of commands. A step says what to do in terms that hold for any map, so that a stream with steps left
 * out is still a stream: `map` picks one of the descriptors that are open by then, a key's parts make a key of whatever
 * size the map has. Differential in differential.ts turns them into requests.
 */
export type Step =
  | { readonly do: "create"; readonly shape: Shape }
  | { readonly do: "open"; readonly spec: ObjectSpec }
  | { readonly do: "remove cgroup"; readonly at: number }
  | ({ readonly do: "update"; readonly key: Key; readonly value: Value; readonly flags: bigint } & OnMap)
  | ({
      readonly do: "lookup" | "take";
      readonly key: Key;
      /** For types whose lookup reads it. */
      readonly value: Value;
      readonly flags: bigint;
      readonly room: Room;
    } & OnMap)
  | ({ readonly do: "delete"; readonly key: Key } & OnMap)
  | ({ readonly do: "next"; readonly key: Key; readonly room: Room } & OnMap)
  | ({ readonly do: "read batch" | "take batch"; readonly rooms: readonly [Room, Room, Room] } & Position & Batch)
  | ({
      readonly do: "update batch";
      readonly elements: readonly { key: Key; value: Value }[];
      readonly more: number;
    } & Batch)
  | ({ readonly do: "delete batch"; readonly keys: readonly Key[]; readonly more: number } & Batch)
  | ({ readonly do: "freeze" | "close" | "dup" | "walk" } & OnMap)
  | ({ readonly do: "info"; readonly length: number; readonly buffer: Room; readonly hash: number } & OnMap)
  | ({ readonly do: "memory"; readonly access: Access; readonly page: number; readonly at: number } & OnMap)
  | { readonly do: "next id"; readonly object: number; readonly add: number }
  | { readonly do: "fd by id"; readonly object: number; readonly flags: number }
  | ({ readonly do: "pin"; readonly path: string | null; readonly flags: number; readonly from: From } & OnMap)
  | {
      readonly do: "get";
      readonly path: string | null;
      readonly flags: number;
      readonly fd: number;
      readonly from: From;
    }
  | { readonly do: "unlink" | "mkdir" | "rmdir"; readonly path: string }
  | { readonly do: "unknown"; readonly cmd: number }
  /** Behind the fields of a command that gets no further: `more` bytes, the last of them not 0, and a larger size. */
  | { readonly do: "tail"; readonly cmd: MapCmdName; readonly more: number; readonly size: number };

/** A path of the stream's directory by itself, or from a descriptor, as OnMap.map has it, with BPF_F_PATH_FD. */
type From = number | null;

/** The step, or the steps, that do this. */
export type Of<Do extends Step["do"]> = Extract<Step, { do: Do }>;

interface OnMap {
  /** A map's descriptor, modulo how many are open; -1: none, below: of an object that is no map. */
  readonly map: number;
}

/** Flags and count as they are; `count` -1: as many as the map has room for, -2: one more. */
interface Batch extends OnMap {
  readonly count: number;
  readonly flags: bigint;
  readonly elemFlags: bigint;
}

interface Position {
  /** From where: the start, where the last batch of this map ended, a key (or four bytes) of one's own, a bad pointer. */
  readonly from: "start" | "last" | "key" | "bad";
  readonly at: Key;
}

/** Bytes for a key: an index, for tries a prefix, for local storage a descriptor. */
export interface Key {
  readonly number: number;
  readonly bits: number;
  readonly data: readonly number[];
  readonly names: Reference;
  readonly pointer: Pointer;
}

/** Bytes for a value: all the same, or a descriptor, or a number and a descriptor. */
export interface Value {
  readonly byte: number;
  readonly names: Reference;
  readonly pointer: Pointer;
}

/** A descriptor that a key or a value names: one that the map's type wants, any that is open, a number that is none. */
export interface Reference {
  readonly from: "wanted" | "any" | "raw";
  readonly at: number;
}

/** Whether a buffer is there as a whole. */
type Pointer = "ok" | "null" | "short" | "long" | "bad";
/** What room an output has. */
export type Room = "fits" | "none" | "short" | "long";
type Access = "map" | "map writable" | "read" | "write";

/** As a hash_size: the whole info buffer is filled with this byte. */
export const JUNK = 0xa5;
const STEPS_MAX = 120;
const PATHS = [
  "p0",
  "p0",
  "p0",
  "p1",
  "p1",
  "d/p",
  "d",
  "d",
  "p.3",
  "no/p",
  "p0/",
  "p0/x",
  "d/",
  "./p0",
  "d/../p1",
  "d//p",
  "",
  "d/d",
  "xx".repeat(128),
];
const ODD_FLAGS = [1n, 2n, 3n, 4n, 5n, 6n, 8n, 9n, 1n << 32n, (1n << 64n) - 1n];
const pointer = seldom<Pointer>(6, fc.constant("ok"), fc.constantFrom("null", "short", "long", "bad"));
const room = seldom<Room>(5, fc.constant("fits"), fc.constantFrom("none", "short", "long"));
const lookupFlags = seldom(4, fc.constant(0n), fc.constantFrom(...ODD_FLAGS));
const updateFlags = fc.oneof(
  { arbitrary: fc.constant(0n), weight: 60 },
  { arbitrary: fc.constantFrom(1n, 2n), weight: 34 },
  { arbitrary: fc.constantFrom(...ODD_FLAGS), weight: 6 },
);
const batchFlags = seldom(4, fc.constant(0n), fc.constantFrom(1n, 2n, 4n, 8n, 1n << 32n));
const map = seldom(3, fc.nat(7), fc.constantFrom(-1, -2, -3));
const anyFd = seldom(30, fc.nat(7), fc.integer({ min: -9, max: -1 }));
const names = fc.record({
  from: fc.oneof(
    { arbitrary: fc.constant("wanted" as const), weight: 86 },
    { arbitrary: fc.constantFrom("any" as const, "raw" as const), weight: 14 },
  ),
  at: fc.nat(11),
});
const onMap = { map };
const batch = {
  map,
  count: fc.oneof(fc.constantFrom(-1, -2), fc.nat(6), fc.constantFrom(100, 5000)),
  flags: batchFlags,
  elemFlags: batchFlags,
};
const key: fc.Arbitrary<Key> = fc.record({
  number: fc.oneof(
    { arbitrary: fc.nat(7), weight: 70 },
    { arbitrary: fc.nat(40), weight: 25 },
    { arbitrary: fc.constantFrom(255, 256, 0x7fffffff, 0x80000000, 0xffffffff), weight: 5 },
  ),
  bits: fc.oneof(
    { arbitrary: fc.constantFrom(0, 1, 8, 9, 16, 24, 32), weight: 80 },
    { arbitrary: fc.nat(40), weight: 15 },
    { arbitrary: fc.constantFrom(33, 48, 2048, 0xffffffff), weight: 5 },
  ),
  data: fc.oneof(
    {
      arbitrary: fc.constantFrom(
        [0, 0, 0, 0],
        [0x0a, 1, 2, 3],
        [0x0a, 1, 0x80, 0xff],
        [0x80, 0, 0, 1],
        [255, 255, 255, 255],
      ),
      weight: 80,
    },
    {
      arbitrary: fc.tuple(...Array.from({ length: 4 }, () => fc.constantFrom(0, 1, 0x0a, 0x80, 0xc0, 0xff))),
      weight: 20,
    },
  ),
  names,
  pointer,
});
const value = fc.record({
  byte: seldom(30, fc.nat(255), fc.constantFrom(0, 1, 7)),
  names,
  pointer,
});
const position = { from: fc.constantFrom("start", "start", "last", "last", "key", "bad" as const), at: key };
const from = seldom<From>(10, fc.constant(null), fc.integer({ min: -9, max: 3 }));
const path = seldom(3, fc.constantFrom<string | null>(...PATHS), fc.constant(null));
const openFlags = seldom(
  25,
  fc.constant(0),
  fc.constantFrom(1, BPF_F.BPF_F_RDONLY, BPF_F.BPF_F_WRONLY, 24, 0x80000000),
);

/** Streams on maps of these types. */
export function streams(types: readonly StreamType[]): fc.Arbitrary<Step[]> {
  const companions = types.flatMap((type) => COMPANIONS[type] ?? []);
  const made = [...types, ...companions];
  const specs = specsFor(types);
  const spec = seldom(10, fc.constantFrom(...specs), fc.constantFrom(...ALL_SPECS));
  const steps: [weight: number, step: fc.Arbitrary<Step>][] = [
    [5, fc.record({ do: fc.constant("create"), shape: shape(made) })],
    [types.some((type) => type in SPECS) ? 4 : 0.4, fc.record({ do: fc.constant("open"), spec })],
    [0.4, fc.record({ do: fc.constant("remove cgroup"), at: fc.nat(3) })],
    [30, fc.record({ do: fc.constant("update"), ...onMap, key, value, flags: updateFlags })],
    [14, fc.record({ do: fc.constant("lookup"), ...onMap, key, value, flags: lookupFlags, room })],
    [6, fc.record({ do: fc.constant("take"), ...onMap, key, value, flags: lookupFlags, room })],
    [9, fc.record({ do: fc.constant("delete"), ...onMap, key })],
    [9, fc.record({ do: fc.constant("next"), ...onMap, key, room })],
    [5, fc.record({ do: fc.constant("read batch"), ...batch, ...position, rooms: fc.tuple(room, room, room) })],
    [3, fc.record({ do: fc.constant("take batch"), ...batch, ...position, rooms: fc.tuple(room, room, room) })],
    [
      5,
      fc.record({
        do: fc.constant("update batch"),
        ...batch,
        elements: fc.array(fc.record({ key, value }), { maxLength: 12 }),
        more: seldom(5, fc.constant(0), fc.constantFrom(-1, 1)),
      }),
    ],
    [
      3,
      fc.record({
        do: fc.constant("delete batch"),
        ...batch,
        keys: fc.array(key, { maxLength: 4 }),
        more: seldom(5, fc.constant(0), fc.constantFrom(-1, 1)),
      }),
    ],
    [4, fc.record({ do: fc.constant("walk"), ...onMap })],
    [0.4, fc.record({ do: fc.constant("freeze"), ...onMap })],
    [3, fc.record({ do: fc.constant("close"), map: anyFd })],
    [2, fc.record({ do: fc.constant("dup"), map: anyFd })],
    [
      types.includes("ARRAY") ? 2 : 0.4,
      fc.record({
        do: fc.constant("memory"),
        ...onMap,
        access: fc.constantFrom("map", "map writable", "read", "write"),
        page: fc.constantFrom(0, 0, 0, 1),
        at: fc.nat(60),
      }),
    ],
    [
      2,
      fc.record({
        do: fc.constant("info"),
        ...onMap,
        length: fc.oneof(fc.constantFrom(104, 100, 88, 80, 8, 0, 105, 4096, 4097), fc.nat(120)),
        buffer: room,
        hash: seldom(30, fc.constant(0), fc.constantFrom(32, 31, JUNK)),
      }),
    ],
    [2, fc.record({ do: fc.constant("next id"), object: fc.nat(5), add: fc.integer({ min: -1, max: 0 }) })],
    [2, fc.record({ do: fc.constant("fd by id"), object: fc.nat(5), flags: openFlags })],
    [
      2,
      fc.record({
        do: fc.constant("pin"),
        ...onMap,
        path,
        flags: seldom(5, fc.constant(0), fc.constantFrom(1, 8, 0x80000000)),
        from,
      }),
    ],
    [
      2,
      fc.record({
        do: fc.constant("get"),
        path,
        flags: openFlags,
        fd: seldom(5, fc.constant(0), fc.constant(1)),
        from,
      }),
    ],
    [
      1,
      fc.record({
        do: fc.constantFrom("unlink", "mkdir", "rmdir"),
        path: fc.constantFrom(...PATHS.filter((one) => one !== "")),
      }),
    ],
    [
      0.4,
      fc.record({
        do: fc.constant("tail"),
        cmd: fc.constantFrom(...(Object.keys(COMMAND_ATTR) as MapCmdName[])),
        more: fc.oneof(fc.nat(4), fc.nat(120)),
        size: fc.oneof(fc.constantFrom(BPF_ATTR_BYTES, 4096, 4097), fc.nat(200)),
      }),
    ],
    [0.2, fc.record({ do: fc.constant("unknown"), cmd: fc.constantFrom(38, 39, 100, 0x7fffffff) })],
  ];
  const step = fc.oneof(
    ...steps.map(([weight, arbitrary]) => ({ weight: weight * 5, arbitrary: arbitrary as fc.Arbitrary<Step> })),
  );
  const opens = fc.array(fc.record({ do: fc.constant("open" as const), spec: fc.constantFrom(...specs) }), {
    maxLength: types.some((type) => type in SPECS) ? 4 : 0,
  });
  const creates = (of: readonly StreamType[], least: number): fc.Arbitrary<Step[]> =>
    fc.array(fc.record({ do: fc.constant("create" as const), shape: usualShape(of) }), {
      minLength: least,
      maxLength: least + 1,
    });
  return fc
    .tuple(
      companions.length === 0 ? fc.constant([]) : creates(companions, 1),
      opens,
      creates(types, 1),
      fc.array(step, { maxLength: STEPS_MAX, size: "max" }),
    )
    .map((parts): Step[] => parts.flat());
}
