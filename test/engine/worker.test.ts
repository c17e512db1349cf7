import { MessageChannel } from "node:worker_threads";
import t from "tap";
import { CMD } from "../../src/abi/service.ts";
import { EngineClient, portEnd } from "../../src/engine/client.ts";
import { Engine } from "../../src/engine/engine.ts";
import { MemoryCells } from "../../src/engine/memory.ts";
import type { ToEngine } from "../../src/engine/protocol.ts";
import type { Ran } from "../../src/engine/request.ts";
import { serveEngine } from "../../src/engine/worker.ts";
import { disabledMirror } from "../../src/mirror/mirror.ts";
import { createAttr } from "../support/commands.ts";
import { memoryEngine } from "../support/memory_engine.ts";
import { MemoryLog } from "../support/memory_log.ts";
import { host } from "../support/mirror.ts";
import { noPast } from "../support/no_past.ts";
import { noProcesses } from "../support/processes.ts";

const CLOCK = { nowUs: () => Date.now() * 1000, nowMs: () => performance.now() };

const broken = (): never => {
  throw new Error("out of order");
};

t.test("what fails in the engine's thread is told and answered, and the log goes on", async (t) => {
  const told: string[] = [];
  const report = (message: string): unknown => told.push(message);
  const mirror = {
    ...disabledMirror("off"),
    follows: true,
    off: null,
    endedObjects: broken,
    apply: broken,
    openObject: broken,
    kernelMaps: broken,
    watch: broken,
  };
  const log = new MemoryLog();
  const engine = new Engine({
    log,
    store: new MemoryCells(),
    mirror,
    clock: CLOCK,
    host,
    interfaces: broken,
    processes: noProcesses,
    past: noPast,
    graceMs: 0,
    report,
  });
  const { port1, port2 } = new MessageChannel();
  const { sources } = engine;
  serveEngine({ path: engine, ownWork: engine, sources, clock: CLOCK, closed() {}, report }, port1);
  const client = new EngineClient(port2, { commandsMax: 10, bytesMax: 10_000 }, () => {});
  t.teardown(() => port2.postMessage({ say: "close" } satisfies ToEngine));

  const open = { cmd: CMD.SESSION_OPEN, session: 0, caller: "a", attr: { name: "", ttlMs: 60_000 } } as const;
  t.match(await client.run(open), { seq: 1, outcome: { errno: 0 } });
  const ofTheBatch = told.filter((one) => one !== "the work between batches");
  t.same(ofTheBatch, ["looking at the machine", "carrying changes into kernel maps"]);
  const pipe = { cmd: CMD.OPEN, session: 1, caller: "a", attr: { kind: "pipe" } } as const;
  t.match(await client.run(pipe), { failure: "bug" }, "a command that fails has not happened");
  await t.rejects(client.query("kernelMaps", {}), { message: "out of order" }, "a query answers its error");
  t.match(await client.query("session", { id: 1 }), { id: 1 });
  while (!told.includes("the work between batches")) await new Promise((resolve) => setTimeout(resolve, 10));
  t.match(await client.run({ ...open, caller: "b" }), { seq: 2, outcome: { errno: 0 } });
  t.equal(log.lastSeq, 2);
});

t.test(
  "others are answered between the pieces of a large command; what its connection sends behind it waits",
  async (t) => {
    const log = new MemoryLog();
    const engine = memoryEngine({ log, clock: CLOCK, graceMs: 0 });
    const { port1, port2 } = new MessageChannel();
    const { sources } = engine;
    serveEngine({ path: engine, ownWork: engine, sources, clock: CLOCK, closed() {}, report() {} }, port1);
    const client = new EngineClient(port2, { commandsMax: 100, bytesMax: 10_000_000 }, () => {});
    t.teardown(() => port2.postMessage({ say: "close" } satisfies ToEngine));
    const who = { session: 1, caller: "a" } as const;
    const target = { by: "fd", fd: 3 } as const;
    const count = 10_000;
    const keys = Buffer.alloc(count * 4);
    for (let at = 0; at < count; at++) keys.writeUInt32LE(at, at * 4);
    const attr = { count, elemFlags: 0n, inBatch: null, outBatch: null };
    const large = {
      cmd: CMD.BPF_MAP_UPDATE_BATCH,
      ...who,
      target,
      key: keys,
      value: Buffer.alloc(count * 8),
      flags: 0n,
      attr,
    } as const;
    const lookup = {
      cmd: CMD.BPF_MAP_LOOKUP_ELEM,
      ...who,
      target,
      key: keys.subarray(0, 4),
      value: null,
      flags: 0n,
    } as const;
    const [one, other] = [{ destroyed: false }, { destroyed: false }];

    const replies = await Promise.all([
      client.run({ cmd: CMD.SESSION_OPEN, session: 0, caller: "a", attr: { name: "", ttlMs: 60_000 } }, one),
      client.run({ cmd: CMD.BPF_MAP_CREATE, ...who, attr: createAttr({ maxEntries: count }) }, one),
      client.run(large, one),
      client.run(lookup, one),
      client.run(lookup, other),
    ]);
    t.equal(client.waiting, 0);
    const [, , written, behind, between] = replies as Ran[];
    t.match(written, { seq: 13, outcome: { errno: 0, out: { count } } }, "pieces of 1,024");
    t.match(behind, { seq: 14, outcome: { errno: 0 } });
    t.equal(between?.seq, 3, "which went before the first piece");
  },
);

t.test(
  "batches of several threads that have come run as one; each has its replies, and the service its figures",
  async (t) => {
    const log = new MemoryLog();
    const engine = memoryEngine({ log, clock: CLOCK, graceMs: 0 });
    const service = new MessageChannel();
    const { sources } = engine;
    serveEngine({ path: engine, ownWork: engine, sources, clock: CLOCK, closed() {}, report() {} }, service.port1);
    const limits = { commandsMax: 100, bytesMax: 1_000_000 };
    const told: number[] = [];
    const own = new EngineClient(service.port2, limits, ({ commands }) => told.push(commands));
    t.teardown(() => service.port2.postMessage({ say: "close" } satisfies ToEngine));
    const open = { cmd: CMD.SESSION_OPEN, session: 0, caller: "a", attr: { name: "", ttlMs: 60_000 } } as const;
    t.match(await own.run(open), { seq: 1 });
    const others = Array.from({ length: 3 }, () => {
      const { port1, port2 } = new MessageChannel();
      service.port2.postMessage({ say: "client", port: port1 } satisfies ToEngine, [port1]);
      return new EngineClient(portEnd(port2), limits, () => {});
    });
    await own.query("stats", {});
    const before = log.rows.length;
    const replies = await Promise.all(others.flatMap((client) => [client.run(open), client.run(open)]));
    t.same(
      replies.map((reply) => (reply as Ran).seq).sort((a, b) => a - b),
      Array.from({ length: 6 }, (_, at) => before + 1 + at),
    );
    for (const at of [0, 2, 4])
      t.equal((replies[at + 1] as Ran).seq, (replies[at] as Ran).seq + 1, "each thread's commands are in their order");
    await own.query("stats", {});
    t.same(told, [1, 6], "one batch, of which the service's thread has the figures");
    t.equal(own.seq, before + 6, "and that the log has grown");
    const all = await Promise.all([...others, own].map((client) => client.run(open)));
    t.equal(new Set(all.map((reply) => (reply as Ran).seq)).size, 4);
    t.equal(own.waiting, 0);
  },
);
