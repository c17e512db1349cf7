import fc from "fast-check";
import t from "tap";
import { BPF_F, BPF_MAP_TYPE } from "../../src/abi/bpf.ts";
import { ERRNO } from "../../src/abi/errno.ts";
import { CMD } from "../../src/abi/service.ts";
import { type MapLimits, mapLimitsOf } from "../../src/access/map_limits.ts";
import { type Limits, UNLIMITED } from "../../src/access/quotas.ts";
import { parseGrants } from "../../src/access/scopes.ts";
import type { Engine } from "../../src/engine/engine.ts";
import { IGNORE } from "../../src/engine/followers.ts";
import { LargeCommands } from "../../src/engine/large_commands.ts";
import { MemoryCells } from "../../src/engine/memory.ts";
import { isLarge, mayBeLarge } from "../../src/engine/pieces.ts";
import type { Ran, Reply, Request } from "../../src/engine/request.ts";
import type { BatchCommand } from "../../src/syscall/command.ts";
import { redo } from "../../src/syscall/execute.ts";
import type { Outcome } from "../../src/syscall/outcome.ts";
import { State } from "../../src/syscall/state.ts";
import { createAttr, HOST } from "../support/commands.ts";
import { dump } from "../support/fold.ts";
import { memoryEngine } from "../support/memory_engine.ts";
import { MemoryLog } from "../support/memory_log.ts";
import { SEED } from "../support/seed.ts";

const T = BPF_MAP_TYPE;
const WHO = { session: 1, caller: "a" } as const;

/** An engine with a session; its large commands run whole, or in pieces. */
class Subject {
  readonly log = new MemoryLog();
  readonly engine: Engine;
  readonly #pieces: LargeCommands;
  /** Called behind each piece. */
  between: () => void = () => {};

  constructor(limits: Limits = UNLIMITED) {
    this.engine = memoryEngine({ log: this.log, limits });
    this.#pieces = new LargeCommands({
      sources: this.engine.sources.reads,
      run: (piece) => this.whole(piece),
    });
    this.whole({ cmd: CMD.SESSION_OPEN, session: 0, caller: "a", attr: { name: "", ttlMs: 60_000 } });
  }

  whole(request: Request): Reply {
    return this.engine.run([request])[0] as Reply;
  }

  pieces(request: Request): Reply {
    if (!mayBeLarge(request) || !isLarge(this.engine.sources.reads, request)) return this.whole(request);
    let answer: Reply | null = null;
    this.#pieces.add(request, (reply) => {
      answer = reply;
    });
    while (this.#pieces.count > 0) {
      this.#pieces.step();
      this.between();
    }
    return answer as unknown as Reply;
  }

  create(attr: object): number {
    const reply = this.whole({ cmd: CMD.BPF_MAP_CREATE, ...WHO, attr: createAttr(attr) });
    return (reply as Ran).outcome.ret;
  }

  parts(): unknown[] {
    return [...this.log.read(0)].flatMap(({ command }) => (command.part === undefined ? [] : [command.part]));
  }
}

function keys(count: number, bytes: number, key: (at: number) => number): Buffer {
  const all = Buffer.alloc(count * bytes);
  for (let at = 0; at < count; at++) {
    // A trie's keys begin with the length of their prefix.
    if (bytes === 8) all.writeUInt32LE(32, at * bytes);
    all.writeUInt32BE(key(at), at * bytes + bytes - 4);
  }
  return all;
}

type BatchCmd =
  | typeof CMD.BPF_MAP_UPDATE_BATCH
  | typeof CMD.BPF_MAP_DELETE_BATCH
  | typeof CMD.BPF_MAP_LOOKUP_BATCH
  | typeof CMD.BPF_MAP_LOOKUP_AND_DELETE_BATCH;

interface Given {
  readonly key?: Buffer | null;
  readonly value?: Buffer | null;
  readonly inBatch?: Buffer | null;
  readonly outBatch?: Buffer | null;
  readonly exact?: boolean;
  readonly elemFlags?: bigint;
}

function batch(cmd: BatchCmd, fd: number, count: number, given: Given = {}): Request {
  const { key = null, value = null, inBatch = null, outBatch = null, exact = false, elemFlags = 0n } = given;
  const target = { by: "fd", fd } as const;
  return { cmd, ...WHO, target, key, value, flags: 0n, exact, attr: { count, elemFlags, inBatch, outBatch } };
}

function updates(fd: number, count: number, keyBytes: number, valueBytes: number, key = (at: number) => at): Request {
  const value = keys(count, valueBytes, (at) => at * 7);
  return batch(CMD.BPF_MAP_UPDATE_BATCH, fd, count, { key: keys(count, keyBytes, key), value });
}

/** What a caller is told of an outcome. */
function told(reply: Reply): object {
  if ("failure" in reply) return reply;
  const { ret, errno, key, value, out }: Outcome = reply.outcome;
  const { count, out_batch, memory } = out ?? {};
  return { ret, errno, key: key?.toString("hex"), value: value?.toString("hex"), count, out_batch, memory };
}

/** Cells but for counters of uses, which failed attempts may take as well. */
function state({ engine }: Subject): [string, string][] {
  return dump(engine.state.cells);
}

const TYPES = [
  { mapType: T.BPF_MAP_TYPE_HASH, keySize: 4, valueSize: 8, valueBytes: 8 },
  { mapType: T.BPF_MAP_TYPE_LRU_HASH, keySize: 4, valueSize: 8, valueBytes: 8 },
  { mapType: T.BPF_MAP_TYPE_PERCPU_HASH, keySize: 4, valueSize: 4, valueBytes: 16 },
  { mapType: T.BPF_MAP_TYPE_ARRAY, keySize: 4, valueSize: 8, valueBytes: 8 },
  { mapType: T.BPF_MAP_TYPE_PERCPU_ARRAY, keySize: 4, valueSize: 4, valueBytes: 16 },
  { mapType: T.BPF_MAP_TYPE_LPM_TRIE, keySize: 8, valueSize: 8, valueBytes: 8, mapFlags: BPF_F.BPF_F_NO_PREALLOC },
] as const;

t.test("in pieces a batch is answered, and changes the state, as it does whole", async (t) => {
  const command = fc.record({
    kind: fc.constantFrom("update", "delete", "lookup", "take", "short", "twice"),
    count: fc.integer({ min: 4000, max: 13_000 }),
    step: fc.constantFrom(1, 3, 11),
    begins: fc.boolean(),
  });
  const run = fc.property(
    fc.constantFrom(...TYPES),
    fc.constantFrom(3000, 9000, 20_000),
    fc.array(command, { minLength: 2, maxLength: 5 }),
    (type, maxEntries, commands) => {
      const subjects = [new Subject(), new Subject()] as const;
      const { keySize, valueBytes } = type;
      const fds = subjects.map((subject) => subject.create({ ...type, maxEntries }));
      t.same(fds, [3, 3]);
      let position: Buffer | null = null;
      for (const { kind, count, step, begins } of commands) {
        const request = ((): Request => {
          const key = (at: number): number => (at * step) % (maxEntries + 1000);
          switch (kind) {
            case "update":
              return updates(3, count, keySize, valueBytes, key);
            case "twice":
              return updates(3, count, keySize, valueBytes, (at) => at % 5000);
            case "short":
              return { ...updates(3, count, keySize, valueBytes), value: Buffer.alloc(3000 * valueBytes) } as Request;
            case "delete":
              return batch(CMD.BPF_MAP_DELETE_BATCH, 3, count, { key: keys(count, keySize, key) });
            case "lookup":
              return batch(CMD.BPF_MAP_LOOKUP_BATCH, 3, count, { inBatch: begins ? null : position });
            case "take":
              return batch(CMD.BPF_MAP_LOOKUP_AND_DELETE_BATCH, 3, count, { inBatch: begins ? null : position });
          }
        })();
        const whole = subjects[0].whole(request);
        const pieces = subjects[1].pieces(request);
        t.same(told(pieces), told(whole), kind);
        const outBatch = (whole as Ran).outcome.out?.out_batch;
        if (outBatch !== undefined) position = Buffer.from(outBatch, "hex");
      }
      t.same(state(subjects[1]), state(subjects[0]));
      const replayed = new State(new MemoryCells(), HOST, IGNORE);
      for (const event of subjects[1].log.read(0)) redo(replayed, event.command, event.outcome);
      t.same(dump(replayed.cells), state(subjects[1]), "and the log says so");
    },
  );
  fc.assert(run, { numRuns: 25, seed: SEED });
});

t.test("octets run in pieces as the batch does that they are", async (t) => {
  const octets = (request: Request, all: Buffer): Request => {
    const attr = { ...(request as Request & BatchCommand).attr, count: 0 };
    return { ...request, key: null, value: all, attr, exact: true, octets: true } as Request;
  };
  for (const { mapType, keySize, valueSize, valueBytes, ...more } of TYPES)
    for (const maxEntries of [3000, 20_000]) {
      const [plain, packed] = [new Subject(), new Subject()];
      for (const subject of [plain, packed]) subject.create({ mapType, keySize, valueSize, maxEntries, ...more });
      const update = updates(3, 5000, keySize, valueBytes) as Request & BatchCommand;
      const given = { ...update, exact: true };
      const removal = { ...given, cmd: CMD.BPF_MAP_DELETE_BATCH, value: null };
      for (const [request, all] of [
        [given, Buffer.concat([update.key as Buffer, update.value as Buffer])],
        [removal, update.key as Buffer],
      ] as const) {
        const one = plain.pieces(request);
        const other = packed.pieces(octets(request, all));
        t.same(other, { ...one, given: 5000 });
      }
      const rows = ({ log }: Subject) => log.rows.map((row) => ({ ...row, time_us: 0 }));
      t.same(rows(packed), rows(plain));
      t.ok(packed.parts().length > 0);
    }
  const subject = new Subject();
  subject.create({ maxEntries: 10_000 });
  const before = subject.log.lastSeq;
  t.match(subject.pieces(octets(updates(3, 1, 4, 8), Buffer.alloc(50_001))), { failure: "invalid body" });
  t.equal(subject.log.lastSeq, before);
});

t.test("each event says which part of which command it is", async (t) => {
  const subject = new Subject();
  subject.create({ maxEntries: 10_000 });
  t.match(subject.pieces(updates(3, 2500, 4, 8)), { seq: 5, outcome: { errno: 0, out: { count: 2500 } } });
  t.same(subject.parts(), [
    { at: 0, of: 2500 },
    { at: 1024, of: 2500, seq: 3 },
    { at: 2048, of: 2500, seq: 3 },
  ]);
  t.match(subject.pieces(updates(3, 1024, 4, 8)), { seq: 6 });
  t.equal(subject.parts().length, 3, "what is small is no part");
});

t.test("where each update may put another element out, pieces are smaller", async (t) => {
  for (const type of [T.BPF_MAP_TYPE_LRU_HASH, T.BPF_MAP_TYPE_LRU_PERCPU_HASH]) {
    const subject = new Subject();
    subject.create({ mapType: type, maxEntries: 400, valueSize: 8 });
    const valueBytes = type === T.BPF_MAP_TYPE_LRU_HASH ? 8 : 8 * HOST.possibleCpus;
    t.match(subject.pieces(updates(3, 1000, 4, valueBytes)), { outcome: { errno: 0, out: { count: 1000 } } });
    t.same(
      subject.parts().map((part) => (part as { at: number }).at),
      [0, 256, 512, 768],
    );
    t.equal(subject.engine.state.entryCount(1), 400);
  }
});

t.test("what is refused as a whole has changed nothing, and its count is as it was given", async (t) => {
  for (const [request, errno] of [
    [batch(CMD.BPF_MAP_UPDATE_BATCH, 9, 5000), ERRNO.EBADF],
    [{ ...updates(3, 5000, 4, 8), exact: true, value: Buffer.alloc(3) } as Request, ERRNO.EINVAL],
    [
      { ...updates(3, 5000, 4, 8), attr: { count: 5000, elemFlags: 1n, inBatch: null, outBatch: null } } as Request,
      ERRNO.EINVAL,
    ],
    [batch(CMD.BPF_MAP_LOOKUP_BATCH, 3, 5000, { elemFlags: 1n }), ERRNO.EINVAL],
    [batch(CMD.BPF_MAP_LOOKUP_BATCH, 3, 5000, { inBatch: Buffer.alloc(2) }), ERRNO.EFAULT],
    [batch(CMD.BPF_MAP_LOOKUP_BATCH, 3, 5000, { inBatch: Buffer.from("ffffff7f", "hex") }), ERRNO.ENOENT],
  ] as const) {
    const subjects = [new Subject(), new Subject()] as const;
    for (const subject of subjects) subject.create({ maxEntries: 10_000 });
    const whole = subjects[0].whole(request);
    t.match(whole, { outcome: { errno } });
    t.same(told(subjects[1].pieces(request)), told(whole));
    t.equal(subjects[1].engine.state.entryCount(1), 0);
  }
});

t.test("an answer ends behind 16 MiB, and the next call goes on from there", async (t) => {
  const subject = new Subject();
  subject.create({ maxEntries: 1000, valueSize: 65_536 });
  t.match(subject.pieces(updates(3, 500, 4, 65_536)), { outcome: { out: { count: 500 } } });
  let found = 0;
  let calls = 0;
  for (let inBatch: Buffer | null = null; ; calls++) {
    const { outcome } = subject.pieces(batch(CMD.BPF_MAP_LOOKUP_BATCH, 3, 1000, { inBatch })) as Ran;
    t.ok((outcome.value?.length ?? 0) <= 16 * 1024 * 1024);
    found += outcome.out?.count ?? 0;
    if (outcome.errno === ERRNO.ENOENT) break;
    t.equal(outcome.errno, 0);
    inBatch = Buffer.from(outcome.out?.out_batch ?? "", "hex");
  }
  t.equal(found, 500);
  t.ok(calls > 0);
});

t.test("others' commands go between; what they do to the map is seen by the pieces behind", async (t) => {
  const subject = new Subject();
  subject.create({ maxEntries: 10_000 });
  const freeze = { by: "fd", fd: 3 } as const;
  let behind = 0;
  subject.between = () => {
    if (++behind !== 2) return;
    subject.whole({ cmd: CMD.BPF_MAP_FREEZE, ...WHO, target: freeze, key: null, value: null, flags: 0n });
  };
  const { outcome } = subject.pieces(updates(3, 9000, 4, 8)) as Ran;
  t.match(outcome, { ret: -1, errno: ERRNO.EPERM, out: { count: 2048 } }, "so many were done before");
  t.equal(subject.engine.state.entryCount(1), 2048);
});

t.test("a descriptor that is another map's by now ends it; a closed one is refused", async (t) => {
  for (const reopens of [true, false]) {
    const subject = new Subject();
    subject.create({ maxEntries: 10_000 });
    let behind = 0;
    subject.between = () => {
      if (++behind !== 1) return;
      subject.whole({ cmd: CMD.CLOSE, ...WHO, fd: 3, attr: { reason: "close" } });
      if (reopens) t.equal(subject.create({ maxEntries: 10_000 }), 3);
    };
    const reply = subject.pieces(updates(3, 9000, 4, 8)) as Ran;
    t.match(reply, { outcome: { ret: -1, errno: ERRNO.EBADF, out: { count: 1024 } } });
    if (reopens) t.equal(subject.engine.state.entryCount(2), 0, "nothing was written to the other map");
  }
});

t.test("a batch that has begun to take out answers what it has, whatever comes then", async (t) => {
  const subject = new Subject();
  subject.create({ maxEntries: 10_000 });
  subject.whole(updates(3, 9000, 4, 8));
  let behind = 0;
  subject.between = () => {
    if (++behind === 2) subject.log.broken = new Error("the disk is gone");
  };
  const { outcome } = subject.pieces(batch(CMD.BPF_MAP_LOOKUP_AND_DELETE_BATCH, 3, 9000)) as Ran;
  const count = outcome.out?.count ?? 0;
  t.match(outcome, { ret: 0, errno: 0 });
  t.ok(count > 1500 && count < 3000);
  t.equal(outcome.key?.length, count * 4);
  t.equal(subject.engine.state.entryCount(1), 9000 - count, "nobody has lost anything");
});

t.test("a log that fails on the way says how much was done before", async (t) => {
  const subject = new Subject();
  subject.create({ maxEntries: 10_000 });
  subject.between = () => {
    subject.log.broken = Object.assign(new Error("full"), { code: "SQLITE_FULL" });
  };
  t.same(subject.pieces(updates(3, 9000, 4, 8)), {
    failure: "disk full",
    detail: "the log's disk is full",
    done: { count: 1024, of: 9000, what: "elements" },
  });
  t.equal(subject.engine.state.entryCount(1), 1024);
});

t.test("memory is read and written in pieces", async (t) => {
  const subjects = [new Subject(), new Subject()] as const;
  for (const subject of subjects)
    subject.create({ mapType: T.BPF_MAP_TYPE_ARRAY, maxEntries: 20_000, mapFlags: BPF_F.BPF_F_MMAPABLE });
  const target = { by: "fd", fd: 3 } as const;
  const memory = 20_000 * 8 + (4096 - ((20_000 * 8) % 4096));
  const store = Buffer.from(Array.from({ length: 100_003 }, (_, at) => at % 251));
  for (const request of [
    { cmd: CMD.MEMORY_WRITE, ...WHO, target, value: store, attr: { offset: 5, length: store.length } },
    { cmd: CMD.MEMORY_WRITE, ...WHO, target, value: store, attr: { offset: memory - 50_000, length: store.length } },
    { cmd: CMD.MEMORY_READ, ...WHO, target, value: null, attr: { offset: 0, length: 2 ** 26 } },
    { cmd: CMD.MEMORY_READ, ...WHO, target, value: null, attr: { offset: -100_000, length: 100_000 } },
    { cmd: CMD.MEMORY_READ, ...WHO, target, value: null, attr: { offset: memory, length: 100_000 } },
  ] as const) {
    const whole = subjects[0].whole(request);
    t.same(told(subjects[1].pieces(request)), told(whole));
  }
  t.same(state(subjects[1]), state(subjects[0]));
  t.ok(subjects[1].parts().length > 5);
});

t.test("several large commands take turns", async (t) => {
  const subject = new Subject();
  for (const _ of [1, 2]) subject.create({ maxEntries: 10_000 });
  const answered: number[] = [];
  const pieces = new LargeCommands({
    sources: subject.engine.sources.reads,
    run: (piece) => subject.whole(piece),
  });
  for (const [fd, count] of [
    [3, 9000],
    [4, 3000],
  ] as const)
    pieces.add(updates(fd, count, 4, 8) as Parameters<LargeCommands["add"]>[0], () => answered.push(fd));
  while (pieces.count > 0) pieces.step();
  t.same(answered, [4, 3], "the shorter one is done first");
});

t.test("a batch in pieces that comes to be over a quota says which, and how many elements are in", async (t) => {
  const COUNT = 50_000;
  const PUT = 40_000;
  const answers = ["whole", "pieces"].map((how) => {
    const subject = new Subject({ ...UNLIMITED, bytes: PUT * 8 });
    const fd = subject.create({ valueSize: 4, maxEntries: COUNT, mapFlags: BPF_F.BPF_F_NO_PREALLOC });
    const given = { key: keys(COUNT, 4, (at) => at), value: Buffer.alloc(COUNT * 4) };
    const reply = subject[how as "whole" | "pieces"](batch(CMD.BPF_MAP_UPDATE_BATCH, fd, COUNT, given)) as Ran;
    t.equal(subject.engine.state.entryCount(1), PUT, how);
    if (how === "pieces") t.ok(subject.parts().length > 1);
    return reply.outcome;
  });
  for (const outcome of answers) t.match(outcome, { errno: ERRNO.ENOMEM, out: { count: PUT, quota: "bytes" } });
  t.strictSame(answers[0], answers[1]);
});

t.test("each piece is held against the limits of the caller, and tells his peer", async (t) => {
  const COUNT = 9000;
  const limits = { ...(mapLimitsOf(parseGrants("read@a*,write@a*")) as MapLimits), id: 7 };
  const target = { by: "id", id: 1 } as const;
  const who = { session: 0, limits: 7, peer: "192.0.2.1", target };
  const mapName = (name: string) => Buffer.from(name.padEnd(16, "\0"));
  const subject = new Subject();
  subject.create({ mapName: mapName("ann"), maxEntries: COUNT });
  subject.create({ mapName: mapName("eel"), maxEntries: COUNT });
  subject.engine.callerLimits.set([limits]);

  const others = { ...updates(3, COUNT, 4, 8), ...who, target: { by: "id", id: 2 } } as Request;
  t.same(subject.pieces(others), {
    failure: "scope missing",
    detail: "a scope write is missing",
    scope: "write",
    done: "nothing",
  });
  t.same(subject.parts(), [], "nothing of it is done");

  t.match(subject.pieces({ ...updates(3, COUNT, 4, 8), ...who } as Request), { outcome: { errno: 0 } });
  const pieces = [...subject.log.read(0)].filter(({ command }) => command.part !== undefined);
  t.ok(pieces.length > 2);
  t.ok(pieces.every(({ command }) => command.peer === "192.0.2.1"));

  let ran = 0;
  subject.between = () => {
    if (++ran === 2) subject.engine.callerLimits.set([]);
  };
  const deleted = { ...batch(CMD.BPF_MAP_DELETE_BATCH, 3, COUNT, { key: keys(COUNT, 4, (at) => at) }), ...who };
  t.same(subject.pieces(deleted as Request), {
    failure: "scope missing",
    detail: "a scope read is missing",
    scope: "read",
    done: { count: COUNT - subject.engine.state.entryCount(1), of: COUNT, what: "elements" },
  });
  t.ok(subject.engine.state.entryCount(1) > 0);
  const read = { ...batch(CMD.BPF_MAP_LOOKUP_BATCH, 3, COUNT), ...who } as Request;
  t.same(subject.pieces(read), {
    failure: "scope missing",
    detail: "a scope read is missing",
    scope: "read",
    done: "nothing",
  });
});
