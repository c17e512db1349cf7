/** A command as its action gets it. */

import type { Api } from "../../client/api.ts";
import type { At } from "./map_reference.ts";
import type { Output } from "./output.ts";
import type { Words } from "./words.ts";

/** Reports progress on what takes longer than a second. */
export interface Progress {
  update(done: number): void;
  stop(): void;
}

/** A command of the service's own, beside those in bpftool's words: "serve [options]". */
interface OtherCommand {
  readonly usage: string;
  readonly description: string;
}

export interface About {
  readonly version: string;
  readonly others: readonly OtherCommand[];
}

export interface Call {
  readonly api: Api;
  readonly output: Output;
  /** The words after the command. */
  readonly words: Words;
  /** The moment that is read; null: now. */
  readonly at: At;
  /** What the program is, for texts about it. */
  readonly about: About;
  readonly options: { readonly pins: boolean; readonly dryRun: boolean };
  /** Runs the command of other words, a line of a batch, prints its errors, and returns its exit code. */
  run(words: readonly string[]): Promise<number>;
  /** `what`: "dumping"; `unit`: of `total`, "elements". */
  progress(what: string, total: number, unit: string): Progress;
}

/** Runs a command. Throws a Failure with its exit code, or WrongUsage. */
export type Action = (call: Call) => Promise<void>;
