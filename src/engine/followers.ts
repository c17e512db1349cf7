/**
 * The followers of commands (`syscall/follower.ts`): IGNORE, and the list of a batch's changes, which the mirror
 * applies.
 */

import type { MapRecord } from "../maps/map.ts";
import type { Follower } from "../syscall/follower.ts";
import type { MirrorChange } from "./ports.ts";

/** Ignores all changes, because the mirror is off for good or events are redone. */
export const IGNORE: Follower = {
  created() {},
  changed() {},
  frozen() {},
  freed() {},
  pinned() {},
  unpinned() {},
  directoryMade() {},
  directoryRemoved() {},
  objectGone() {},
};

/** The changes of a batch, in order. */
export class ChangeList implements Follower {
  #changes: MirrorChange[] = [];

  /** The number of changes, for truncate(). */
  get length(): number {
    return this.#changes.length;
  }

  truncate(length: number): void {
    this.#changes.length = length;
  }

  /**
   * Replaces the changes after the first `length`, which are an import's, by a mark, so that the mirror does not write
   * them. The kernel map had these elements first, and perhaps has newer ones by now.
   */
  imported(length: number): void {
    this.truncate(length);
    this.#changes.push({ kind: "imported" });
  }

  /**
   * Whether the batch removes a pin or a directory at this path. The machine still has it until the mirror has applied
   * the batch.
   */
  vacates(pathname: string): boolean {
    return this.#changes.some(
      (change) => (change.kind === "unpin" || change.kind === "rmdir") && change.pathname === pathname,
    );
  }

  /** Returns all changes, and begins a new list. Changes of one map's elements that follow each other become one. */
  take(): readonly MirrorChange[] {
    const merged: MirrorChange[] = [];
    for (const change of this.#changes) {
      const last = merged.at(-1);
      if (change.kind === "elements" && last?.kind === "elements" && last.map.id === change.map.id)
        for (const element of change.changes) last.changes.push(element);
      else merged.push(change);
    }
    this.#changes = [];
    return merged;
  }

  created(map: MapRecord, btf: Buffer | null): void {
    this.#changes.push({ kind: "create", map, btf });
  }

  changed(map: MapRecord, key: Buffer, value: Buffer | null, flags: number): void {
    const change = flags === 0 ? { key, value } : { key, value, flags };
    this.#changes.push({ kind: "elements", map, changes: [change] });
  }

  frozen(map: MapRecord): void {
    this.#changes.push({ kind: "freeze", map });
  }

  freed(map: MapRecord): void {
    this.#changes.push({ kind: "free", map });
  }

  pinned(map: MapRecord, pathname: string): void {
    this.#changes.push({ kind: "pin", map, pathname });
  }

  unpinned(pathname: string): void {
    this.#changes.push({ kind: "unpin", pathname });
  }

  directoryMade(pathname: string): void {
    this.#changes.push({ kind: "mkdir", pathname });
  }

  directoryRemoved(pathname: string): void {
    this.#changes.push({ kind: "rmdir", pathname });
  }

  objectGone(id: number): void {
    this.#changes.push({ kind: "object gone", id });
  }
}
