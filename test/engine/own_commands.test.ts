import t from "tap";
import { CMD } from "../../src/abi/service.ts";
import { Engine } from "../../src/engine/engine.ts";
import { MemoryCells } from "../../src/engine/memory.ts";
import type { EventLog, Mirror, MirrorRefusal } from "../../src/engine/ports.ts";
import type { Request } from "../../src/engine/request.ts";
import { disabledMirror } from "../../src/mirror/mirror.ts";
import { SqliteEventLog } from "../../src/sqlite/event_log.ts";
import { createAttr, HOST } from "../support/commands.ts";
import { noPast } from "../support/no_past.ts";
import { noProcesses } from "../support/processes.ts";

const refusal: MirrorRefusal = { mapId: 1, operation: "BPF_MAP_UPDATE_ELEM", errno: "ENOMEM", detail: "no memory" };

/** An engine over a mirror that refuses what it is told to, and a log that can be broken. */
function start(): {
  engine: Engine;
  log: SqliteEventLog;
  refuse: (refusals: MirrorRefusal[]) => void;
  breakLog: (broken: boolean) => void;
  /** What a retry makes equal, once. */
  repair: (maps: number[]) => void;
} {
  const log = new SqliteEventLog(":memory:");
  let refusals: MirrorRefusal[] = [];
  let broken = false;
  let repaired: number[] = [];
  const answer = (): MirrorRefusal[] => {
    const answered = refusals;
    refusals = [];
    return answered;
  };
  const mirror: Mirror = {
    ...disabledMirror(""),
    follows: true,
    off: null,
    begin: () => null,
    apply: answer,
    open: () => ({ opening: "found", refusals: answer() }),
    traits: () => ({ compared: true, evicts: false }),
    *scan() {
      yield [];
      return null;
    },
    cannotImport: () => null,
    retry() {
      const answered = repaired;
      repaired = [];
      return { repaired: answered, refusals: answer(), drifted: [], reopen: [] };
    },
  };
  const breakable: EventLog = {
    id: log.id,
    life: log.life,
    hashOf: (seq) => log.hashOf(seq),
    lastSeq: 0,
    lastTimeUs: 0,
    append(events) {
      if (broken) throw new Error("broken");
      log.append(events);
    },
    deleteArchived: () => false,
    read: (after) => log.read(after),
    changes: (after) => log.changes(after),
    close() {},
  };
  const clock = { nowUs: () => 1, nowMs: () => performance.now() };
  const engine = new Engine({
    log: breakable,
    store: new MemoryCells(),
    mirror,
    past: noPast,
    clock,
    host: HOST,
    interfaces: () => [1],
    processes: noProcesses,
    graceMs: 0,
    report() {},
  });
  return {
    engine,
    log,
    refuse: (given) => (refusals = given),
    breakLog: (given) => (broken = given),
    repair: (given) => (repaired = given),
  };
}

const open: Request = { session: 0, caller: "t", cmd: CMD.SESSION_OPEN, attr: { name: "", ttlMs: 60_000 } };
const create: Request = { session: 1, caller: "t", cmd: CMD.BPF_MAP_CREATE, attr: createAttr({}) };

t.test("what the kernel refuses the mirror is an event of the next batch, and fails no command", async (t) => {
  const { engine, log, refuse } = start();
  engine.run([open]);
  refuse([refusal]);
  t.match(engine.run([create]), [{ seq: 2, outcome: { errno: 0 } }]);
  t.equal(log.lastSeq, 2);
  engine.idle(true);
  t.match(
    [...log.read(2)],
    [
      {
        seq: 3,
        command: {
          cmd: CMD.MIRROR_REFUSED,
          caller: "mapledger",
          attr: { operation: "BPF_MAP_UPDATE_ELEM", errno: "ENOMEM" },
        },
        outcome: { errno: 0, map: 1 },
      },
    ],
  );
  t.equal((await engine.sources.stats.collect(1)).mirrorRefusals, 1);
});

t.test("a resync is an event with its caller, before what the kernel refused it", async (t) => {
  const { engine, log, refuse } = start();
  engine.run([open, create]);
  refuse([refusal]);
  let isDone = false;
  void engine.kernelMaps.resync(1, { caller: "alice" }).then(() => {
    isDone = true;
  });
  while (!isDone) {
    engine.idle(true);
    await new Promise((resolve) => setImmediate(resolve));
  }
  engine.idle(true);
  t.match(
    [...log.read(2)].map(({ command }) => command),
    [
      { cmd: CMD.MIRROR_RESYNC, caller: "alice", target: { by: "id", id: 1 } },
      { cmd: CMD.MIRROR_REFUSED, caller: "mapledger" },
    ],
  );
});

t.test("what a retry makes equal again is an event, and so is what is refused it", (t) => {
  const { engine, log, refuse, repair } = start();
  engine.run([open, create]);
  repair([1]);
  refuse([refusal]);
  engine.idle(true);
  t.match(
    [...log.read(2)].map(({ command }) => command),
    [
      { cmd: CMD.MIRROR_RESYNC, caller: "mapledger", target: { by: "id", id: 1 }, attr: { operation: "retry" } },
      { cmd: CMD.MIRROR_REFUSED, caller: "mapledger", attr: { errno: "ENOMEM" } },
    ],
  );
  t.end();
});

t.test("what the service has to tell waits while the log is broken, and is told once", (t) => {
  const { engine, log, refuse, breakLog } = start();
  engine.run([open, create]);
  refuse([refusal]);
  engine.run([{ ...open, caller: "u" }]);
  breakLog(true);
  engine.idle(true);
  engine.idle(true);
  t.match(engine.run([open]), [{ failure: "log failed" }]);
  breakLog(false);
  t.match(engine.run([open]), [{ seq: 5 }]);
  t.strictSame(
    [...log.read(3)].map(({ command }) => command.cmd),
    [CMD.MIRROR_REFUSED, CMD.SESSION_OPEN],
  );
  t.end();
});
