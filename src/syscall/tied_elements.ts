/** Elements that belong to an object, for example to a socket or a cgroup, and are deleted when it ends. */

import { factsOf } from "../maps/facts.ts";
import type { MapRecord } from "../maps/map.ts";
import { ANON_INODE } from "../maps/object.ts";
import type { Deferral } from "./deferral.ts";
import type { Leaving, Objects, Tie } from "./objects.ts";
import type { OpenMap } from "./open_map.ts";

/** The parts of the state that tied elements use. */
interface Port {
  readonly objects: Objects;
  readonly deferral: Pick<Deferral, "goesLater" | "goAtOnce" | "putOff">;
  map(id: number): MapRecord | undefined;
  open(map: number): OpenMap;
}

/** Elements that are tied to objects, and are deleted when the object ends: with it, or later. */
export class TiedElements {
  readonly #port: Port;

  constructor(port: Port) {
    this.#port = port;
  }

  tie(object: number, map: number, key: Buffer): void {
    if (object !== ANON_INODE) this.#port.objects.tie(object, map, key);
  }

  untie(object: number, map: number, key: Buffer): void {
    if (object !== ANON_INODE) this.#port.objects.untie(object, map, key);
  }

  isTied(object: number, type: number): boolean {
    for (const map of this.#port.objects.tiedMaps(object)) if (this.#port.map(map)?.type === type) return true;
    return false;
  }

  /** Drops a reference to an object. */
  release(object: number): void {
    this.#remove(object, "released", this.#port.objects.release(object, this.#isOfInode));
  }

  /** A process has exited, a cgroup was removed: its elements go. */
  end(object: number): void {
    this.#remove(object, "ended", this.#port.objects.end(object, this.#isOfInode));
  }

  readonly #isOfInode = ({ map }: Tie): boolean => {
    const record = this.#port.map(map);
    return record !== undefined && factsOf(record.type)?.keyFd === "inode";
  };

  /** Deletes the elements tied to an object, or defers all of them if they are too many. */
  #remove(object: number, why: Leaving, leaving: Iterable<Tie>): void {
    const { deferral, objects } = this.#port;
    const ties: Tie[] = [];
    for (const tie of leaving) {
      if (deferral.goesLater("objects", object, ties.length + 1)) {
        objects.defer(object, why);
        deferral.putOff("objects", object);
        return;
      }
      ties.push(tie);
    }
    deferral.goAtOnce(ties.length);
    objects.leave(object, () => this.#removeAll(object, ties));
  }

  /** Deletes tied elements. Deleting one may free its map, and thereby delete others. */
  #removeAll(object: number, ties: readonly Tie[]): void {
    for (const { map, key } of ties) {
      const tied = this.#port.map(map) === undefined ? null : this.#port.open(map);
      if (tied === null) this.#port.objects.untie(object, map, key);
      else tied.type.remove(tied, key);
    }
  }

  /** Removes at most `limit` of the elements that go later than their object. Answers how many. */
  freeElements(object: number, limit: number): number {
    const { objects } = this.#port;
    const ties: Tie[] = [];
    for (const tie of objects.leavingLater(object, this.#isOfInode)) if (ties.push(tie) === limit) break;
    if (ties.length < limit) objects.undefer(object);
    objects.leave(object, () => this.#removeAll(object, ties));
    return ties.length;
  }
}
