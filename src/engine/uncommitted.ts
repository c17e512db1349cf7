/**
 * The batch under way: its events, and everything that they changed. If the log does not take the events, all of it is
 * rolled back.
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

/** A point of a batch to go back to. */
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
  /** For the mirror. */
  readonly changes: ChangeList;
  /** Real objects that its commands have opened. */
  readonly objects: OpenedObjects;
  #events: Event[] = [];
  /** Of the event before its first. */
  #seq = 0;
  /** Of all its events. */
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

  /** Answers the seq that the event has if the batch becomes durable. */
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

  /** The batch is durable. Answers its changes that the mirror has to carry. */
  settle(): readonly MirrorChange[] {
    this.#cells.settle();
    this.#state.settle();
    this.objects.keep();
    return this.changes.take();
  }
}
