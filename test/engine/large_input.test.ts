import t from "tap";
import { BPF_MAP_TYPE } from "../../src/abi/bpf.ts";
import { CMD } from "../../src/abi/service.ts";
import type { Request } from "../../src/engine/request.ts";
import { type EventRow, eventRow, rowEvent } from "../../src/log/event.ts";
import { createAttr } from "../support/commands.ts";
import { memoryEngine } from "../support/memory_engine.ts";
import { MemoryLog } from "../support/memory_log.ts";
import { u32 } from "../support/mirror.ts";

const MIB = 1024 * 1024;
const ALICE = { session: 1, caller: "alice" };
const LARGE = Buffer.alloc(2 * MIB, 0x5a);
/** Descriptors of a hash of 4-byte keys and 8-byte values, and of a queue; and one that is none. */
const [HASH, QUEUE, NONE] = [3, 4, 99];

const put = (fd: number, key: Buffer | null, value: Buffer, more: object = {}): Request =>
  ({ ...ALICE, cmd: CMD.BPF_MAP_UPDATE_ELEM, target: { by: "fd", fd }, key, value, flags: 0n, ...more }) as Request;

/** The event of a request. */
function recorded(request: Request): EventRow {
  const log = new MemoryLog();
  const queue = createAttr({ mapType: BPF_MAP_TYPE.BPF_MAP_TYPE_QUEUE, keySize: 0 });
  memoryEngine({ log }).run([
    { session: 0, caller: "alice", cmd: CMD.SESSION_OPEN, attr: { name: "", ttlMs: 60_000 } },
    { ...ALICE, cmd: CMD.BPF_MAP_CREATE, attr: createAttr({}) },
    { ...ALICE, cmd: CMD.BPF_MAP_CREATE, attr: queue },
    request,
  ]);
  return log.rows.at(-1) as EventRow;
}

t.test("of a buffer as much is recorded as the kernel reads", async (t) => {
  for (const [fd, key] of [
    [HASH, Buffer.concat([u32(7), LARGE])],
    [QUEUE, null],
  ] as const) {
    const row = recorded(put(fd, key, LARGE));
    t.match(row, { errno: 0, attr: null });
    t.equal(row.key?.length ?? 0, key === null ? 0 : 4);
    t.equal(row.value?.length, 8);
  }
});

t.test("of what a refused command was given the beginning is recorded, and how long it was", async (t) => {
  const rows: readonly [string, Request, cut: object][] = [
    ["no such descriptor", put(NONE, u32(7), LARGE), { value: 2 * MIB }],
    ["a key and a value", put(NONE, LARGE, LARGE), { key: 2 * MIB, value: 2 * MIB }],
    ["a key where none is taken", put(QUEUE, LARGE, LARGE), { key: 2 * MIB }],
    ["a value of another length, by a route", put(HASH, u32(7), LARGE, { exact: true }), { value: 2 * MIB }],
    [
      "BTF that is none",
      { ...ALICE, cmd: CMD.BPF_BTF_LOAD, value: LARGE, attr: { btfSize: LARGE.length } },
      { value: 2 * MIB },
    ],
  ];
  for (const [name, request, cut] of rows) {
    const row = recorded(request);
    t.not(row.errno, 0, name);
    t.same(JSON.parse(row.attr as string).cut, cut, name);
    t.ok((row.key?.length ?? 0) <= 4096 && (row.value?.length ?? 0) <= 4096, name);
    t.same(eventRow(rowEvent(row)), row, "an event that was read is written as it was");
  }
});

t.test("what is done is recorded whole, and so is a small input that is refused", async (t) => {
  const small = Buffer.alloc(1024, 1);
  const row = recorded(put(NONE, u32(7), small));
  t.same([row.value, row.attr], [small, null]);
  const log = new MemoryLog();
  const engine = memoryEngine({ log });
  engine.run([
    { session: 0, caller: "alice", cmd: CMD.SESSION_OPEN, attr: { name: "", ttlMs: 60_000 } },
    { ...ALICE, cmd: CMD.BPF_MAP_CREATE, attr: createAttr({ valueSize: LARGE.length, maxEntries: 1 }) },
    put(HASH, u32(1), LARGE),
    {
      ...ALICE,
      cmd: CMD.BPF_MAP_UPDATE_BATCH,
      target: { by: "fd", fd: HASH },
      key: Buffer.concat([u32(1), u32(2)]),
      value: Buffer.concat([LARGE, LARGE]),
      flags: 0n,
      attr: { count: 2, elemFlags: 0n, inBatch: null, outBatch: null },
    },
  ]);
  const [one, batch] = log.rows.slice(-2) as [EventRow, EventRow];
  t.equal(one.value?.length, LARGE.length);
  t.match(batch, { errno: 7, out: /"count":1/ }, "a batch that has done a part of itself");
  t.equal(batch.value?.length, 2 * LARGE.length);
});
