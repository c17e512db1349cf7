import { accessSync } from "node:fs";
import { ERRNO, errnoName } from "../abi/errno.ts";
import type { OpenedObject } from "../engine/ports.ts";
import { identityOf, isFullyKnown, type ObjectFacts, type ObjectRecord } from "../maps/object.ts";
import type { Bpf } from "../native/bpf.ts";
import type { Found, HeldObject, ObjectSpec, OpenKind } from "../syscall/command.ts";
import { BPFFS } from "../syscall/pins.ts";
import { refusedFor } from "./capability.ts";
import type { OpenRefusal } from "./open_below.ts";
import { haveExited } from "./pidfd.ts";
import { closeObject, type OpenPlaces, openRealObject, type RealObject } from "./real_objects.ts";
import { errnoOf, isShortage } from "./refusal.ts";

/**
 * Whether a spec names a directory at or below /sys/fs/bpf. Sessions see such directories, but they exist in the ledger
 * only.
 */
export function isLedgersOwn({ kind, path }: ObjectSpec): boolean {
  return kind === "dir" && (path === BPFFS || path?.startsWith(`${BPFFS}/`) === true);
}

/** A refusal in the form that an event records. */
export function notFound(refused: OpenRefusal): Found {
  const errno = errnoName(-refused.ret);
  return { errno: errno in ERRNO ? errno : "EIO", detail: sentenceOf(refused) };
}

function sentenceOf({ ret, detail, needed = [] }: OpenRefusal): string {
  return refusedFor(detail, ret, needed);
}

/** The kernel objects that sessions' descriptors refer to, each held by a descriptor of the service. */
export class ObjectTable {
  readonly #bpf: Bpf;
  readonly #places: OpenPlaces;
  readonly #objects = new Map<number, RealObject>();
  /** Objects whose end has been reported. */
  readonly #ended = new Set<number>();
  /** Objects that ended before the service looked. */
  #unseen: number[] = [];
  /** Objects that the start could not open for lack of descriptors or memory, and processes that /proc hides. */
  #later: ObjectRecord[] = [];
  /** Objects that the start could not open, with the reasons. */
  readonly #untaken = new Map<number, string>();
  /** Objects that this start has made anew, because the former ones ended with the former process. */
  readonly #renewed = new Set<number>();

  constructor(bpf: Bpf, places: OpenPlaces) {
    this.#bpf = bpf;
    this.#places = places;
  }

  /**
   * null: a directory of bpffs as sessions see it. Specs with a path are refused here (EAGAIN), because a path may lead
   * to a file system that does not answer; ObjectOpener opens them.
   */
  open(spec: ObjectSpec): OpenedObject | null {
    if (isLedgersOwn(spec)) return null;
    const object = spec.path === undefined ? openRealObject(this.#bpf, spec, this.#places) : NOT_HERE;
    return "facts" in object ? this.take(object.facts, object) : { found: notFound(object), keep() {}, drop() {} };
  }

  /** Takes over an object that was opened elsewhere. */
  take(facts: ObjectFacts, held: HeldObject): OpenedObject {
    const object = { ...held, facts };
    return { found: { facts }, keep: (id) => this.#keep(id, object), drop: () => this.#drop(object) };
  }

  /**
   * Opens the recorded objects again after a restart: by their names, or anew if they have none. An object that is gone
   * has ended meanwhile; one that could not be looked at has not. Cgroups of the ledger that no record refers to are
   * removed.
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

  /**
   * The reason why the machine's object could not be opened at the start; undefined: it could, or the object exists in
   * the ledger only.
   */
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

  /** Processes that have exited and cgroups that were removed, each reported once. */
  ended(): readonly number[] {
    const later = this.#later;
    this.#later = [];
    for (const record of later) this.#takeUp(record);
    const ended = [...this.#unseen, ...this.#exited(), ...this.#removed()];
    this.#unseen = [];
    for (const id of ended) this.#ended.add(id);
    return ended;
  }

  /** Leaves cgroups of the ledger in place for the next start. */
  close(): void {
    for (const object of this.#objects.values()) this.#close(object);
    this.#objects.clear();
  }

  #keep(id: number, object: RealObject): void {
    // An object that is known already was opened once more; one descriptor is enough.
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

/** Kinds that end with the process and cannot be opened again; a start makes new ones. */
const ENDS_WITH_US: ReadonlySet<ObjectRecord["kind"]> = new Set(["socket", "perf_event", "pipe"]);

/** The refusal of specs with a path in the engine's thread. */
const NOT_HERE: OpenRefusal = { ret: -ERRNO.EAGAIN, detail: "a path is opened before its command reaches the engine" };

/** Errnos that mean that a process or a cgroup no longer exists. EINVAL: the pid belongs to a thread by now. */
const GONE: readonly number[] = [ERRNO.ESRCH, ERRNO.ENOENT, ERRNO.ENOTDIR, ERRNO.EINVAL];

/** A removed directory has no entries, not even the ones that every cgroup has. */
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

/** The spec that opens an object again, or makes a similar one; null if nothing has to be opened. */
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
 * Whether the opened object is the recorded one. If a program's record lacks its tag, load time or boot, the answer is
 * false, because another program may have the id by now.
 */
function isSame(record: ObjectRecord, { facts }: RealObject): boolean {
  if (record.kind === "process" && facts.kind === "process") return record.startTime === facts.startTime;
  if (record.kind === "cgroup" && facts.kind === "cgroup") return record.cgroupId === facts.cgroupId;
  if (record.kind === "prog") return isFullyKnown(record) && identityOf(record) === identityOf(facts);
  return true;
}
