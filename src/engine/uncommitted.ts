/**
 * The batch under way: its events, and marks for everything that they changed: cells, usage of quotas, changes for the
 * mirror, real objects, moments. A command that throws is rolled back to its mark; if the log does not take the events,
 * the whole batch is.
 */

import type { Event } from "../log/event.ts";
import type { Command } from "../syscall/command.ts";
import type { Outcome } from "../syscall/outcome.ts";
import type { State } from "../syscall/state.ts";
import type { ChangeList } from "./followers.ts";
import type { Moments } from "./moments.ts";
import type { OpenedObjects } from "./opened_objects.ts";
import type { PendingCells } from "./pending.ts";
import type { MirrorChange } from "./ports.ts";

/** A point of a batch that it can be rolled back to. */
export interface Mark {
  readonly events: number;
  readonly cells: number;
  readonly usage: number;
  readonly changes: number;
  readonly objects: number;
}

const BEGIN: Mark = { events: 0, cells: 0, usage: 0, changes: 0, objects: 0 };

export interface UncommittedParts {
  readonly state: State;
  readonly cells: PendingCells;
  readonly changes: ChangeList;
  readonly objects: OpenedObjects;
  readonly moments: Moments;
}

export class Uncommitted {
  readonly #state: State;
  readonly #cells: PendingCells;
  readonly #moments: Moments;
  /** The batch's changes, for the mirror. */
  readonly changes: ChangeList;
  /** Real objects that the batch's commands have opened. */
  readonly objects: OpenedObjects;
  #events: Event[] = [];
  /** The seq of the last event before the batch. */
  #seq = 0;
  /** The time of all its events. */
  timeUs = 0;

  constructor({ state, cells, changes, objects, moments }: UncommittedParts) {
    this.#state = state;
    this.#cells = cells;
    this.#moments = moments;
    this.changes = changes;
    this.objects = objects;
  }

  get events(): readonly Event[] {
    return this.#events;
  }

  begin(seq: number, timeUs: number): void {
    this.#events = [];
    this.#seq = seq;
    this.timeUs = timeUs;
  }

  /** Adds an event. Returns the seq that it has if the batch becomes durable. */
  add(command: Command, outcome: Outcome): number {
    const seq = this.#seq + this.#events.length + 1;
    this.#events.push({ seq, command, outcome });
    return seq;
  }

  mark(): Mark {
    return {
      events: this.#events.length,
      cells: this.#cells.mark(),
      usage: this.#state.mark(),
      changes: this.changes.length,
      objects: this.objects.length,
    };
  }

  rollback({ events, cells, usage, changes, objects }: Mark): void {
    this.#events.length = events;
    this.#cells.rollback(cells);
    this.changes.truncate(changes);
    this.#state.rollback(usage);
    this.objects.drop(objects);
    this.#moments.closeFrom(this.#seq + events + 1);
  }

  rollbackAll(): void {
    this.rollback(BEGIN);
  }

  /** Call when the batch is durable. Returns its changes, for the mirror. */
  settle(): readonly MirrorChange[] {
    this.#cells.settle();
    this.#state.settle();
    this.objects.keep();
    return this.changes.take();
  }
}
