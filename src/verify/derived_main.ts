/**
 * A process that checks the state or the history. It runs beside the one that reads the log, and may die alone: LMDB
 * trusts the pages that it maps, and a damaged page can end the process.
 */

import type { Finding } from "./finding.ts";
import { checkHistory } from "./history_check.ts";
import { checkState, type StateReport } from "./state_check.ts";

export type DerivedCheck = "state" | "history";

export type FromDerivedCheck =
  | { readonly kind: "progress"; readonly seq: number }
  | { readonly kind: "state"; readonly report: StateReport }
  | { readonly kind: "history"; readonly findings: readonly Finding[] }
  | { readonly kind: "failed"; readonly error: string };

const say = (message: FromDerivedCheck): Promise<void> =>
  new Promise((resolve) => {
    process.send?.(message, undefined, undefined, () => resolve());
  });

process.on("disconnect", () => process.exit(1));
const [check, data = "", archive = null] = process.argv.slice(2) as [DerivedCheck, string, string | undefined];
const places = { data, archive };
try {
  if (check === "history") await say({ kind: check, findings: await checkHistory(places) });
  else await say({ kind: check, report: await checkState(places, (seq) => say({ kind: "progress", seq })) });
} catch (error) {
  await say({ kind: "failed", error: (error as Error).message });
}
process.exit(0);
