/**
 * Recovers the state at a start: redoes all events that the store does not have, with `redo`, which decides nothing
 * (`syscall/execute.ts`). Only events that may have changed the state are read, many in one row (`sqlite/changes.ts`).
 */

import type { Event } from "../log/event.ts";
import { redo } from "../syscall/execute.ts";
import type { State } from "../syscall/state.ts";
import type { Drift } from "./drift.ts";
import type { Leases } from "./leases.ts";
import type { MachineWatch } from "./machine_watch.ts";
import type { EventLog, Mirror, StateStore } from "./ports.ts";
import type { StateWrites } from "./state_writes.ts";
import type { Windows } from "./windows.ts";

export interface RecoveryParts {
  readonly log: Pick<EventLog, "lastSeq" | "changes">;
  readonly store: Pick<StateStore, "seq">;
  /** A state over the store's cells that no mirror follows: kernel maps are taken up after the recovery. */
  readonly state: State;
  readonly writes: Pick<StateWrites, "replayed" | "all">;
  /**
   * Called once, with the last event of the store. Its answer is called with each event before it is redone; null: no
   * kernel map follows.
   */
  readonly windows: (from: number) => Pick<Windows, "before"> | null;
}

export interface ResumeParts {
  /** The state that was recovered. */
  readonly state: State;
  readonly leases: Pick<Leases, "lend">;
  readonly machine: Pick<MachineWatch, "hasMap">;
  readonly drift: Pick<Drift, "watch">;
  readonly mirror: Pick<Mirror, "takeUpObjects">;
}

/** Events between two reports of the progress. */
const PROGRESS_EVENTS = 10_000;

/**
 * Redoes all events that the store does not have, and writes the changed cells. Throws if the state has events that the
 * log lacks.
 */
export async function replayLog(
  { log, store, state, writes, windows }: RecoveryParts,
  progress: (done: number, total: number) => void,
): Promise<void> {
  const before = store.seq;
  if (before > log.lastSeq)
    throw new Error(`recovering the state: it has events up to ${before}, the log ends at ${log.lastSeq}`);
  const noted = windows(before);
  let seq = before;
  let told = before;
  for await (const events of log.changes(before)) {
    for (const event of events) {
      noted?.before(event);
      redoEvent(state, event);
    }
    seq = events.at(-1)?.seq ?? seq;
    await writes.replayed(seq);
    if (seq - told < PROGRESS_EVENTS) continue;
    told = seq;
    progress(seq - before, log.lastSeq - before);
  }
  await writes.all(log.lastSeq);
}

/**
 * Begins again everything that only a running engine has: each living session gets a full lease, maps are watched, and
 * objects of the host are opened.
 */
export function resume({ state, leases, machine, drift, mirror }: ResumeParts): void {
  state.survey({
    session: (session) => leases.lend(session),
    map(map) {
      machine.hasMap(map.type);
      drift.watch(map);
    },
  });
  // Collects the pins of each map now, so that no command has to wait for it.
  state.bpffs.pinsOf(0);
  state.settle();
  mirror.takeUpObjects(state.objects.all());
}

function redoEvent(state: State, { seq, command, outcome }: Event): void {
  try {
    redo(state, command, outcome);
  } catch (error) {
    throw new Error(`replaying event ${seq}: ${(error as Error).message}`, { cause: error });
  }
}
