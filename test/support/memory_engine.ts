import { Engine, type EngineParts } from "../../src/engine/engine.ts";
import { MemoryCells } from "../../src/engine/memory.ts";
import { disabledMirror } from "../../src/mirror/mirror.ts";
import { HOST } from "./commands.ts";
import { noPast } from "./no_past.ts";
import { noProcesses } from "./processes.ts";

/** An engine over memory, without a machine below; `parts` in place of its own. */
export function memoryEngine(parts: Pick<EngineParts, "log"> & Partial<EngineParts>): Engine {
  return new Engine({
    store: new MemoryCells(),
    mirror: disabledMirror("not in this test"),
    past: noPast,
    clock: { nowUs: () => 1_000_000, nowMs: () => performance.now() },
    host: HOST,
    interfaces: () => [1],
    processes: noProcesses,
    graceMs: 1000,
    report() {},
    ...parts,
  });
}
