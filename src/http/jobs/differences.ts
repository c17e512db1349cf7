import type { Difference } from "../../replay/compare.ts";
import { DIFFERENCES_MAX } from "../schemas/replays.ts";

/** The most characters of an output that is shown. `replay/compare.ts` cuts outputs to fewer already. */
const OUTPUT_LENGTH_MAX = 4096;

/** Collects the first DIFFERENCES_MAX differences of a replay. */
export class FirstDifferences {
  readonly list: Difference[] = [];

  add(difference: Difference): void {
    if (this.list.length < DIFFERENCES_MAX) this.list.push(shortened(difference));
  }
}

function shortened(difference: Difference): Difference {
  const { recorded, got } = difference;
  return { ...difference, recorded: shortTexts(recorded), got: { ...got, ...shortTexts(got) } };
}

function shortTexts(outputs: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(outputs).map(([name, output]) => [name, shortText(output)]));
}

function shortText(output: unknown): unknown {
  if (typeof output !== "string" || output.length <= OUTPUT_LENGTH_MAX) return output;
  return `${output.slice(0, OUTPUT_LENGTH_MAX)}... (${output.length} characters)`;
}
