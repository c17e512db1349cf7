import t from "tap";
import { CMD } from "../../src/abi/service.ts";
import type { Engine, EngineParts } from "../../src/engine/engine.ts";
import { MemoryCells } from "../../src/engine/memory.ts";
import { answerQuery } from "../../src/engine/queries.ts";
import type { Reply, Request } from "../../src/engine/request.ts";
import type { Cell, CellKey } from "../../src/maps/cells.ts";
import { disabledMirror } from "../../src/mirror/mirror.ts";
import { createAttr } from "../support/commands.ts";
import { memoryEngine } from "../support/memory_engine.ts";
import { MemoryLog } from "../support/memory_log.ts";

/** A store that the machine does not let be read, after so many reads. */
class UnreadCells extends MemoryCells {
  code: string | null = null;
  reads = 0;

  #read(): void {
    if (this.code !== null && this.reads-- <= 0)
      throw Object.assign(new Error("the file cannot be opened"), { code: this.code });
  }

  override get(key: CellKey): Buffer | undefined {
    this.#read();
    return super.get(key);
  }

  override *range(from: CellKey, to: CellKey): Iterable<Cell> {
    this.#read();
    yield* super.range(from, to);
  }
}

const who = { session: 1, caller: "a" } as const;
const open: Request = { cmd: CMD.SESSION_OPEN, session: 0, caller: "a", attr: { name: "", ttlMs: 60_000 } };
const create: Request = { ...who, cmd: CMD.BPF_MAP_CREATE, attr: createAttr({}) };
const end: Request = { ...who, cmd: CMD.SESSION_END, attr: { reason: "ended by request" } };
const run = (engine: Engine, request: Request): Reply => engine.run([request])[0] as Reply;

/** An engine that has nothing of its state in memory, with a session that has two maps. */
async function stored(
  parts: Partial<EngineParts> = {},
): Promise<{ log: MemoryLog; store: UnreadCells; engine: Engine }> {
  const log = new MemoryLog();
  const store = new UnreadCells();
  const first = memoryEngine({ log, store });
  for (const request of [open, create, create]) run(first, request);
  await first.written();
  const engine = memoryEngine({ log, store, ...parts });
  await engine.recover(() => {});
  // What it reads once is read.
  engine.state.charges.settle();
  return { log, store, engine };
}

t.test("while the state cannot be read, what needs it says so and does nothing", async (t) => {
  const rows = [
    ["EMFILE", "state failed"],
    ["ENOSPC", "disk full"],
  ] as const;
  for (const [code, failure] of rows) {
    const { log, store, engine } = await stored();
    const { lastSeq } = log;
    store.code = code;
    const refused = { failure, done: "nothing", detail: /^the state has failed, and is tried again: the file/ };
    for (const request of [open, create, end]) t.match(run(engine, request), refused, `${code}: ${request.cmd}`);
    const asked = (): unknown => answerQuery(engine.sources, "session", { id: 1 });
    t.throws(asked, { name: "PartFailed", fault: { part: "state", full: code === "ENOSPC" } }, code);
    t.equal(log.lastSeq, lastSeq, `${code}: nothing has happened`);
    store.code = null;
    t.match(run(engine, open), { outcome: { errno: 0, out: { session_id: 2 } } }, `${code}: it is read again`);
    t.match(asked(), { id: 1 });
  }
});

t.test("a session ends with all of its descriptors, or not at all", async (t) => {
  const refusals = new Set<number>();
  for (let reads = 0; ; reads++) {
    const { log, store, engine } = await stored();
    const { lastSeq } = log;
    store.code = "EMFILE";
    store.reads = reads;
    const reply = run(engine, end);
    store.code = null;
    if ("seq" in reply) break;
    refusals.add(reads);
    t.match(reply, { failure: "state failed", done: "nothing" }, `after ${reads} reads`);
    t.equal(log.lastSeq, lastSeq, `after ${reads} reads nothing has happened`);
    t.match(run(engine, end), { seq: lastSeq + 3, outcome: { errno: 0 } }, `after ${reads} reads it ends later`);
    t.equal(engine.state.map(1), undefined);
    t.equal(engine.state.map(2), undefined);
  }
  t.ok(refusals.size > 3, `${refusals.size} reads fail, one after the other`);
});

t.test("what the machine has told is recorded when the state can be read again", async (t) => {
  let ended: readonly number[] = [];
  const mirror = {
    ...disabledMirror("off"),
    endedObjects(): readonly number[] {
      const told = ended;
      ended = [];
      return told;
    },
  };
  const { log, store, engine } = await stored({ mirror });
  const { lastSeq } = log;
  ended = [7];
  store.code = "EMFILE";
  t.match(run(engine, open), { failure: "state failed" });
  t.equal(log.lastSeq, lastSeq);
  store.code = null;
  t.match(run(engine, open), { seq: lastSeq + 2 });
  t.same(
    log.rows.slice(-2).map(({ cmd }) => cmd),
    [CMD.OBJECT_END, CMD.SESSION_OPEN],
  );
});

t.test("a batch that throws has not happened", async (t) => {
  const { log, engine } = await stored();
  const { lastSeq } = log;
  const broken = {
    get cmd(): never {
      throw new Error("out of order");
    },
  } as unknown as Request;
  t.throws(() => engine.run([open, broken]), { message: "out of order" });
  t.equal(log.lastSeq, lastSeq);
  t.match(run(engine, open), { seq: lastSeq + 1, outcome: { out: { session_id: 2 } } }, "the session was not opened");
});
