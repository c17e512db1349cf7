/**
 * Work that would take too long in one moment. If more than 2,048 elements would be deleted with maps and objects in
 * one turn, FREE_DEFERRED events delete them later, 2,048 elements each, as the kernel frees maps by its workqueue.
 */

import type { Deferred } from "./outcome.ts";

/** Deferred work: the elements of a freed map, those tied to an object, or those of a map's removed interfaces. */
export type DeferredPiece = { readonly map: number } | { readonly object: number } | { readonly interfaces: number };

/**
 * Decides whether elements are deleted with a command, or later by events of their own because all of them would take too
 * long at once. The decision is in the event: a replay defers the same work.
 */
export class Deferral {
  /**
   * The number of elements that may still be deleted at once, besides those that commands name; larger deletions are
   * deferred.
   */
  atOnce = Number.POSITIVE_INFINITY;
  #deferred: Deferred | null = null;
  /** The work that the event being replayed has deferred; null: none is being replayed. */
  #redone: Deferred | null = null;
  /** Whether there may be deferred work. */
  #mayBe = true;

  /**
   * Begins the replay of an event: exactly the work that it has recorded is deferred. null: the replay has ended, and
   * the number of elements decides again.
   */
  redoing(deferred: Deferred | null): void {
    this.#redone = deferred;
  }

  goesLater(kind: keyof Deferred, id: number, elements: number): boolean {
    return this.#redone === null ? elements > this.atOnce : this.#redone[kind]?.includes(id) === true;
  }

  goAtOnce(elements: number): void {
    if (this.#redone === null) this.atOnce -= elements;
  }

  putOff(kind: keyof Deferred, id: number): void {
    this.#mayBe = true;
    this.#deferred = { ...this.#deferred, [kind]: [...(this.#deferred?.[kind] ?? []), id] };
  }

  /** The work deferred since the last call; null: none. */
  take(): Deferred | null {
    const deferred = this.#deferred;
    if (deferred !== null) this.#deferred = null;
    return deferred;
  }

  /** The next piece that `find` finds; null: there is none. `find` is then not called until more work is put off. */
  next(find: () => DeferredPiece | null): DeferredPiece | null {
    if (!this.#mayBe) return null;
    const piece = find();
    this.#mayBe = piece !== null;
    return piece;
  }

  /** Call this after the cells have gone back to an earlier state. */
  forget(): void {
    this.#deferred = null;
    this.#mayBe = true;
  }
}
