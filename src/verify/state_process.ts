import { fork } from "node:child_process";
import type { Places } from "./archived_state.ts";
import type { StateReport } from "./state_check.ts";
import type { FromStateCheck } from "./state_main.ts";

/** Cells that are folded live long: with more room for young ones fewer are copied before they are known for old. In MiB. */
const SEMI_SPACE = "--max-semi-space-size=64";

/** Checks the state in a process of its own; where that dies, that is what was found out. */
export function checkStateApart({ data, archive }: Places, progress: (seq: number) => void): Promise<StateReport> {
  const child = fork(new URL("state_main.ts", import.meta.url), [data, ...(archive === null ? [] : [archive])], {
    stdio: ["ignore", "ignore", "inherit", "ipc"],
    execArgv: [...process.execArgv, SEMI_SPACE],
  });
  return new Promise((resolve) => {
    const fail = (text: string): void => resolve({ findings: [{ seq: null, text }], none: null, seq: 0, cells: 0 });
    child.on("message", (message: FromStateCheck) => {
      if (message.kind === "progress") progress(message.seq);
      else if (message.kind === "report") resolve(message.report);
      else fail(`the state cannot be read: ${message.error}`);
    });
    child.on("error", (error) => fail(`the state cannot be read: ${error.message}`));
    child.on("exit", (code, signal) => fail(`the state cannot be read: what read it ended with ${signal ?? code}`));
  });
}
