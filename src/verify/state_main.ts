import { checkState, type StateReport } from "./state_check.ts";

/**
 * The process that checks the state. It runs beside the one that reads the log, and may die alone: LMDB trusts the
 * pages that it maps, and a damaged page can end the process.
 */
export type FromStateCheck =
  | { readonly kind: "progress"; readonly seq: number }
  | { readonly kind: "report"; readonly report: StateReport }
  | { readonly kind: "failed"; readonly error: string };

const say = (message: FromStateCheck): Promise<void> =>
  new Promise((resolve) => {
    process.send?.(message, undefined, undefined, () => resolve());
  });

process.on("disconnect", () => process.exit(1));
const [data = "", archive = null] = process.argv.slice(2);
try {
  await say({
    kind: "report",
    report: await checkState({ data, archive }, (seq) => say({ kind: "progress", seq })),
  });
} catch (error) {
  await say({ kind: "failed", error: (error as Error).message });
}
process.exit(0);
