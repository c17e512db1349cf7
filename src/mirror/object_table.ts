import { lstatSync } from "node:fs";
import { ERRNO, errnoName } from "../abi/errno.ts";
import type { OpenedObject } from "../engine/ports.ts";
import { identityOf, isFullyKnown, type ObjectFacts, type ObjectRecord } from "../maps/object.ts";
import type { ObjectSpec, OpenKind } from "../syscall/command.ts";
import { BPFFS } from "../syscall/pins.ts";
import type { Bpf } from "./bpf.ts";
import { haveExited } from "./pidfd.ts";
import { openRealObject, type RealObject } from "./real_objects.ts";

/** The kernel's objects that descriptors of sessions stand for, each held by a descriptor of the service's own. */
export class ObjectTable {
  readonly #bpf: Bpf;
  readonly #objects = new Map<number, RealObject>();
  /** Ended, and told of. */
  readonly #ended = new Set<number>();
  /** Ended before the service looked. */
  #unseen: number[] = [];
  /** Made at this start in place of others of the same kind, which ended with the process before. */
  readonly #renewed = new Set<number>();

  constructor(bpf: Bpf) {
    this.#bpf = bpf;
  }

  /** null: a directory of bpffs as sessions see it, which is the ledger's own. */
  open(spec: ObjectSpec): OpenedObject | null {
    if (spec.kind === "dir" && (spec.path === BPFFS || spec.path?.startsWith(`${BPFFS}/`) === true)) return null;
    const object = openRealObject(this.#bpf, spec);
    if (!("facts" in object)) {
      const errno = errnoName(-object.ret);
      const known = errno in ERRNO ? errno : "EIO";
      return { found: { errno: known, detail: `${object.detail}: ${errno}` }, keep() {}, drop() {} };
    }
    return {
      found: { facts: object.facts },
      keep: (id) => this.#keep(id, object),
      drop: () => this.#drop(object),
    };
  }

  /** After a restart: what has a name is opened by it, the rest is made anew. What is gone has ended meanwhile. */
  takeUp(records: Iterable<ObjectRecord>): void {
    for (const record of records) {
      if (this.#objects.has(record.id)) continue;
      const spec = specOf(record);
      if (spec === null) continue;
      const object = openRealObject(this.#bpf, spec);
      if ("facts" in object && isSame(record, object)) {
        this.#keep(record.id, object);
        if (ENDS_WITH_US.has(record.kind)) this.#renewed.add(record.id);
      } else {
        if ("facts" in object) this.#drop(object);
        if (record.kind === "process" || record.kind === "cgroup") this.#unseen.push(record.id);
      }
    }
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

  gone(id: number): void {
    const object = this.#objects.get(id);
    this.#objects.delete(id);
    this.#ended.delete(id);
    if (object !== undefined) this.#drop(object);
  }

  /** Processes that have exited and cgroups that were removed, each once. */
  ended(): readonly number[] {
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
    if (object.facts.kind === "process" && object.facts.exited) this.#ended.add(id);
  }

  #drop(object: RealObject): void {
    this.#close(object);
    object.remove();
  }

  #close(object: RealObject): void {
    this.#bpf.close(object.fd);
    object.release();
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
      .filter(([, { facts }]) => facts.kind === "cgroup" && inodeAt(facts.path) !== facts.cgroupId)
      .map(([id]) => id);
  }
}

/** Kinds of which there is nothing to open again: another one is made. */
const ENDS_WITH_US: ReadonlySet<ObjectRecord["kind"]> = new Set(["socket", "perf_event", "pipe"]);

function inodeAt(path: string | null): string | null {
  const found = path === null ? undefined : lstatSync(path, { bigint: true, throwIfNoEntry: false });
  return found === undefined ? null : String(found.ino);
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
