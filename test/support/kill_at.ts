import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";

/** Preloaded: the process kills itself where it would call the function of node:fs that KILL_AT names. */
const name = process.env.KILL_AT as "symlinkSync" | "unlinkSync";
fs[name] = () => {
  process.kill(process.pid, "SIGKILL");
  // The signal is there before the next instruction of this thread's.
  throw new Error("killed");
};
syncBuiltinESMExports();
