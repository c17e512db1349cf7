import { serialize } from "node:v8";
import t from "tap";
import { BPF_MAP_TYPE } from "../../src/abi/bpf.ts";
import { CMD } from "../../src/abi/service.ts";
import { IGNORE } from "../../src/engine/followers.ts";
import { FrameWriter } from "../../src/engine/frames.ts";
import { MemoryCells } from "../../src/engine/memory.ts";
import { answerQuery } from "../../src/engine/queries.ts";
import { tell } from "../../src/engine/views.ts";
import { type Cell, type CellKey, u32Key } from "../../src/maps/cells.ts";
import { NAMED_MAX } from "../../src/syscall/map_names.ts";
import { State } from "../../src/syscall/state.ts";
import { Service } from "../http/service.ts";
import { createAttr } from "../support/commands.ts";
import { memoryEngine } from "../support/memory_engine.ts";
import { MemoryLog } from "../support/memory_log.ts";

t.test("what commands that run as one have taken out is not carried across threads", async (t) => {
  const { engine } = await Service.start(t);
  const who = { session: 1, caller: "anonymous" };
  const element = { ...who, target: { by: "id", id: 1 }, key: null, flags: 0n } as const;
  const attr = createAttr({ mapType: BPF_MAP_TYPE.BPF_MAP_TYPE_QUEUE, keySize: 0, valueSize: 60_000 });
  engine.run([
    { ...who, session: 0, cmd: CMD.SESSION_OPEN, attr: { name: "", ttlMs: 60_000 } },
    { ...who, cmd: CMD.BPF_MAP_CREATE, attr },
    { ...element, cmd: CMD.BPF_MAP_UPDATE_ELEM, value: Buffer.alloc(60_000, 1) },
  ]);
  const writer = new FrameWriter();
  writer.request({ ...element, cmd: CMD.BPF_MAP_LOOKUP_AND_DELETE_ELEM, value: null });
  const answer = await answerQuery(engine.sources, "whole", { ...writer.take(), map: 1, seq: engine.seq });
  t.match(answer, { replies: [{ seq: 4, outcome: { errno: 0, map: 1 } }] });
  t.ok(serialize(answer).length < 1000);
});

t.test("of many maps with one name a few are told of", async (t) => {
  const { engine } = await Service.start(t);
  const who = { session: 1, caller: "anonymous" };
  const element = { ...who, key: Buffer.alloc(4), value: null, flags: 0n } as const;
  const lookup = { ...element, cmd: CMD.BPF_MAP_LOOKUP_ELEM, target: { by: "name", name: "same" } } as const;
  const create = {
    ...who,
    cmd: CMD.BPF_MAP_CREATE,
    attr: createAttr({ mapName: Buffer.from("same".padEnd(16, "\0")) }),
  } as const;
  engine.run([{ ...who, session: 0, cmd: CMD.SESSION_OPEN, attr: { name: "", ttlMs: 60_000 } }]);
  engine.run(Array.from({ length: 16 }, () => create));
  const ids = Array.from({ length: 16 }, (_, at) => at + 1).join(", ");
  const all = { outcome: { detail: `16 maps have the name same: ids ${ids}` } };
  t.match(engine.run([lookup]), [all]);
  engine.run(Array.from({ length: 40 }, () => create));
  const some = { outcome: { detail: `more than 16 maps have the name same: ids ${ids} and others` } };
  t.match(engine.run([lookup]), [some]);
  t.match(await answerQuery(engine.sources, "map", { reference: { name: "same" } }), { ambiguous: { length: 17 } });
});

t.test("of many pins of one map the first are shown, and how many there are", async (t) => {
  const { engine } = await Service.start(t);
  const who = { session: 1, caller: "anonymous" };
  const paths = Array.from({ length: 70 }, (_, at) => `/sys/fs/bpf/${String(at).padStart(3, "0")}`);
  engine.run([
    { ...who, session: 0, cmd: CMD.SESSION_OPEN, attr: { name: "", ttlMs: 60_000 } },
    { ...who, cmd: CMD.BPF_MAP_CREATE, attr: createAttr({}) },
    ...paths.toReversed().map(
      (pathname) =>
        ({
          ...who,
          cmd: CMD.BPF_OBJ_PIN,
          target: { by: "fd", fd: 3 },
          attr: { pathname, fileFlags: 0, pathFd: 0 },
        }) as const,
    ),
  ]);
  const view = await answerQuery(engine.sources, "map", { reference: { id: 1 } });
  t.match(view, { pins: 70, holds: 71, pinned: paths.slice(0, 64) });
});

/** Counts the cells that are walked. */
class WalkedCells extends MemoryCells {
  walked = 0;

  override *range(from: CellKey, to: CellKey): Iterable<Cell> {
    for (const cell of super.range(from, to)) {
      this.walked++;
      yield cell;
    }
  }
}

t.test(
  "a page of pins or directories costs what it shows, wherever it begins; so does a look into a directory, or for a name",
  (t) => {
    const cells = new WalkedCells();
    const host = { possibleCpus: 1, pageBytes: 4096, memoryBytes: 2 ** 30, onlineNodes: [0], ifindexes: [] };
    const state = new State(cells, host, IGNORE);
    const names = Array.from({ length: 3000 }, (_, at) => `/sys/fs/bpf/${String(at).padStart(5, "0")}`);
    // Longer than a key has room for: they are told apart by a hash there.
    const long = ["b", "a", "c"].map((end) => `/sys/fs/bpf/9${"x".repeat(2000)}${end}`);
    for (const pathname of [...names, ...long]) {
      state.bpffs.makeDirectory(pathname, "a");
      cells.put(
        `p${pathname.length > 1024 ? `${pathname.slice(0, 1024)}${pathname.at(-1)}` : pathname}`,
        Buffer.from(JSON.stringify({ pathname, map: 1 })),
      );
    }
    const sources = {
      state,
      leases: { view: () => ({ lease: null, leftMs: null }) },
      mirrorStatus: () => ({ state: "off", detail: "" }) as const,
      limits: null,
    };
    const walk = (run: () => unknown): unknown => {
      cells.walked = 0;
      return run();
    };
    for (const list of ["pins", "directories"] as const) {
      const page = walk(() => tell(sources, list, { after: names[2000] as string, limit: 10 })) as unknown[];
      t.match(page[0], list === "pins" ? { pathname: names[2001] } : names[2001]);
      t.equal(page.length, 10);
      t.ok(cells.walked <= 11, `${cells.walked} cells for a page of ${list}`);
    }
    const all: string[] = [];
    for (let page = tell(sources, "directories", { after: "", limit: 700 }); page.length > 0; ) {
      all.push(...page);
      page = tell(sources, "directories", { after: page.at(-1) as string, limit: 700 });
    }
    t.same(all.toSorted(), [...names, ...long].toSorted(), "each once, long ones, too");
    t.equal(
      walk(() => state.bpffs.hasEntries(names[5] as string)),
      false,
    );
    t.ok(cells.walked <= 2, `${cells.walked} cells for what is below a directory`);
    for (let id = 1; id <= 3000; id++) cells.put(`ksame\0${u32Key(id)}`, Buffer.alloc(0));
    t.equal((walk(() => state.names.ids("same")) as number[]).length, NAMED_MAX + 1);
    t.ok(cells.walked <= NAMED_MAX + 1, `${cells.walked} cells for what has a name`);
    state.bpffs.makeDirectory(`${names[5]}/below`, "a");
    t.equal(state.bpffs.hasEntries(names[5] as string), true);
    t.end();
  },
);

t.test(
  "how many descriptors a session has is counted once, and is right whatever comes, goes and is taken back",
  (t) => {
    const engine = memoryEngine({ log: new MemoryLog() });
    const { state } = engine;
    const who = { session: 1, caller: "anonymous" };
    const dup = { ...who, cmd: CMD.DUP, fd: 3 } as const;
    const close = (fd: number) => ({ ...who, cmd: CMD.CLOSE, fd, attr: { reason: "close" } }) as const;
    engine.run([
      { ...who, session: 0, cmd: CMD.SESSION_OPEN, attr: { name: "", ttlMs: 60_000 } },
      { ...who, cmd: CMD.BPF_MAP_CREATE, attr: createAttr({}) },
      ...Array.from({ length: 500 }, () => dup),
    ]);
    t.equal(state.fds.count(1), 501);
    const { range } = state.cells;
    state.cells.range = () => t.fail("the descriptors are walked again") as never;
    t.equal(state.fds.count(1), 501);
    state.cells.range = range;
    engine.run([close(7), close(8), dup]);
    t.equal(state.fds.count(1), 500);
    engine.runWhole([dup, dup, close(2000)], { map: 0, seq: engine.seq });
    t.equal(state.fds.count(1), 500, "none of which has happened");
    t.equal([...state.fds.of(1)].length, 500);
    t.end();
  },
);
