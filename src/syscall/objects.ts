/**
 * Programs, sockets, cgroups, processes, files: objects that are no maps. A descriptor refers to one. Elements hold it,
 * or are tied to it and go when it does. If the mirror is on, a thread of its own opens the real object before the
 * command is decided (`mirror/object_opener.ts`), and its facts (a cookie, a program's id and type) come with the
 * command. So the core asks nobody, and neither does a replay. Without a machine `open.ts` makes up the facts.
 *
 * If the machine ends an object, or its network interfaces change, that is a command, too (OBJECT_END, INTERFACES), so
 * that a replay needs no machine.
 */

import { afterPrefix, bytesKey, type CellKey, type Cells, firstIn, readU32Key, u32Key } from "../maps/cells.ts";
import { identityOf, type ObjectFacts, type ObjectRecord } from "../maps/object.ts";
import { firstAbove } from "./ascending.ts";
import type { Follower } from "./follower.ts";
import { jsonCodec, numberCodec, Table } from "./table.ts";

/** An element that is deleted together with an object. */
export interface Tie {
  readonly map: number;
  readonly key: Buffer;
}

/**
 * Why tied elements are deleted: the object's last reference was released, or it has ended (a process exited, a cgroup
 * was removed).
 */
export type Leaving = "released" | "ended";

/** The table of objects. */
export const OBJECTS = "o";

/**
 * Objects that are not maps, as tables over cells:
 *
 *   o object id                    -> object
 *   i identity                     -> object id, for objects that can be opened again
 *   q object id                    -> number of references by descriptors and elements
 *   t object id, map id, key       -> (empty): a tie, an element that is deleted together with the object
 *   y object id                    -> the deletion of its ties is deferred, because of "released" or "ended"
 *
 * An object without references is deleted together with its ties. A cgroup, a process or a file with a path exists on
 * the machine without descriptors: it is kept as long as an element is tied to it.
 */
export class Objects {
  readonly #cells: Cells;
  readonly #follower: Pick<Follower, "objectGone">;
  readonly #records: Table<ObjectRecord>;
  readonly #identities: Table<number>;
  readonly #holds: Table<number>;
  /** The object whose ties are being deleted; 0: none. Whether it is deleted itself is decided after its ties. */
  #leaves = 0;
  /** Read when it is first needed, then kept up to date. */
  #btfs: number[] | null = null;
  /** Called for each object that is added (1) or deleted (-1). */
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
    this.#btfs = null;
    this.#leaves = 0;
  }

  get(id: number): ObjectRecord | undefined {
    return this.#records.get(u32Key(id));
  }

  *all(): Iterable<ObjectRecord> {
    for (const [, object] of this.#records.from("")) yield object;
  }

  /** The known object with these facts' identity. */
  known(facts: ObjectFacts): ObjectRecord | undefined {
    const identity = identityOf(facts);
    const id = identity === null ? undefined : this.#identities.get(bytesKey(Buffer.from(identity)));
    return id === undefined ? undefined : this.get(id);
  }

  /** The smallest id of BTF above `id`; undefined: there is none. */
  btfAfter(id: number): number | undefined {
    const ids = this.#btfIds();
    return ids[firstAbove(ids, id)];
  }

  /** The ids of all BTF, ascending. */
  #btfIds(): number[] {
    if (this.#btfs === null) {
      const ids: number[] = [];
      for (const key of this.#identities.keysUnder(BTF_IDENTITY)) ids.push(Number(key.slice(BTF_IDENTITY.length)));
      this.#btfs = ids.sort((a, b) => a - b);
    }
    return this.#btfs;
  }

  /** The program with this id; if several had the id one after the other, the last. */
  program(progId: number): ObjectRecord | undefined {
    let last: ObjectRecord | undefined;
    for (const object of this.all()) if (object.kind === "prog" && object.progId === progId) last = object;
    return last;
  }

  /** Adds an object, or changes a known one's facts: a process that has exited. */
  put(object: ObjectRecord): void {
    if (this.get(object.id) === undefined) {
      this.#counted(object, 1);
      if (object.kind === "btf" && this.#btfs !== null)
        this.#btfs.splice(firstAbove(this.#btfs, object.btfId), 0, object.btfId);
    }
    this.#records.put(u32Key(object.id), object);
    const identity = identityOf(object);
    if (identity !== null) this.#identities.put(bytesKey(Buffer.from(identity)), object.id);
  }

  hold(id: number): void {
    this.#holds.put(u32Key(id), (this.#holds.get(u32Key(id)) ?? 0) + 1);
  }

  /**
   * Releases a reference. Returns the ties to delete if it was the last. `ofInode`: whether a tie's element belongs to
   * the object's inode, not to the object itself (INODE_STORAGE).
   */
  release(id: number, ofInode: (tie: Tie) => boolean): Iterable<Tie> {
    const holds = (this.#holds.get(u32Key(id)) ?? 0) - 1;
    if (holds > 0) {
      this.#holds.put(u32Key(id), holds);
      return [];
    }
    this.#holds.delete(u32Key(id));
    return this.#leaving(id, "released", ofInode);
  }

  /**
   * Notes that a process has exited or a cgroup was removed. Returns the ties to delete; ties of an inode that is still
   * open are kept.
   */
  end(id: number, ofInode: (tie: Tie) => boolean): Iterable<Tie> {
    const object = this.get(id);
    if (object?.kind === "process") this.put({ ...object, exited: true });
    else if (object?.kind === "cgroup") this.put({ ...object, removed: true });
    else return [];
    return this.#leaving(id, "ended", ofInode);
  }

  /** Deletes ties by `remove`, then the object if it has neither references nor ties left. */
  leave(id: number, remove: () => void): void {
    const outer = this.#leaves;
    this.#leaves = id;
    remove();
    this.#leaves = outer;
    this.#settle(id);
  }

  /** Deletes an object that has neither references nor ties. */
  #settle(id: number): void {
    if (id === this.#leaves) return;
    const object = this.get(id);
    if (object === undefined || (this.#holds.get(u32Key(id)) ?? 0) > 0) return;
    for (const _ of this.#ties(id)) return;
    this.#delete(object);
  }

  /** Defers the deletion of an object's ties. */
  defer(id: number, why: Leaving): void {
    this.#cells.put(`y${u32Key(id)}`, Buffer.from(why));
  }

  /** The first object with a deferred deletion of ties. */
  deferred(): number | undefined {
    for (const [cell] of this.#cells.range("y", afterPrefix("y"))) return readU32Key(cell, 1);
    return undefined;
  }

  /** The deferred ties to delete; none if the object was opened again meanwhile. */
  leavingLater(id: number, ofInode: (tie: Tie) => boolean): Iterable<Tie> {
    const why = this.#cells.get(`y${u32Key(id)}`)?.toString() as Leaving | undefined;
    return why === undefined ? [] : this.#leaving(id, why, ofInode);
  }

  /** Ends the deferral: all ties were deleted. */
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

  /** The maps with elements tied to an object, each once. */
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
    if (object.kind === "btf" && this.#btfs !== null) this.#btfs.splice(firstAbove(this.#btfs, object.btfId) - 1, 1);
    this.#records.delete(u32Key(object.id));
    const identity = identityOf(object);
    if (identity !== null) this.#identities.delete(bytesKey(Buffer.from(identity)));
    this.#follower.objectGone(object.id);
  }
}

const NOTHING = Buffer.alloc(0);
/** What the identities of BTF begin with: see `identityOf`. */
const BTF_IDENTITY = bytesKey(Buffer.from("btf "));

function tieKey(id: number, map: number, key: Buffer): CellKey {
  return `t${u32Key(id)}${u32Key(map)}${bytesKey(key)}`;
}

/**
 * Whether an object exists on the machine without descriptors. A pidfd's inode does not: it ends with the last
 * descriptor, whether or not the process lives.
 */
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
