import t, { type Test } from "tap";
import { BPF_F, BPF_MAP_TYPE } from "../../src/abi/bpf.ts";
import { errnoName } from "../../src/abi/errno.ts";
import { CMD } from "../../src/abi/service.ts";
import { SERVICE_NAME } from "../../src/access/caller.ts";
import { type Limits, UNLIMITED } from "../../src/access/quotas.ts";
import { createAttr } from "../../src/engine/create_attr.ts";
import { Engine } from "../../src/engine/engine.ts";
import { IGNORE } from "../../src/engine/followers.ts";
import { MemoryCells } from "../../src/engine/memory.ts";
import type { Request } from "../../src/engine/request.ts";
import { u32Key } from "../../src/maps/cells.ts";
import type { MapRecord } from "../../src/maps/map.ts";
import type { ObjectRecord } from "../../src/maps/object.ts";
import { disabledMirror } from "../../src/mirror/mirror.ts";
import type { Action } from "../../src/syscall/command.ts";
import { redo } from "../../src/syscall/execute.ts";
import type { Outcome } from "../../src/syscall/outcome.ts";
import { State } from "../../src/syscall/state.ts";
import { dump } from "../support/fold.ts";
import { MemoryLog } from "../support/memory_log.ts";
import { noPast } from "../support/no_past.ts";
import { noProcesses } from "../support/processes.ts";

const HOST = { possibleCpus: 2, pageBytes: 4096, memoryBytes: 2 ** 34, onlineNodes: [0], ifindexes: [1] };
const { BPF_MAP_TYPE_HASH: HASH, BPF_MAP_TYPE_ARRAY: ARRAY } = BPF_MAP_TYPE;
/** Of a hash that is not preallocated: an element of 4 and 4 bytes, and the buckets of 8 elements. */
const ELEMENT_KERNEL_BYTES = 48 + 8 + 8 + 8;
const BUCKETS_BYTES = 8 * 16;

/** An engine over memory, whose callers have quotas. */
class Ledger {
  readonly log: MemoryLog;
  readonly engine: Engine;

  constructor(limits: Partial<Limits>, before?: Ledger) {
    this.log = before?.log ?? new MemoryLog();
    const store = new MemoryCells();
    const state = new State(store, HOST, IGNORE);
    for (const { command, outcome } of this.log.read(0)) redo(state, command, outcome);
    store.seq = this.log.lastSeq;
    this.engine = new Engine({
      log: this.log,
      store,
      mirror: disabledMirror("no mirror in this test"),
      past: noPast,
      clock: { nowUs: () => 1, nowMs: () => performance.now() },
      host: HOST,
      interfaces: () => [1],
      processes: noProcesses,
      graceMs: 0,
      limits: { ...UNLIMITED, ...limits },
      report(message, error) {
        if (!/appending/.test(message)) throw new Error(message, { cause: error });
      },
    });
  }

  run(caller: string, session: number, action: Action): Outcome {
    const [reply] = this.engine.run([{ ...action, session, caller } as Request]);
    if (reply === undefined || "failure" in reply) throw new Error(reply?.failure);
    return reply.outcome;
  }

  session(caller: string): number {
    return this.run(caller, 0, { cmd: CMD.SESSION_OPEN, attr: { name: "", ttlMs: 60_000 } }).out?.session_id ?? 0;
  }

  create(caller: string, session: number, asked: Partial<MapRecord> = {}): Outcome {
    const map = { type: HASH, keySize: 4, valueSize: 4, maxEntries: 8, mapFlags: BPF_F.BPF_F_NO_PREALLOC, ...asked };
    const attr = createAttr({ name: "", mapExtra: 0n, numaNode: 0, ...map } as MapRecord, 0, 0);
    return this.run(caller, session, { cmd: CMD.BPF_MAP_CREATE, attr });
  }

  put(caller: string, map: number, key: number): Outcome {
    return this.run(caller, 0, { cmd: CMD.BPF_MAP_UPDATE_ELEM, ...element(map, key), value: u32(key), flags: 0n });
  }

  /** Cells, and what its log adds up to again. */
  cells(): readonly [kept: unknown, replayed: unknown] {
    return [dump(this.engine.state.cells), dump(new Ledger({}, this).engine.state.cells)];
  }

  has(caller: string): object {
    return this.engine.state.charges.usage.of(caller);
  }
}

function element(map: number, key: number) {
  return { target: { by: "id", id: map }, key: u32(key) } as const;
}

function u32(number: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(number);
  return bytes;
}

function refuses(t: Test, { errno, detail, out }: Outcome, name: string, quota: string, text: string): void {
  t.equal(errno === 0 ? "" : errnoName(errno), name);
  t.equal(out?.quota, quota);
  t.equal(detail, text);
}

t.test("sessions: EAGAIN, for that caller alone, until one ends", async (t) => {
  const ledger = new Ledger({ sessions: 2 });
  const first = ledger.session("alice");
  ledger.session("alice");
  const open = { cmd: CMD.SESSION_OPEN, attr: { name: "", ttlMs: 1 } } as const;
  const text = "quota of sessions: alice has 2 of 2, 1 more required (MAPLEDGER_CALLER_SESSIONS_MAX)";
  refuses(t, ledger.run("alice", 0, open), "EAGAIN", "sessions", text);
  t.equal(ledger.run("bob", 0, open).errno, 0, "another caller");
  for (let at = 0; at < 3; at++) t.equal(ledger.run(SERVICE_NAME, 0, open).errno, 0, "the service itself");
  ledger.run("alice", first, { cmd: CMD.SESSION_END, attr: { reason: "ended by request" } });
  t.equal(ledger.run("alice", 0, open).errno, 0);
  const [kept, replayed] = ledger.cells();
  t.same(replayed, kept, "what was refused is nothing when the log is done again");
});

t.test("maps: ENOSPC, until one is freed; a pinned map stays its creator's", async (t) => {
  const ledger = new Ledger({ maps: 2 });
  const session = ledger.session("alice");
  const { ret: fd } = ledger.create("alice", session);
  const attr = { pathname: "/sys/fs/bpf/a", fileFlags: 0, pathFd: 0 };
  ledger.run("alice", session, { cmd: CMD.BPF_OBJ_PIN, target: { by: "fd", fd }, attr });
  ledger.create("alice", session);
  const text = "quota of maps: alice has 2 of 2, 1 more required (MAPLEDGER_CALLER_MAPS_MAX)";
  refuses(t, ledger.create("alice", session), "ENOSPC", "maps", text);
  t.equal(ledger.create("bob", ledger.session("bob")).errno, 0);
  ledger.run("alice", session, { cmd: CMD.SESSION_END, attr: { reason: "ended by request" } });
  t.match(ledger.has("alice"), { sessions: 0, descriptors: 0, maps: 1 });
  ledger.run("bob", 0, { cmd: CMD.UNLINK, attr: { pathname: "/sys/fs/bpf/a" } });
  t.match(ledger.has("alice"), { maps: 0, bytes: 0, kernel_bytes: 0 });
  const [kept, replayed] = ledger.cells();
  t.same(replayed, kept, "what was refused is nothing when the log is done again");
});

t.test("descriptors: EMFILE in all sessions of a caller, by whatever command", async (t) => {
  const ledger = new Ledger({ descriptors: 2 });
  const [one, other] = [ledger.session("alice"), ledger.session("alice")];
  const { ret: fd, map } = ledger.create("alice", one);
  ledger.run("alice", other, { cmd: CMD.BPF_MAP_GET_FD_BY_ID, attr: { mapId: map, openFlags: 0 } });
  const attr = { pathname: "/sys/fs/bpf/a", fileFlags: 0, pathFd: 0 };
  ledger.run("alice", one, { cmd: CMD.BPF_OBJ_PIN, target: { by: "fd", fd }, attr });
  const text = "quota of descriptors: alice has 2 of 2, 1 more required (MAPLEDGER_CALLER_DESCRIPTORS_MAX)";
  const commands: Action[] = [
    { cmd: CMD.DUP, fd },
    { cmd: CMD.BPF_MAP_GET_FD_BY_ID, attr: { mapId: map, openFlags: 0 } },
    { cmd: CMD.BPF_OBJ_GET, attr: { ...attr, bpfFd: 0 } },
    { cmd: CMD.OPEN, attr: { kind: "pipe" } },
  ];
  for (const command of commands) refuses(t, ledger.run("alice", one, command), "EMFILE", "descriptors", text);
  const made = ledger.create("alice", one);
  refuses(t, made, "EMFILE", "descriptors", text);
  t.equal(made.out?.map_id, map + 1, "the id is used up, as where a table is full");
  t.match(ledger.has("alice"), { maps: 1, descriptors: 2, objects: 0 });
  const [kept, replayed] = ledger.cells();
  t.same(replayed, kept, "what was refused is nothing when the log is done again");
});

t.test("objects: EMFILE for a new one, not for one that is there", async (t) => {
  const ledger = new Ledger({ objects: 1 });
  const session = ledger.session("alice");
  const self: Action = { cmd: CMD.OPEN, attr: { kind: "pidfd", pid: 7 } };
  const { ret: fd } = ledger.run("alice", session, self);
  t.equal(ledger.run("alice", session, self).errno, 0, "the same process");
  const text = "quota of objects: alice has 1 of 1, 1 more required (MAPLEDGER_CALLER_OBJECTS_MAX)";
  refuses(t, ledger.run("alice", session, { cmd: CMD.OPEN, attr: { kind: "pipe" } }), "EMFILE", "objects", text);
  t.equal(ledger.run("bob", ledger.session("bob"), self).errno, 0, "of another caller's making");
  t.match(ledger.has("bob"), { objects: 0, descriptors: 1 });
  ledger.run("alice", session, { cmd: CMD.CLOSE, fd, attr: { reason: "close" } });
  t.match(ledger.has("alice"), { objects: 1 }, "others hold it still");
  const [kept, replayed] = ledger.cells();
  t.same(replayed, kept, "what was refused is nothing when the log is done again");
});

t.test("bytes: a preallocated map is charged when it is made, ENOMEM, and refuses no element later", async (t) => {
  const ledger = new Ledger({ bytes: 64 });
  const session = ledger.session("alice");
  const { out } = ledger.create("alice", session, { mapFlags: 0 });
  t.match(ledger.has("alice"), { bytes: 64 });
  const text = "quota of bytes of keys and values: alice has 64 of 64, 12 more required (MAPLEDGER_CALLER_BYTES_MAX)";
  const array = { type: ARRAY, valueSize: 8, maxEntries: 1, mapFlags: 0 };
  refuses(t, ledger.create("alice", session, array), "ENOMEM", "bytes", text);
  for (let key = 0; key < 8; key++) t.equal(ledger.put("alice", out?.map_id ?? 0, key).errno, 0);
  t.match(ledger.has("alice"), { bytes: 64 });
  const [kept, replayed] = ledger.cells();
  t.same(replayed, kept, "what was refused is nothing when the log is done again");
});

t.test("bytes: elsewhere elements are charged to the map's creator, whoever puts them", async (t) => {
  const ledger = new Ledger({ bytes: 16 });
  const session = ledger.session("alice");
  const map = ledger.create("alice", session).out?.map_id ?? 0;
  ledger.put("alice", map, 1);
  ledger.put("bob", map, 2);
  const text = "quota of bytes of keys and values: alice has 16 of 16, 8 more required (MAPLEDGER_CALLER_BYTES_MAX)";
  refuses(t, ledger.put("bob", map, 3), "ENOMEM", "bytes", text);
  t.equal(ledger.put("bob", map, 2).errno, 0, "an element that is there is written anew");
  t.match(ledger.has("bob"), { bytes: 0 });
  ledger.run("bob", 0, { cmd: CMD.BPF_MAP_DELETE_ELEM, ...element(map, 1), value: null, flags: 0n });
  t.equal(ledger.put("bob", map, 3).errno, 0);
  const [kept, replayed] = ledger.cells();
  t.same(replayed, kept, "what was refused is nothing when the log is done again");
});

t.test("bytes: a batch does what there is room for, and says how many", async (t) => {
  const ledger = new Ledger({ bytes: 24 });
  const map = ledger.create("alice", ledger.session("alice")).out?.map_id ?? 0;
  ledger.put("alice", map, 1);
  const keys = Buffer.concat([1, 2, 3, 4, 5].map(u32));
  const batch = (imported: boolean): Action & { imported?: true } => ({
    cmd: CMD.BPF_MAP_UPDATE_BATCH,
    target: { by: "id", id: map },
    key: keys,
    value: keys,
    flags: 0n,
    attr: { count: 5, elemFlags: 0n, inBatch: null, outBatch: null },
    ...(imported && { imported }),
  });
  const refused = ledger.run("alice", 0, batch(false));
  t.match(refused, { errno: 12, out: { count: 3, quota: "bytes" } });
  t.match(ledger.has("alice"), { bytes: 24 });
  t.equal(ledger.run("alice", 0, batch(true)).errno, 0, "what the kernel map has already is taken in");
  t.match(ledger.has("alice"), { bytes: 40 });
  t.equal(ledger.put("alice", map, 5).errno, 0);
  const [kept, replayed] = ledger.cells();
  t.same(replayed, kept, "what was refused is nothing when the log is done again");
});

t.test("kernel bytes: buckets, elements and BTF, ENOMEM", async (t) => {
  const blob = Buffer.from("9feb010018000000000000001000000010000000010000000000000000000001040000002000000100", "hex");
  const ledger = new Ledger({ kernel_bytes: BUCKETS_BYTES + ELEMENT_KERNEL_BYTES });
  const session = ledger.session("alice");
  const map = ledger.create("alice", session).out?.map_id ?? 0;
  t.equal(ledger.put("alice", map, 1).errno, 0);
  const text =
    "quota of bytes of kernel memory: alice has 200 of 200, 72 more required (MAPLEDGER_CALLER_KERNEL_BYTES_MAX)";
  refuses(t, ledger.put("alice", map, 2), "ENOMEM", "kernel_bytes", text);
  const load: Action = { cmd: CMD.BPF_BTF_LOAD, value: blob, attr: { btfSize: blob.length } };
  t.match(ledger.run("alice", session, load), { errno: 12, out: { quota: "kernel_bytes" } });
  const { ret: fd } = ledger.run("bob", ledger.session("bob"), load);
  t.match(ledger.has("bob"), { objects: 1, kernel_bytes: blob.length });
  ledger.run("bob", 2, { cmd: CMD.CLOSE, fd, attr: { reason: "close" } });
  t.match(ledger.has("bob"), { objects: 0, kernel_bytes: 0 });
  const [kept, replayed] = ledger.cells();
  t.same(replayed, kept, "what was refused is nothing when the log is done again");
});

t.test("a start counts what was kept up, and who has more than a quota of today keeps it", async (t) => {
  const before = new Ledger({});
  const session = before.session("alice");
  const map = before.create("alice", session).out?.map_id ?? 0;
  before.create("alice", session, { mapFlags: 0 });
  for (let key = 0; key < 5; key++) before.put("bob", map, key);
  before.run("alice", session, { cmd: CMD.OPEN, attr: { kind: "pipe" } });
  const after = new Ledger({ sessions: 1, maps: 1, descriptors: 1, objects: 1, bytes: 8, kernel_bytes: 8 }, before);
  t.strictSame(after.has("alice"), before.has("alice"));
  t.match(after.has("alice"), { sessions: 1, maps: 2, descriptors: 3, objects: 1, bytes: 64 + 5 * 8 });
  t.equal(after.put("alice", map, 4).errno, 0);
  t.equal(after.create("alice", session).errno, 12);
  t.equal(after.engine.state.map(map)?.creator, "alice");
});

t.test("pins and directories: ENOSPC, of who made them, whoever takes them away", (t) => {
  const ledger = new Ledger({ pins: 2 });
  const session = ledger.session("alice");
  const map = ledger.create("alice", session).out?.map_id ?? 0;
  const path = (name: string) => ({ pathname: `/sys/fs/bpf/${name}`, fileFlags: 0, pathFd: 0 });
  const pin = (caller: string, name: string): Outcome =>
    ledger.run(caller, 0, { cmd: CMD.BPF_OBJ_PIN, target: { by: "id", id: map }, attr: path(name) });
  const change = (caller: string, cmd: typeof CMD.MKDIR | typeof CMD.RMDIR | typeof CMD.UNLINK, name: string) =>
    ledger.run(caller, 0, { cmd, attr: { pathname: path(name).pathname } });
  t.equal(change("alice", CMD.MKDIR, "d").errno, 0);
  t.equal(pin("alice", "d/a").errno, 0);
  const text = "quota of pins and directories: alice has 2 of 2, 1 more required (MAPLEDGER_CALLER_PINS_MAX)";
  refuses(t, pin("alice", "d/b"), "ENOSPC", "pins", text);
  refuses(t, change("alice", CMD.MKDIR, "e"), "ENOSPC", "pins", text);
  t.equal(errnoName(pin("alice", "d/a").errno), "EEXIST", "bpffs looks for another inode last");
  t.equal(errnoName(change("alice", CMD.MKDIR, "no/e").errno), "ENOENT");
  t.equal(pin("bob", "d/b").errno, 0, "another caller");
  const after = new Ledger({ pins: 1 }, ledger);
  t.match([after.has("alice"), after.has("bob")], [{ pins: 2 }, { pins: 1 }], "a start counts the same");
  t.equal(change("bob", CMD.UNLINK, "d/a").errno, 0);
  t.equal(change("bob", CMD.UNLINK, "d/b").errno, 0);
  t.match([ledger.has("alice"), ledger.has("bob")], [{ pins: 1 }, { pins: 0 }]);
  t.equal(pin("alice", "d/c").errno, 0);
  t.equal(change("alice", CMD.UNLINK, "d/c").errno, 0);
  t.equal(change("alice", CMD.RMDIR, "d").errno, 0);
  t.match(ledger.has("alice"), { pins: 0 });
  const [kept, replayed] = ledger.cells();
  t.same(replayed, kept, "what was refused is nothing when the log is done again");
  t.end();
});

t.test("maps and objects of a state that tells no creator are the owner's", async (t) => {
  const ledger = new Ledger({});
  const session = ledger.session("alice");
  const map = ledger.create("alice", session).out?.map_id ?? 0;
  const object = ledger.run("alice", session, { cmd: CMD.OPEN, attr: { kind: "pipe" } }).out?.object ?? 0;
  ledger.put("alice", map, 1);
  const { state } = ledger.engine;
  const { creator: _, ...bare } = state.map(map) as MapRecord;
  state.maps.put(u32Key(map), bare);
  const { creator: __, ...pipe } = state.object(object) as ObjectRecord;
  state.objects.put(pipe);
  state.forget();
  t.match(ledger.has("owner"), { maps: 1, objects: 1, bytes: 8 });
  ledger.run("alice", session, { cmd: CMD.SESSION_END, attr: { reason: "ended by request" } });
  t.match(ledger.has("owner"), { maps: 0, objects: 0, bytes: 0, kernel_bytes: 0 });
  const [kept, replayed] = ledger.cells();
  t.same(replayed, kept, "what was refused is nothing when the log is done again");
});

t.test("what does not happen is not charged: a log that fails, commands that run as one", async (t) => {
  const ledger = new Ledger({ maps: 1 });
  const session = ledger.session("alice");
  const before = { ...ledger.has("alice") };
  const create = { cmd: CMD.BPF_MAP_CREATE, session, caller: "alice" } as const;
  const attr = createAttr(
    {
      type: HASH,
      keySize: 4,
      valueSize: 4,
      maxEntries: 8,
      mapFlags: 0,
      name: "",
      mapExtra: 0n,
      numaNode: 0,
      btf: null,
    },
    0,
    0,
  );
  const requests: Request[] = [1, 2].map(() => ({ ...create, attr }));
  t.match(ledger.engine.runWhole(requests, { map: 0, seq: ledger.engine.seq }), {
    refused: { out: { quota: "maps" } },
  });
  t.strictSame(ledger.has("alice"), before);
  const { append } = ledger.log;
  ledger.log.append = () => {
    throw new Error("no");
  };
  t.match(ledger.engine.run(requests), [{ failure: "log failed" }, { failure: "log failed" }]);
  ledger.log.append = append;
  t.strictSame(ledger.has("alice"), before);
  t.equal(ledger.create("alice", session).errno, 0);
  const [kept, replayed] = ledger.cells();
  t.same(replayed, kept, "what was refused is nothing when the log is done again");
});
