import { fork } from "node:child_process";
import type { Places } from "./archived_state.ts";
import type { StateReport } from "./state_check.ts";
import type { FromStateCheck } from "./state_main.ts";

/** In MiB. Folded cells live long; a larger young generation copies fewer of them before it promotes them. */
const SEMI_SPACE = "--max-semi-space-size=64";

/** Checks the state in a process of its own. If the process dies, the report has that as its finding. */
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
    child.on("exit", (code, signal) =>
      fail(`the state cannot be read: the process that read it ended with ${signal ?? code}`),
    );
  });
}
