import t from "tap";
import { CMD } from "../../src/abi/service.ts";
import { Engine } from "../../src/engine/engine.ts";
import { MemoryCells } from "../../src/engine/memory.ts";
import type { OpenedObject } from "../../src/engine/ports.ts";
import type { Reply, Request } from "../../src/engine/request.ts";
import { disabledMirror } from "../../src/mirror/mirror.ts";
import { MemoryLog } from "../support/memory_log.ts";
import { host } from "../support/mirror.ts";
import { noPast } from "../support/no_past.ts";
import { noProcesses } from "../support/processes.ts";

/** An engine whose mirror opens objects, and counts what becomes of them. */
function opening(): { run: (request: Partial<Request>) => Reply; kept: () => number; dropped: () => number } {
  let [kept, dropped] = [0, 0];
  const openObject = (): OpenedObject => ({
    found: { facts: { kind: "pipe" } },
    keep: () => kept++,
    drop: () => dropped++,
  });
  const engine = new Engine({
    log: new MemoryLog(),
    store: new MemoryCells(),
    mirror: { ...disabledMirror("off"), openObject },
    clock: { nowUs: () => 1, nowMs: () => 1 },
    host,
    interfaces: () => [1],
    processes: noProcesses,
    past: noPast,
    graceMs: 0,
    report(message, error) {
      throw new Error(message, { cause: error });
    },
  });
  const run = (request: Partial<Request>): Reply =>
    engine.run([{ session: 1, caller: "a", ...request } as Request])[0] as Reply;
  run({ cmd: CMD.SESSION_OPEN, session: 0, attr: { name: "", ttlMs: 60_000 } });
  return { run, kept: () => kept, dropped: () => dropped };
}

const PIPE = { cmd: CMD.OPEN, attr: { kind: "pipe" } } as const;

t.test("an object that was opened is kept with its event", (t) => {
  const { run, kept, dropped } = opening();
  t.match(run(PIPE), { outcome: { errno: 0 } });
  t.same([kept(), dropped()], [1, 0]);
  t.end();
});

t.test("an object whose caller lost his limits meanwhile is closed", (t) => {
  const { run, kept, dropped } = opening();
  t.match(run({ ...PIPE, limits: 7 }), { failure: "scope missing" });
  t.same([kept(), dropped()], [0, 1]);
  t.end();
});
