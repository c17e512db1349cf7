import { fork } from "node:child_process";
import { once } from "node:events";
import type { Places } from "./archived_state.ts";
import type { DerivedCheck, FromDerivedCheck } from "./derived_main.ts";
import type { Finding } from "./finding.ts";
import { checkHistory } from "./history_check.ts";
import { checkState, type StateReport } from "./state_check.ts";

/** In MiB. Folded cells live long; a larger young generation copies fewer of them before it promotes them. */
const SEMI_SPACE = "--max-semi-space-size=64";

/** The checks of what is computed from the log. */
export interface DerivedChecks {
  /** `progress` is called with the last event that was folded. */
  state(places: Places, progress: (seq: number) => void): Promise<StateReport>;
  history(places: Places): Promise<readonly Finding[]>;
}

/** In this process. */
export const HERE: DerivedChecks = { state: checkState, history: checkHistory };

/** Each in a process of its own. If the process dies, that is a finding. */
export const APART: DerivedChecks = {
  state(places, progress) {
    return new Promise((resolve) => {
      const failed = (why: string): void =>
        resolve({ findings: [{ seq: null, text: `the state cannot be read: ${why}` }], none: null, seq: 0, cells: 0 });
      run("state", places, failed, (message) => {
        if (message.kind === "progress") progress(message.seq);
        else if (message.kind === "state") resolve(message.report);
      });
    });
  },

  history(places) {
    return new Promise((resolve) => {
      const failed = (why: string): void => resolve([{ seq: null, text: `the history cannot be compared: ${why}` }]);
      run("history", places, failed, (message) => {
        if (message.kind === "history") resolve(message.findings);
      });
    });
  },
};

/** `failed` may be called after the check's result, too. */
function run(
  check: DerivedCheck,
  { data, archive }: Places,
  failed: (why: string) => void,
  heard: (message: FromDerivedCheck) => void,
): void {
  const main = new URL("derived_main.ts", import.meta.url);
  const child = fork(main, [check, data, ...(archive === null ? [] : [archive])], {
    stdio: ["ignore", "ignore", "inherit", "ipc"],
    execArgv: [...process.execArgv, SEMI_SPACE],
  });
  child.on("message", (message: FromDerivedCheck) => {
    if (message.kind === "failed") failed(message.error);
    else heard(message);
  });
  // The exit may be told before the last message; the channel's end comes behind that.
  const exited = once(child, "exit") as Promise<[code: number | null, signal: string | null]>;
  Promise.all([exited, once(child, "disconnect")]).then(
    ([[code, signal]]) => failed(`the process that read it ended with ${signal ?? code}`),
    (error: Error) => failed(error.message),
  );
}
