import { afterPrefix, bytesKey, type CellKey, type Cells, readU32Key, u32Key } from "../maps/cells.ts";
import { identityOf, type ObjectFacts, type ObjectRecord } from "../maps/object.ts";
import type { Follower } from "./state.ts";
import { jsonCodec, numberCodec, Table } from "./table.ts";

/** An element that goes when its object does. */
export interface Tie {
  readonly map: number;
  readonly key: Buffer;
}

/**
 * Objects that are no maps, as tables over cells:
 *
 *     o  object id                    -> object
 *     i  identity                     -> object id, of objects that can be opened again
 *     q  object id                    -> how many descriptors and elements hold it
 *     t  object id, map id, key       -> (nothing): an element that goes when the object does
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

  constructor(cells: Cells, follower: Pick<Follower, "objectGone">) {
    this.#cells = cells;
    this.#follower = follower;
    this.#records = new Table(cells, "o", jsonCodec());
    this.#identities = new Table(cells, "i", numberCodec);
    this.#holds = new Table(cells, "q", numberCodec);
  }

  forget(): void {
    this.#records.forget();
    this.#identities.forget();
    this.#holds.forget();
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
    this.#records.put(u32Key(object.id), object);
    const identity = identityOf(object);
    if (identity !== null) this.#identities.put(bytesKey(Buffer.from(identity)), object.id);
  }

  hold(id: number): void {
    this.#holds.put(u32Key(id), (this.#holds.get(u32Key(id)) ?? 0) + 1);
  }

  /** Answers the ties that go with the last hold. `ofInode`: the element belongs to the inode, not to what it is of. */
  release(id: number, ofInode: (tie: Tie) => boolean): readonly Tie[] {
    const holds = (this.#holds.get(u32Key(id)) ?? 0) - 1;
    if (holds > 0) {
      this.#holds.put(u32Key(id), holds);
      return [];
    }
    this.#holds.delete(u32Key(id));
    const object = this.get(id) as ObjectRecord;
    const ties = [...this.#ties(id)];
    const stays = (tie: Tie): boolean => outlivesDescriptors(object, ofInode(tie));
    if (!ties.some(stays)) this.#delete(object);
    return ties.filter((tie) => !stays(tie));
  }

  /** A process has exited, a cgroup was removed: notes it, and answers the ties that go. An inode stays while it is open. */
  end(id: number, ofInode: (tie: Tie) => boolean): readonly Tie[] {
    const object = this.get(id);
    if (object?.kind === "process") this.put({ ...object, exited: true });
    else if (object?.kind === "cgroup") this.put({ ...object, removed: true });
    else return [];
    const isOpen = (this.#holds.get(u32Key(id)) ?? 0) > 0;
    return [...this.#ties(id)].filter((tie) => !isOpen || !ofInode(tie));
  }

  tie(id: number, map: number, key: Buffer): void {
    this.#cells.put(tieKey(id, map, key), NOTHING);
  }

  untie(id: number, map: number, key: Buffer): void {
    this.#cells.delete(tieKey(id, map, key));
    const object = this.get(id);
    if (object === undefined || (this.#holds.get(u32Key(id)) ?? 0) > 0) return;
    for (const _ of this.#ties(id)) return;
    this.#delete(object);
  }

  *tiedMaps(id: number): Iterable<number> {
    for (const { map } of this.#ties(id)) yield map;
  }

  *#ties(id: number): Iterable<Tie> {
    const prefix = `t${u32Key(id)}`;
    for (const [cell] of this.#cells.range(prefix, afterPrefix(prefix)))
      yield { map: readU32Key(cell, prefix.length), key: Buffer.from(cell.slice(prefix.length + 4), "latin1") };
  }

  #delete(object: ObjectRecord): void {
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
