import { join } from "node:path";

/** The name of the folder of the runs, in a state's folder. */
export const RUNS = "runs";

export function runsFolder(folder: string): string {
  return join(folder, RUNS);
}
