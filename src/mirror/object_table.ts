import { accessSync } from "node:fs";
import { ERRNO, errnoName } from "../abi/errno.ts";
import type { OpenedObject } from "../engine/ports.ts";
import { identityOf, isFullyKnown, type ObjectFacts, type ObjectRecord } from "../maps/object.ts";
import type { Bpf } from "../native/bpf.ts";
import type { Found, HeldObject, ObjectSpec, OpenKind } from "../syscall/command.ts";
import { BPFFS } from "../syscall/pins.ts";
import { refusedFor } from "./capability.ts";
import type { Refused } from "./open_below.ts";
import { haveExited } from "./pidfd.ts";
import { closeObject, type OpenPlaces, openRealObject, type RealObject } from "./real_objects.ts";
import { errnoOf, isShortage } from "./refusal.ts";

/** A directory of bpffs as sessions see it is the ledger's own: the machine has none. */
export function isLedgersOwn({ kind, path }: ObjectSpec): boolean {
  return kind === "dir" && (path === BPFFS || path?.startsWith(`${BPFFS}/`) === true);
}

/** Why there is no object, as an event tells it. */
export function notFound(refused: Refused): Found {
  const errno = errnoName(-refused.ret);
  return { errno: errno in ERRNO ? errno : "EIO", detail: sentenceOf(refused) };
}

function sentenceOf({ ret, detail, needed = [] }: Refused): string {
  return refusedFor(detail, ret, needed);
}

/** The kernel's objects that descriptors of sessions stand for, each held by a descriptor of the service's own. */
export class ObjectTable {
  readonly #bpf: Bpf;
  readonly #places: OpenPlaces;
  readonly #objects = new Map<number, RealObject>();
  /** Ended, and told of. */
  readonly #ended = new Set<number>();
  /** Ended before the service looked. */
  #unseen: number[] = [];
  /** Not opened at the start for want of descriptors or memory, or processes that /proc hides. */
  #later: ObjectRecord[] = [];
  /** Not opened at the start, and why. */
  readonly #untaken = new Map<number, string>();
  /** Made at this start in place of others of the same kind, which ended with the process before. */
  readonly #renewed = new Set<number>();

  constructor(bpf: Bpf, places: OpenPlaces) {
    this.#bpf = bpf;
    this.#places = places;
  }

  /** null: a directory of bpffs as sessions see it. A path is not opened here: it may lead to a file system that does not answer. */
  open(spec: ObjectSpec): OpenedObject | null {
    if (isLedgersOwn(spec)) return null;
    const object = spec.path === undefined ? openRealObject(this.#bpf, spec, this.#places) : NOT_HERE;
    return "facts" in object ? this.take(object.facts, object) : { found: notFound(object), keep() {}, drop() {} };
  }

  /** One that has been opened. */
  take(facts: ObjectFacts, held: HeldObject): OpenedObject {
    const object = { ...held, facts };
    return { found: { facts }, keep: (id) => this.#keep(id, object), drop: () => this.#drop(object) };
  }

  /**
   * After a restart: what has a name is opened by it, the rest is made anew. What is gone has ended meanwhile; what could not be
   * asked has not. Cgroups that were made, and that nothing refers to any more, are removed.
   */
  takeUp(records: Iterable<ObjectRecord>): void {
    const used = new Set<string>();
    for (const record of records) {
      if (record.kind === "cgroup" && record.path !== null && !record.removed) used.add(record.path);
      if (!this.#objects.has(record.id)) this.#takeUp(record);
    }
    this.#places.cgroups.removeLeft(used);
  }

  #takeUp(record: ObjectRecord): void {
    const spec = specOf(record);
    if (spec === null) return;
    const object = openRealObject(this.#bpf, spec, this.#places);
    if ("facts" in object && isSame(record, object)) {
      this.#keep(record.id, { ...object, made: object.made ?? this.#madeFor(record) });
      if (ENDS_WITH_US.has(record.kind)) this.#renewed.add(record.id);
      return;
    }
    if ("facts" in object) this.#drop(object);
    else if (isShortage(object.ret) || (record.kind === "process" && object.ret === -ERRNO.EPERM))
      this.#later.push(record);
    else this.#untaken.set(record.id, sentenceOf(object));
    if (record.kind !== "process" && record.kind !== "cgroup") return;
    if ("facts" in object || GONE.includes(-object.ret)) this.#unseen.push(record.id);
  }

  #madeFor(record: ObjectRecord): HeldObject["made"] {
    if (record.kind !== "cgroup" || record.path === null) return null;
    return this.#places.cgroups.find(record.path, record.cgroupId);
  }

  get hasRenewed(): boolean {
    return this.#renewed.size > 0;
  }

  isRenewed(id: number): boolean {
    return this.#renewed.has(id);
  }

  fd(id: number): number | undefined {
    return this.#objects.get(id)?.fd;
  }

  facts(id: number): ObjectFacts | undefined {
    return this.#objects.get(id)?.facts;
  }

  /** Why the machine's object could not be had at the start; undefined: it could, or the object is the ledger's only. */
  untaken(id: number): string | undefined {
    return this.#untaken.get(id);
  }

  gone(id: number): void {
    const object = this.#objects.get(id);
    this.#untaken.delete(id);
    this.#objects.delete(id);
    this.#ended.delete(id);
    this.#later = this.#later.filter((record) => record.id !== id);
    if (object !== undefined) this.#drop(object);
  }

  /** Processes that have exited and cgroups that were removed, each once. */
  ended(): readonly number[] {
    const later = this.#later;
    this.#later = [];
    for (const record of later) this.#takeUp(record);
    const ended = [...this.#unseen, ...this.#exited(), ...this.#removed()];
    this.#unseen = [];
    for (const id of ended) this.#ended.add(id);
    return ended;
  }

  /** Leaves cgroups that were made as they are, for the next start. */
  close(): void {
    for (const object of this.#objects.values()) this.#close(object);
    this.#objects.clear();
  }

  #keep(id: number, object: RealObject): void {
    // Known already: another descriptor of the same.
    if (this.#objects.has(id)) this.#close(object);
    else this.#objects.set(id, object);
    this.#untaken.delete(id);
    if (object.facts.kind === "process" && object.facts.exited) this.#ended.add(id);
  }

  #drop(object: RealObject): void {
    this.#close(object);
    if (object.made !== null) this.#places.cgroups.remove(object.made);
  }

  #close(object: RealObject): void {
    closeObject((fd) => this.#bpf.close(fd), object);
  }

  #living(kind: "process" | "cgroup"): [id: number, object: RealObject][] {
    return [...this.#objects].filter(([id, { facts }]) => facts.kind === kind && !this.#ended.has(id));
  }

  #exited(): number[] {
    const processes = this.#living("process");
    const exited = haveExited(
      this.#bpf,
      processes.map(([, { fd }]) => fd),
    );
    return processes.filter((_, at) => exited[at]).map(([id]) => id);
  }

  #removed(): number[] {
    return this.#living("cgroup")
      .filter(([, { fd }]) => wasRemoved(fd))
      .map(([id]) => id);
  }
}

/** Kinds of which there is nothing to open again: another one is made. */
const ENDS_WITH_US: ReadonlySet<ObjectRecord["kind"]> = new Set(["socket", "perf_event", "pipe"]);

/** Why a path is not opened by the engine's thread. */
const NOT_HERE: Refused = { ret: -ERRNO.EAGAIN, detail: "a path is opened before its command reaches the engine" };

/** Errnos that say that a process or a cgroup is no more. EINVAL: the pid is a thread's by now. */
const GONE: readonly number[] = [ERRNO.ESRCH, ERRNO.ENOENT, ERRNO.ENOTDIR, ERRNO.EINVAL];

/** A directory that rmdir(2) has taken away has no entries, not even those that every cgroup has. */
function wasRemoved(cgroup: number): boolean {
  return errnoOf(() => accessSync(`/proc/self/fd/${cgroup}/cgroup.procs`)) === -ERRNO.ENOENT;
}

const SOCKET_KINDS: Readonly<Record<string, OpenKind>> = {
  "tcp idle": "tcp_idle",
  "tcp listening": "tcp_listen",
  "tcp connected": "tcp_connected",
  "udp idle": "udp_idle",
  "udp bound": "udp_bound",
  "unix_stream connected": "unix_stream",
  "unix_dgram connected": "unix_dgram",
  "xsk idle": "xsk",
};

/** What opens an object again, or makes one like it; null: nothing has to be opened. */
function specOf(record: ObjectRecord): ObjectSpec | null {
  switch (record.kind) {
    case "pipe":
    case "perf_event":
      return { kind: record.kind };
    case "file":
    case "dir":
      return record.path === null ? { kind: record.kind } : { kind: record.kind, path: record.path };
    case "socket":
      return {
        kind: SOCKET_KINDS[`${record.protocol} ${record.state}`] as OpenKind,
        reuseport: record.reuseport,
      };
    case "process":
      return record.exited ? null : { kind: "pidfd", pid: record.pid };
    case "cgroup":
      return record.removed || record.path === null ? null : { kind: "cgroup", path: record.path };
    case "prog":
      return { kind: "prog", id: record.progId };
    case "btf":
      return null;
  }
}

/**
 * Whether the object that a name has opened is the recorded one. If the record of a program lacks its tag, load time or
 * boot, nothing shows that it is: another program may have the id by now.
 */
function isSame(record: ObjectRecord, { facts }: RealObject): boolean {
  if (record.kind === "process" && facts.kind === "process") return record.startTime === facts.startTime;
  if (record.kind === "cgroup" && facts.kind === "cgroup") return record.cgroupId === facts.cgroupId;
  if (record.kind === "prog") return isFullyKnown(record) && identityOf(record) === identityOf(facts);
  return true;
}
