import { afterPrefix, bytesKey, type CellKey, type Cells, firstIn, readU32Key, u32Key } from "../maps/cells.ts";
import { identityOf, type ObjectFacts, type ObjectRecord } from "../maps/object.ts";
import type { Follower } from "./follower.ts";
import { jsonCodec, numberCodec, Table } from "./table.ts";

/** An element that goes when its object does. */
export interface Tie {
  readonly map: number;
  readonly key: Buffer;
}

/** Why ties go: nothing holds the object any more, or it has exited or was removed. */
export type Leaving = "released" | "ended";

/** The letter of the table of objects. */
export const OBJECTS = "o";

/**
 * Objects that are no maps, as tables over cells:
 *
 *     o  object id                    -> object
 *     i  identity                     -> object id, of objects that can be opened again
 *     q  object id                    -> how many descriptors and elements hold it
 *     t  object id, map id, key       -> (nothing): an element that goes when the object does
 *     y  object id                    -> why elements that are tied to it go, later than it: "released" or "ended"
 *
 * An object that nothing holds any more is gone, and its ties with it. One that the machine keeps without a descriptor
 * (a cgroup, a process, a file with a path) stays as long as an element is tied to it.
 */
export class Objects {
  readonly #cells: Cells;
  readonly #follower: Pick<Follower, "objectGone">;
  readonly #records: Table<ObjectRecord>;
  readonly #identities: Table<number>;
  readonly #holds: Table<number>;
  /** The object whose elements are being removed: looked at once they are. 0: none. */
  #leaves = 0;
  /** Told of each object that comes (1) and goes (-1). */
  readonly #counted: (object: ObjectRecord, by: 1 | -1) => void;

  constructor(
    cells: Cells,
    follower: Pick<Follower, "objectGone">,
    counted: (object: ObjectRecord, by: 1 | -1) => void,
  ) {
    this.#counted = counted;
    this.#cells = cells;
    this.#follower = follower;
    this.#records = new Table(cells, OBJECTS, jsonCodec());
    this.#identities = new Table(cells, "i", numberCodec);
    this.#holds = new Table(cells, "q", numberCodec);
  }

  forget(): void {
    this.#records.forget();
    this.#identities.forget();
    this.#holds.forget();
    this.#leaves = 0;
  }

  get(id: number): ObjectRecord | undefined {
    return this.#records.get(u32Key(id));
  }

  *all(): Iterable<ObjectRecord> {
    for (const [, object] of this.#records.from("")) yield object;
  }

  /** The object that these facts are about, if it is known. */
  known(facts: ObjectFacts): ObjectRecord | undefined {
    const identity = identityOf(facts);
    const id = identity === null ? undefined : this.#identities.get(bytesKey(Buffer.from(identity)));
    return id === undefined ? undefined : this.get(id);
  }

  /** A program by its id alone: the last one of those that had the id, one after the other. */
  program(progId: number): ObjectRecord | undefined {
    let last: ObjectRecord | undefined;
    for (const object of this.all()) if (object.kind === "prog" && object.progId === progId) last = object;
    return last;
  }

  /** A new object, or what is known of one by other facts: a process that has exited since, say. */
  put(object: ObjectRecord): void {
    if (this.get(object.id) === undefined) this.#counted(object, 1);
    this.#records.put(u32Key(object.id), object);
    const identity = identityOf(object);
    if (identity !== null) this.#identities.put(bytesKey(Buffer.from(identity)), object.id);
  }

  hold(id: number): void {
    this.#holds.put(u32Key(id), (this.#holds.get(u32Key(id)) ?? 0) + 1);
  }

  /** Lets go of it; answers the ties that go with the last hold. `ofInode`: the element belongs to the inode, not to what it is of. */
  release(id: number, ofInode: (tie: Tie) => boolean): Iterable<Tie> {
    const holds = (this.#holds.get(u32Key(id)) ?? 0) - 1;
    if (holds > 0) {
      this.#holds.put(u32Key(id), holds);
      return [];
    }
    this.#holds.delete(u32Key(id));
    return this.#leaving(id, "released", ofInode);
  }

  /** A process has exited, a cgroup was removed: notes it, and answers the ties that go. An inode stays while it is open. */
  end(id: number, ofInode: (tie: Tie) => boolean): Iterable<Tie> {
    const object = this.get(id);
    if (object?.kind === "process") this.put({ ...object, exited: true });
    else if (object?.kind === "cgroup") this.put({ ...object, removed: true });
    else return [];
    return this.#leaving(id, "ended", ofInode);
  }

  /** Removes elements that go with an object, and the object, if nothing is tied to it any more. */
  leave(id: number, remove: () => void): void {
    const outer = this.#leaves;
    this.#leaves = id;
    remove();
    this.#leaves = outer;
    this.#settle(id);
  }

  /** An object that nothing holds, and nothing is tied to, is gone. */
  #settle(id: number): void {
    if (id === this.#leaves) return;
    const object = this.get(id);
    if (object === undefined || (this.#holds.get(u32Key(id)) ?? 0) > 0) return;
    for (const _ of this.#ties(id)) return;
    this.#delete(object);
  }

  /** Its ties go later. */
  defer(id: number, why: Leaving): void {
    this.#cells.put(`y${u32Key(id)}`, Buffer.from(why));
  }

  /** The first object of which ties go later. */
  deferred(): number | undefined {
    for (const [cell] of this.#cells.range("y", afterPrefix("y"))) return readU32Key(cell, 1);
    return undefined;
  }

  /** The ties that are to go; none where it was opened again meanwhile. */
  leavingLater(id: number, ofInode: (tie: Tie) => boolean): Iterable<Tie> {
    const why = this.#cells.get(`y${u32Key(id)}`)?.toString() as Leaving | undefined;
    return why === undefined ? [] : this.#leaving(id, why, ofInode);
  }

  /** All of them have gone. */
  undefer(id: number): void {
    this.#cells.delete(`y${u32Key(id)}`);
  }

  *#leaving(id: number, why: Leaving, ofInode: (tie: Tie) => boolean): Iterable<Tie> {
    const object = this.get(id);
    if (object === undefined) return;
    const isOpen = (this.#holds.get(u32Key(id)) ?? 0) > 0;
    for (const tie of this.#ties(id)) {
      const goes = why === "ended" ? !isOpen || !ofInode(tie) : !isOpen && !outlivesDescriptors(object, ofInode(tie));
      if (goes) yield tie;
    }
  }

  tie(id: number, map: number, key: Buffer): void {
    this.#cells.put(tieKey(id, map, key), NOTHING);
  }

  untie(id: number, map: number, key: Buffer): void {
    this.#cells.delete(tieKey(id, map, key));
    this.#settle(id);
  }

  /** Each map once, however many of its elements are tied to it. */
  *tiedMaps(id: number): Iterable<number> {
    const prefix = `t${u32Key(id)}`;
    for (let from: CellKey = prefix; ; ) {
      const first = firstIn(this.#cells, from, afterPrefix(prefix));
      if (first === undefined) return;
      const map = readU32Key(first[0], prefix.length);
      yield map;
      from = afterPrefix(prefix + u32Key(map));
    }
  }

  *#ties(id: number): Iterable<Tie> {
    const prefix = `t${u32Key(id)}`;
    for (const [cell] of this.#cells.range(prefix, afterPrefix(prefix)))
      yield { map: readU32Key(cell, prefix.length), key: Buffer.from(cell.slice(prefix.length + 4), "latin1") };
  }

  #delete(object: ObjectRecord): void {
    this.#counted(object, -1);
    this.#records.delete(u32Key(object.id));
    const identity = identityOf(object);
    if (identity !== null) this.#identities.delete(bytesKey(Buffer.from(identity)));
    this.#follower.objectGone(object.id);
  }
}

const NOTHING = Buffer.alloc(0);

function tieKey(id: number, map: number, key: Buffer): CellKey {
  return `t${u32Key(id)}${u32Key(map)}${bytesKey(key)}`;
}

/** The inode of a pidfd is gone with the last of them, whatever the process does. */
function outlivesDescriptors(object: ObjectRecord, asInode: boolean): boolean {
  switch (object.kind) {
    case "file":
    case "dir":
      return object.path !== null;
    case "process":
      return !asInode;
    case "cgroup":
      return !object.removed;
    case "pipe":
    case "socket":
    case "perf_event":
    case "prog":
    case "btf":
      return false;
  }
}
