/**
 * The running kernel as a target of replays. The attr of the syscall door becomes a union bpf_attr. Its buffers lie in
 * memory that ends after their last byte (`door_attr.ts`, `native/guard_pages.ts`), as in the conformance suite.
 * `kernel_freedom.ts` lists the answers in which the kernel is free to differ. `replay_directory.ts` makes the only
 * directory in which a replay pins.
 */

import { mkdirSync, rmdirSync, unlinkSync } from "node:fs";
import { setTimeout as sleep, setImmediate as turn } from "node:timers/promises";
import { attrEnd, BPF_ATTR_BYTES } from "../abi/attr.ts";
import { BPF_CMD, BPF_F, BPF_MAP_TYPE, BTF_INFO, BTF_INFO_BYTES } from "../abi/bpf.ts";
import { ERRNO, type Errno, errnoName } from "../abi/errno.ts";
import { UNKNOWN_CMD } from "../abi/service.ts";
import type { Event } from "../log/event.ts";
import type { Refusal } from "../maps/refusal.ts";
import type { Bpf } from "../native/bpf.ts";
import { Guarded } from "../native/guard_pages.ts";
import { mapped } from "../native/shared_mapping.ts";
import type { Answer, Outputs } from "../replay/answer.ts";
import type { BatchCall, Body, Call, ElementCall, LeftOut, MemoryCall, View } from "../replay/call.ts";
import type { Difference } from "../replay/compare.ts";
import type { Id } from "../replay/ids.ts";
import type { Target } from "../replay/target.ts";
import type { ObjectSpec } from "../syscall/command.ts";
import { factsOfNamed } from "../syscall/command_facts.ts";
import { btfWarning } from "./btf_warning.ts";
import { lacking, neededToCreate, type Privilege } from "./capability.ts";
import { DoorPacker } from "./door_attr.ts";
import { KernelFreedom } from "./kernel_freedom.ts";
import { DEFAULT_PLACES, type OpenPlaces, openRealObject, type RealObject } from "./real_objects.ts";
import { errnoOf } from "./refusal.ts";
import { ReplayDirectory, type Unreached } from "./replay_directory.ts";

/** No roots, because ReplayDirectory has checked each path. */
const PLACES: OpenPlaces = { ...DEFAULT_PLACES, roots: null };

/** Commands after which the event loop runs. */
const TURN_COMMANDS = 64;

/**
 * The pause between two tries after EBUSY, a little more than a grace period of RCU; and below, the number of tries.
 */
const GRACE_MS = 10;
const BUSY_TRIES = 20;

const ELEMENT_CMDS = {
  lookup: "BPF_MAP_LOOKUP_ELEM",
  update: "BPF_MAP_UPDATE_ELEM",
  delete: "BPF_MAP_DELETE_ELEM",
  take: "BPF_MAP_LOOKUP_AND_DELETE_ELEM",
  "next key": "BPF_MAP_GET_NEXT_KEY",
} as const;

const BATCH_CMDS = {
  lookup: "BPF_MAP_LOOKUP_BATCH",
  lookup_and_delete: "BPF_MAP_LOOKUP_AND_DELETE_BATCH",
  update: "BPF_MAP_UPDATE_BATCH",
  delete: "BPF_MAP_DELETE_BATCH",
} as const;

/** The fields of an attr that name a path. */
interface PathAttr {
  readonly pathname?: string;
  readonly file_flags?: number;
  readonly path_fd?: number;
}

interface Held {
  readonly object: RealObject;
  /** The number of its descriptors. */
  fds: number;
}

/**
 * The running kernel as the target of a replay: bpf(2) in this process. All recorded sessions share its table of
 * descriptors. Pins below /sys/fs/bpf are made in a directory of the replay's own, and stay there; everything that is
 * not pinned is freed by close().
 */
export class KernelTarget implements Target {
  readonly answers = true;
  readonly window = 1;
  readonly #freedom = new KernelFreedom();
  readonly #directory: ReplayDirectory;
  readonly #bpf: Bpf;
  readonly #packer: DoorPacker;
  /** Descriptors by recorded session. */
  readonly #fds = new Map<number, Set<number>>();
  /** Objects by descriptor; duplicates share one. */
  readonly #objects = new Map<number, Held>();
  /** BTF blobs by descriptor. */
  readonly #btfs = new Map<number, Buffer>();
  /** BTF blobs by the kernel's ids. */
  readonly #blobs = new Map<number, Buffer>();
  /** The kernel's ids of recorded maps. */
  readonly #maps = new Map<number, number>();
  /** The kernel's batch positions, by recorded map and recorded position. */
  readonly #positions = new Map<string, string>();
  /** Sessions that lacked capabilities which this process has. */
  readonly #unable = new Set<number>();
  /** Capabilities that the last object needed to be opened. */
  #neededToOpen: readonly Privilege[] = [];
  #commands = 0;

  constructor(bpf: Bpf, possibleCpus: number, directory = new ReplayDirectory()) {
    this.#bpf = bpf;
    this.#packer = new DoorPacker(bpf, new Guarded(bpf), possibleCpus);
    this.#directory = directory;
  }

  /**
   * Sends a command. EBUSY is tried again, because the kernel frees objects a moment after their last reference is
   * gone.
   */
  async send(call: Call, event: Event, recorded: Answer): Promise<Answer | LeftOut> {
    if (++this.#commands % TURN_COMMANDS === 0) await turn();
    for (let left = BUSY_TRIES; ; left--) {
      const got = this.#allowed(call, this.#send(call, event, recorded), recorded);
      if ("leftOut" in got || got.errno !== "EBUSY" || recorded.errno !== null || left === 0) return got;
      await sleep(GRACE_MS);
    }
  }

  /**
   * Leaves out a command that failed because this process lacks a capability: the kernel's answer would say nothing
   * about the command.
   */
  #allowed(call: Call, got: Answer | LeftOut, recorded: Answer): Answer | LeftOut {
    if ("leftOut" in got || got.errno === null || got.errno === recorded.errno) return got;
    const needed = call.kind === "open" ? this.#neededToOpen : neededBy(call);
    const missing = lacking(-(ERRNO[got.errno as Errno] ?? 0), needed);
    return missing === null ? got : { leftOut: `it needs ${missing}, which this process lacks` };
  }

  #send(call: Call, event: Event, recorded: Answer): Answer | LeftOut {
    const { session } = event.command;
    const warning = this.#warningOf(call);
    if (warning !== null) return { leftOut: warning.detail };
    if (this.#unable.has(session)) return { leftOut: "its session lacked capabilities that this process has" };
    switch (call.kind) {
      case "bpf":
        return this.#door(call, event, recorded);
      case "create":
        return this.#created(this.#bpfCall(event, "BPF_MAP_CREATE", call.body), event);
      case "open session": {
        const id = recorded.session as number;
        if (call.body.capabilities !== undefined) this.#unable.add(id);
        return { ret: 0, errno: null, outputs: {}, session: id };
      }
      case "renew":
        return recorded;
      case "end session":
        for (const fd of [...(this.#fds.get(session) ?? [])]) this.#close(session, fd);
        return recorded;
      case "close":
        return { ...answered(this.#close(session, call.fd as number)), outputs: this.#freed(recorded) };
      case "open":
        return this.#open(session, call.body);
      case "mkdir":
      case "unlink":
      case "rmdir":
        return this.#changePath(call.kind, call.body.pathname as string, recorded);
      case "elements":
        return { leftOut: "a kernel has no pages of elements" };
      default:
        return this.#onMap(call, event, recorded);
    }
  }

  #warningOf(call: Call): Refusal | null {
    const isCreate = call.kind === "create" || (call.kind === "bpf" && call.body.cmd === "BPF_MAP_CREATE");
    const attr = ((call.kind === "create" ? call.body : call.kind === "bpf" ? call.body.attr : null) ?? {}) as BtfAttr;
    if (call.kind === "bpf" && call.body.cmd === "BPF_BTF_LOAD") return btfWarning(blobOf(attr), null);
    const blob = isCreate ? this.#btfs.get(attr.btf_fd ?? 0) : undefined;
    return blob === undefined ? null : btfWarning(blob, attr.btf_value_type_id ?? 0);
  }

  judge(...met: Parameters<KernelFreedom["judge"]>): Difference | null {
    return this.#freedom.judge(...met);
  }

  /** Frees everything that is not pinned. */
  close(): void {
    for (const [session, fds] of this.#fds) for (const fd of [...fds]) this.#close(session, fd);
    this.#directory.close();
  }

  #door({ body }: Extract<Call, { kind: "bpf" }>, event: Event, recorded: Answer): Answer | LeftOut {
    const { cmd, attr = {}, size, tail } = body;
    if (size === undefined && tail === undefined && event.command.cmd === UNKNOWN_CMD)
      return { leftOut: "it is not a command on maps, so it is not run on this machine" };
    if (cmd === "BPF_MAP_GET_NEXT_ID") return { leftOut: "a kernel has other maps, too" };
    if (cmd === "BPF_BTF_GET_NEXT_ID") return { leftOut: "a kernel has other BTF, too" };
    if (size !== undefined || tail !== undefined) return this.#oversized(cmd as string, size, tail);
    const placed = this.#withPosition(event, attr);
    const answer = this.#atPath(cmd as string, placed, (attr) => this.#bpfCall(event, cmd as string, attr, recorded));
    if ("leftOut" in answer) return answer;
    const { opens = null, leavesMaps = false } = factsOfNamed(cmd) ?? {};
    return opens === "map" && leavesMaps ? this.#created(answer, event) : answer;
  }

  /** Runs a command with its path translated to the replay's directory, if it has a path. */
  #atPath(cmd: string, attr: Body, call: (attr: Body) => Answer): Answer | LeftOut {
    const { pathname, file_flags = 0, path_fd = 0 } = attr as PathAttr;
    if (pathname === undefined) return call(attr);
    const path = untilNul(pathname);
    const at = (place: string): Answer => call({ ...attr, pathname: place });
    const reached = (): Answer | LeftOut | Unreached => {
      if ((file_flags & BPF_F.BPF_F_PATH_FD) === 0 || path.startsWith("/"))
        return cmd === "BPF_OBJ_PIN" ? this.#directory.entry(path, at) : this.#directory.existing(path, at);
      // -1 is an invalid descriptor. The recorded one may not be used: it could be one of the process's own, or
      // AT_FDCWD.
      if (!this.#isOpen(path_fd)) return call({ ...attr, path_fd: -1 });
      return cmd === "BPF_OBJ_PIN"
        ? this.#directory.entryBelow(path_fd, path, at)
        : this.#directory.existingBelow(path_fd, path, at);
    };
    const answer = reached();
    if (!("unreached" in answer)) return answer;
    // The kernel checks other fields before the path. With an empty path it returns the error of those checks, or
    // ENOENT if there is none.
    const without = at("");
    return without.errno === "ENOENT" ? answered(answer.unreached) : without;
  }

  #isOpen(fd: number): boolean {
    return [...this.#fds.values()].some((fds) => fds.has(fd));
  }

  /** Calls with an attr that is too large, or with bytes after the command's last field. */
  #oversized(cmd: string, size = BPF_ATTR_BYTES, tail = ""): Answer {
    const attr = Buffer.alloc(Math.max(size, BPF_ATTR_BYTES));
    attr.write(tail, attrEnd(cmd), "hex");
    return answered(this.#bpf.bpf(BPF_CMD[cmd as keyof typeof BPF_CMD], attr));
  }

  #bpfCall(event: Event, cmd: string, attr: Body, recorded?: Answer): Answer {
    const packed = this.#packer.pack(cmd, attr);
    const answer = answered(this.#bpf.bpf(BPF_CMD[cmd as keyof typeof BPF_CMD], packed.attr));
    if (answer.errno === null && factsOfNamed(cmd)?.opens === "map") this.#packer.openedMap(answer.ret as number);
    if (answer.errno === null && factsOfNamed(cmd)?.opens === "btf")
      return this.#openedBtf(event, cmd === "BPF_BTF_LOAD" ? blobOf(attr as BtfAttr) : null, answer);
    if (answer.errno === null && (answer.ret as number) > 0) this.#keep(event.command.session, answer.ret as number);
    const outputs = packed.outputs(answer.errno);
    return { ...answer, outputs: recorded === undefined ? outputs : this.#withoutPosition(event, outputs, recorded) };
  }

  /** Reads the id of BTF by its descriptor. `blob` null: the BTF was loaded before. */
  #openedBtf({ command }: Event, blob: Buffer | null, answer: Answer): Answer {
    const fd = answer.ret as number;
    this.#packer.openedBtf(fd);
    this.#keep(command.session, fd);
    const { attr, outputs } = this.#packer.pack("BPF_OBJ_GET_INFO_BY_FD", { bpf_fd: fd, info_len: BTF_INFO_BYTES });
    if (this.#bpf.bpf(BPF_CMD.BPF_OBJ_GET_INFO_BY_FD, attr) < 0) return answer;
    const btf = Buffer.from(outputs(null).info as string, "hex").readUInt32LE(BTF_INFO.id);
    const loaded = blob ?? this.#blobs.get(btf);
    if (loaded !== undefined) {
      this.#btfs.set(fd, loaded);
      this.#blobs.set(btf, loaded);
    }
    return { ...answer, btf };
  }

  /** The kernel does not report maps that were freed with a descriptor, so the recorded ones are taken. */
  #freed({ outputs: { freed } }: Answer): Outputs {
    return freed === undefined ? {} : { freed: freed.map((map) => this.#maps.get(map) ?? map) };
  }

  /** Reads the new map's id by its descriptor. */
  #created(answer: Answer, { outcome }: Event): Answer {
    if (answer.errno !== null) return answer;
    const info = this.#bpf.infoByFd(answer.ret as number);
    if (typeof info === "number") return answer;
    if (outcome.map !== 0) this.#maps.set(outcome.map, info.id);
    return { ...answer, map: info.id };
  }

  /** Replaces a recorded batch position by the kernel's. */
  #withPosition({ outcome }: Event, attr: Body): Body {
    const known = this.#positions.get(`${outcome.map} ${attr.in_batch}`);
    return known === undefined ? attr : { ...attr, in_batch: known };
  }

  #withoutPosition({ outcome }: Event, outputs: Outputs, recorded: Answer): Outputs {
    const { out_batch, ...others } =
      outputs.count === 0 && recorded.outputs.keys === undefined ? { count: 0 } : outputs;
    const position = recorded.outputs.out_batch;
    if (out_batch === undefined || position === undefined) return others;
    this.#positions.set(`${outcome.map} ${position}`, out_batch);
    return { ...others, out_batch: position };
  }

  #open(session: number, body: Body): Answer | LeftOut {
    if (body.kind === "dup") {
      const answer = answered(this.#bpf.libc("dup", body.fd as number));
      if (answer.errno !== null) return answer;
      const [of, fd] = [body.fd as number, answer.ret as number];
      this.#packer.duplicated(of, fd);
      this.#hold(fd, this.#objects.get(of));
      const blob = this.#btfs.get(of);
      if (blob !== undefined) this.#btfs.set(fd, blob);
      this.#keep(session, fd);
      return answer;
    }
    const spec = specOf(body);
    const { kind, path } = spec;
    const open = (at: string | undefined): Answer =>
      this.#opened(session, at === undefined ? spec : { ...spec, path: at });
    if (path === undefined) return open(undefined);
    if (kind === "cgroup") return { leftOut: "a cgroup's path is not below /sys/fs/bpf" };
    const known = untilNul(path);
    const answer = kind === "prog" ? this.#directory.others(known, open) : this.#directory.existing(known, open);
    return "unreached" in answer ? answered(answer.unreached) : answer;
  }

  #opened(session: number, spec: ObjectSpec): Answer {
    const object = openRealObject(this.#bpf, spec, PLACES);
    this.#neededToOpen = "facts" in object ? [] : (object.needed ?? []);
    if (!("facts" in object)) return answered(object.ret);
    this.#hold(object.fd, { object, fds: 0 });
    this.#packer.openedOther(object.fd);
    this.#keep(session, object.fd);
    const { facts } = object;
    return { ret: object.fd, errno: null, outputs: {}, ...(facts.kind === "cgroup" && { cgroup: facts.cgroupId }) };
  }

  #hold(fd: number, held: Held | undefined): void {
    if (held === undefined) return;
    held.fds++;
    this.#objects.set(fd, held);
  }

  /** Runs a command that was sent by its resource route. For an operator's command, the map's descriptor is opened. */
  #onMap(
    call: ElementCall | BatchCall | MemoryCall | Extract<Call, { kind: "pin" | "freeze" }>,
    event: Event,
    recorded: Answer,
  ): Answer | LeftOut {
    const opened = this.#mapFd(call.view, event);
    if (typeof opened !== "number") return opened;
    const isOwn = "map" in call.view;
    try {
      return this.#byFd(call, opened, event, recorded);
    } finally {
      if (isOwn) {
        this.#packer.closed(opened);
        this.#bpf.close(opened);
      }
    }
  }

  #mapFd(view: View, { outcome }: Event): number | LeftOut {
    if ("fd" in view) return view.fd as number;
    const id = this.#maps.get(outcome.map);
    if (id === undefined) return { leftOut: "the operator named a map for which the kernel has no map" };
    const fd = this.#bpf.mapFdById(id);
    const missing = lacking(fd, ["CAP_SYS_ADMIN"]);
    if (missing !== null) return { leftOut: `opening its map by the kernel's id needs ${missing}` };
    if (fd < 0) return { leftOut: "its map is no longer in the kernel" };
    this.#packer.openedMap(fd);
    return fd;
  }

  #byFd(
    call: ElementCall | BatchCall | MemoryCall | Extract<Call, { kind: "pin" | "freeze" }>,
    fd: number,
    event: Event,
    recorded: Answer,
  ): Answer | LeftOut {
    const { command } = event;
    if ("exact" in command && command.exact === true)
      return { leftOut: "refused by a route, which a kernel has none of" };
    switch (call.kind) {
      case "read memory":
      case "write memory":
        return this.#memory(call, fd, recorded);
      case "freeze":
        return this.#bpfCall(event, "BPF_MAP_FREEZE", { map_fd: fd });
      case "pin": {
        const attr = { bpf_fd: fd, pathname: call.body.pathname };
        const answer = this.#atPath("BPF_OBJ_PIN", attr, (placed) => this.#bpfCall(event, "BPF_OBJ_PIN", placed));
        return "leftOut" in answer ? answer : { ...answer, outputs: recorded.outputs };
      }
      case "batch":
        return this.#bpfCall(event, BATCH_CMDS[call.name], this.#withPosition(event, batchAttr(call, fd)), recorded);
      default: {
        const { kind, key, value, flags } = call;
        const answer = this.#bpfCall(
          event,
          ELEMENT_CMDS[kind],
          elementAttr({ map_fd: fd, key, value, flags }),
          recorded,
        );
        return kind === "lookup" || kind === "take" || kind === "next key" ? answer : { ...answer, outputs: {} };
      }
    }
  }

  /** Only writes are replayed: the log does not have the bytes that were read. */
  #memory({ kind, offset, length, value }: MemoryCall, fd: number, recorded: Answer): Answer | LeftOut {
    if (offset < 0 || length === 0 || recorded.errno === "EINVAL") return { leftOut: "a mapping is of whole pages" };
    if (kind === "read memory") return { leftOut: "what was read is not in the log" };
    const ret = mapped(this.#bpf, fd, { offset, length, writable: true }, (bytes) => value?.copy(bytes));
    return answered(ret);
  }

  #changePath(change: "mkdir" | "unlink" | "rmdir", pathname: string, recorded: Answer): Answer | LeftOut {
    const calls = { unlink: unlinkSync, mkdir: mkdirSync, rmdir: rmdirSync };
    const ret = this.#directory.entry(untilNul(pathname), (path) => errnoOf(() => calls[change](path)));
    if (typeof ret !== "number") return "leftOut" in ret ? ret : answered(ret.unreached);
    const answer = answered(ret);
    return answer.errno === null ? { ...answer, outputs: recorded.outputs } : answer;
  }

  #keep(session: number, fd: number): void {
    const fds = this.#fds.get(session) ?? new Set();
    this.#fds.set(session, fds.add(fd));
  }

  #close(session: number, fd: number): number {
    this.#fds.get(session)?.delete(fd);
    this.#packer.closed(fd);
    const held = this.#objects.get(fd);
    this.#objects.delete(fd);
    this.#btfs.delete(fd);
    const ret = this.#bpf.close(fd);
    if (held !== undefined && --held.fds === 0) {
      const { others, made } = held.object;
      for (const other of others) this.#bpf.close(other);
      if (made !== null) PLACES.cgroups.remove(made);
    }
    return ret;
  }
}

/** Capabilities that the kernel demands from the caller of a command. */
function neededBy(call: Call): readonly Privilege[] {
  const cmd = call.kind === "create" ? "BPF_MAP_CREATE" : call.kind === "bpf" ? call.body.cmd : null;
  const attr = ((call.kind === "bpf" ? call.body.attr : call.kind === "create" ? call.body : null) ?? {}) as CreateBody;
  switch (cmd) {
    case "BPF_MAP_CREATE":
      return neededToCreate(numberOf(attr.map_type), attr.map_flags ?? 0);
    case "BPF_BTF_LOAD":
      return ["CAP_BPF"];
    case "BPF_MAP_GET_FD_BY_ID":
    case "BPF_BTF_GET_FD_BY_ID":
      return ["CAP_SYS_ADMIN"];
    default:
      return [];
  }
}

/** The fields of a creation that decide which capabilities it needs. A type may be given by its name. */
interface CreateBody {
  readonly map_type?: number | string;
  readonly map_flags?: number;
}

function numberOf(type: number | string = 0): number {
  return typeof type === "number" ? type : (BPF_MAP_TYPE[type as keyof typeof BPF_MAP_TYPE] ?? 0);
}

function answered(ret: number): Answer {
  return ret < 0 ? { ret: -1, errno: errnoName(-ret), outputs: {} } : { ret, errno: null, outputs: {} };
}

/** The fields of a command that are about BTF. */
interface BtfAttr {
  readonly btf?: string;
  readonly btf_size?: number;
  readonly btf_fd?: number;
  readonly btf_value_type_id?: number;
}

function blobOf({ btf = "", btf_size = 0 }: BtfAttr): Buffer {
  return Buffer.from(btf, "hex").subarray(0, btf_size);
}

/** The text up to its first NUL, as C reads a string. */
function untilNul(text: string): string {
  return text.split("\0", 1)[0] as string;
}

function elementAttr(attr: Body): Body {
  return Object.fromEntries(Object.entries(attr).filter(([, value]) => value !== null));
}

/** Keys and values joined end to end, as the kernel takes them. */
function batchAttr({ name, body }: BatchCall, fd: Id): Body {
  const { elements, keys, count, in_batch, elem_flags } = body as {
    readonly elements?: readonly { readonly key: string; readonly value: string }[];
    readonly keys?: readonly string[];
    readonly count?: number;
    readonly in_batch?: string | null;
    readonly elem_flags: number | string;
  };
  if (name === "update") {
    const given = elements ?? [];
    const ends = { keys: given.map(({ key }) => key).join(""), values: given.map(({ value }) => value).join("") };
    return { map_fd: fd, ...ends, count: given.length, elem_flags };
  }
  if (name === "delete") return { map_fd: fd, keys: (keys ?? []).join(""), count: keys?.length ?? 0, elem_flags };
  return elementAttr({ map_fd: fd, count, in_batch, elem_flags });
}

/** Converts the body of POST /v1/sessions/{session}/fds. */
function specOf({ prog_type, expected_attach_type, pinned, ...body }: Body): ObjectSpec {
  return {
    ...(body as ObjectSpec),
    ...(pinned !== undefined && { path: pinned as string }),
    ...(prog_type !== undefined && { progType: prog_type as number }),
    ...(expected_attach_type !== undefined && { expectedAttachType: expected_attach_type as number }),
  };
}
