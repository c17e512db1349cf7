import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";

/** Preloaded: the process kills itself where it would call the function of node:fs that KILL_AT names, the KILL_AT_CALL-th time. */
const name = process.env.KILL_AT as "symlinkSync" | "unlinkSync";
const call = Number(process.env.KILL_AT_CALL ?? 1);
const real = fs[name] as (...all: unknown[]) => unknown;
let calls = 0;
fs[name] = (...all: unknown[]) => {
  if (++calls < call) return real(...all);
  process.kill(process.pid, "SIGKILL");
  // The signal is there before the next instruction of this thread's.
  throw new Error("killed");
};
syncBuiltinESMExports();
