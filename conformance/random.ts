import { isDeepStrictEqual } from "node:util";
import * as fc from "fast-check";
import { readHost } from "../src/host.ts";
import { Differential } from "./differential.ts";
import { Kernel } from "./kernel.ts";
import { HOST, type Mirrored, Service } from "./service.ts";
import type { StreamType } from "./shapes.ts";
import { type Step, streams } from "./stream.ts";

export interface RandomOptions {
  readonly types: readonly StreamType[];
  readonly seed: number;
  /** Ends with the stream behind which at least so many commands have been sent, and the time is over. */
  readonly commands: number;
  readonly timeMs: number;
  /** The mirror that the service has, and what is looked at after each command; a new one for each stream. */
  readonly mirrored?: () => Mirrored & { close(): void };
}

export interface Judged {
  /** Commands that each has been sent. */
  readonly commands: number;
  /** How many of them were about maps of each type. */
  readonly byType: ReadonlyMap<StreamType, number>;
}

/** Values of each CPU are as many as the kernel has CPUs. */
const { possibleCpus } = readHost();

/** Streams of a run: far more than commands or time allow. */
const STREAMS_MAX = 10_000_000;

/**
 * Sends random streams to the service and to the kernel. Throws where they differ, or where the service's state is not
 * the fold of its log, with the shortest stream that still shows it.
 */
export function compareRandomly({ types, seed, commands, timeMs, mirrored }: RandomOptions): Judged {
  let sent = 0;
  const byType = new Map<StreamType, number>();
  const started = performance.now();
  let failed = false;
  const alike = (steps: readonly Step[]): void => {
    // Shrinking goes on, however long it takes.
    if (!failed && sent >= commands && performance.now() - started >= timeMs) throw new Enough();
    const mirror = mirrored?.();
    const service = new Service({}, { ...HOST, possibleCpus }, mirror);
    const kernel = new Kernel(possibleCpus);
    const differential = new Differential(service, kernel, possibleCpus);
    try {
      differential.run(steps);
      const { state, fold } = service.cells();
      if (!isDeepStrictEqual(fold, state)) throw new Error("the state is not the fold of the log");
    } catch (error) {
      failed = true;
      throw error;
    } finally {
      kernel.end();
      mirror?.close();
    }
    sent += differential.commands;
    for (const [type, count] of differential.judged) byType.set(type, (byType.get(type) ?? 0) + count);
  };
  const run = fc.check(fc.property(streams(types), alike), { seed, numRuns: STREAMS_MAX, endOnFailure: false });
  if (run.failed && !(run.errorInstance instanceof Enough))
    throw new Error(fc.defaultReportMessage(run) ?? "the streams differ", { cause: run.errorInstance });
  return { commands: sent, byType };
}

class Enough extends Error {}
