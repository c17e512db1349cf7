import { CREATE_FIELDS } from "../src/abi/attr.ts";
import { BPF_MAP_TYPE, MAP_INFO, MAP_INFO_BYTES, type MapTypeName, mapTypeName } from "../src/abi/bpf.ts";
import type { DoorAttr } from "../src/codec/door.ts";
import type { ObjectSpec, OpenKind } from "../src/syscall/command.ts";
import type { Answer, MemoryAnswer, Raw, Subject } from "./subject.ts";
import type { Line, LineOut } from "./transcript.ts";

/** A map that the transcript made and the subject has. */
export interface MapObject {
  /** The name of its first descriptor. */
  readonly name: string;
  readonly type: string;
  readonly id: number;
  readonly keyBytes: number;
  readonly valueBytes: number;
  /** Where the elements of an array lie in memory. */
  readonly strideBytes: number;
  readonly maxEntries: number;
}

interface Descriptor {
  readonly fd: number;
  /** null: no map. */
  readonly object: MapObject | null;
}

export interface Mapping {
  readonly object: MapObject;
  readonly fd: number;
  readonly offset: number;
  readonly writable: boolean;
}

/** How a value is written in a transcript. */
interface Spec {
  readonly fd?: string;
  readonly size?: number;
  readonly cat?: unknown[];
  readonly cgroup_id_of?: string;
}

const PAGE_BYTES = 4096;
/** Commands whose descriptors are of no map. */
const NO_MAPS = new Set(["AUX", "PROG_LOAD", "BTF_LOAD"]);
const SOCKETS = new Set(["SOCKMAP", "SOCKHASH", "REUSEPORT_SOCKARRAY"]);
const TARGETS = new Set(["DEVMAP", "DEVMAP_HASH", "CPUMAP"]);
/** enum bpf_prog_type */
const PROG_TYPES: Readonly<Record<string, number>> = { SOCKET_FILTER: 1, XDP: 6, CGROUP_SKB: 8 };

/** Stands for the id of what was never made. */
const NO_SUCH_ID = 0x7ffffff0;
/** What `info_to` is filled with. */
const JUNK = "a5";
const PER_CPU_SLOT_BYTES = 8;
const WALK_KEYS_MAX = 10_000;
/** Possible CPUs of the machine that the transcripts are from. */
const RECORDED_CPUS = 2;
const INFO_U64 = new Set(["netns_dev", "netns_ino", "map_extra", "hash"]);
const MAPS_IN_MAPS = new Set(["ARRAY_OF_MAPS", "HASH_OF_MAPS"]);
const PERCPU = new Set(["PERCPU_HASH", "PERCPU_ARRAY", "LRU_PERCPU_HASH", "PERCPU_CGROUP_STORAGE"]);
const UNORDERED_BATCH = new Set(["HASH", "PERCPU_HASH", "LRU_HASH", "LRU_PERCPU_HASH", "HASH_OF_MAPS"]);
/** A transcript's lines as requests to a subject, and its answers as a transcript shows them; the names of one file. */
export class Commands {
  readonly names = new Map<string, Descriptor>();
  /** By id. */
  readonly objects = new Map<number, MapObject>();
  /** By the name of a map's first descriptor. */
  readonly ids = new Map<string, number>();
  readonly pins = new Map<string, MapObject>();
  /** Names of maps that MAP_GET_NEXT_ID passes over. */
  readonly hidden: ReadonlySet<string>;
  readonly #tokens = new Map<string, string>();
  /** Objects that are no maps, by what is put out of them, and cgroups' ids by name. */
  readonly #progs = new Map<number, string>();
  readonly #cookies = new Map<string, string>();
  readonly #cgroups = new Map<string, string>();
  /** The name of the BTF that was loaded last: no transcript has two. */
  #btf = "";
  readonly mappings = new Map<string, Mapping>();
  readonly #subject: Subject;

  constructor(subject: Subject, hidden: ReadonlySet<string>) {
    this.#subject = subject;
    this.hidden = hidden;
  }

  /** Whether there is such a command here. */
  has(cmd: string): boolean {
    return cmd in this.#commands;
  }

  /** What became of a line's command. */
  run(line: Line): LineOut {
    const command = this.#commands[line.cmd] as (line: Line) => LineOut;
    return command(line);
  }

  readonly #commands: Readonly<Record<string, (line: Line) => LineOut>> = {
    MAP_CREATE: (line) => this.#bind(line, this.#bpf(line, this.#createAttr(line))),
    MAP_LOOKUP_ELEM: (line) => this.#lookup(line),
    MAP_LOOKUP_AND_DELETE_ELEM: (line) => this.#lookup(line),
    MAP_UPDATE_ELEM: (line) => outcome(this.#bpf(line, { ...this.#element(line), value: this.#input(line.value) })),
    MAP_DELETE_ELEM: (line) => outcome(this.#bpf(line, { map_fd: this.#fd(line.fd), key: this.#input(line.key) })),
    MAP_GET_NEXT_KEY: (line) => this.#nextKey(line),
    MAP_LOOKUP_BATCH: (line) => this.#readBatch(line),
    MAP_LOOKUP_AND_DELETE_BATCH: (line) => this.#readBatch(line),
    MAP_UPDATE_BATCH: (line) => this.#writeBatch(line),
    MAP_DELETE_BATCH: (line) => this.#writeBatch(line),
    MAP_FREEZE: (line) => outcome(this.#bpf(line, { map_fd: this.#fd(line.fd) })),
    MAP_GET_NEXT_ID: (line) => this.#nextId(line),
    MAP_GET_FD_BY_ID: (line) =>
      this.#bind(line, this.#bpf(line, { map_id: this.#id(line.id), open_flags: line.open_flags ?? 0 })),
    OBJ_GET_INFO_BY_FD: (line) => this.#info(line),
    OBJ_PIN: (line) => this.#pin(line),
    OBJ_GET: (line) => this.#bind(line, this.#bpf(line, this.#pathAttr(line))),
    CLOSE: (line) => outcome(this.close(line.fd)),
    DUP: (line) => this.#bind(line, this.#subject.dup(this.#fd(line.fd))),
    AUX: (line) => this.#open(line, { kind: line.kind as OpenKind, ...auxOptions(line) }),
    PROG_LOAD: (line) =>
      this.#open(line, {
        kind: "prog",
        progType: PROG_TYPES[line.prog_type as string] as number,
        expectedAttachType: (line.expected_attach_type as number | undefined) ?? 0,
      }),
    BTF_LOAD: (line) => {
      const btf = line.btf as string;
      this.#btf = line.as as string;
      return this.#bind(line, this.#bpf(line, { btf, btf_size: btf.length / 2 }));
    },
    MEM_READ: (line) =>
      this.#memory(line, (mapping, offset) => this.#subject.readMemory(mapping.fd, offset, line.length as number)),
    MEM_WRITE: (line) =>
      this.#memory(line, (mapping, offset) => this.#subject.writeMemory(mapping.fd, offset, line.data as string)),
    MMAP: (line) => this.#mmap(line),
    MUNMAP: (line) => this.#munmap(line),
    FS_UNLINK: (line) => this.#changePath(line, "unlink"),
    FS_MKDIR: (line) => this.#changePath(line, "mkdir"),
    FS_RMDIR: (line) => this.#changePath(line, "rmdir"),
    WALK: (line) => this.#walk(line),
    DRAIN: (line) => this.#drain(line),
  };

  #bpf(line: Line, attr: Record<string, unknown>): Answer {
    const raw: Raw = {
      ...(line.attr_size === undefined ? {} : { size: line.attr_size as number }),
      ...(line.attr_poke === undefined ? {} : { poke: line.attr_poke as Record<string, string> }),
      ...(line.attr_null === undefined ? {} : { nullAttr: true }),
      ...(isBad(line.path) ? { badPath: true } : {}),
    };
    return this.#subject.bpf({ cmd: `BPF_${line.cmd}`, attr }, raw);
  }

  #createAttr(line: Line): Record<string, unknown> {
    const attr: Record<string, unknown> = { map_type: typeNumber(line.type) };
    for (const { name, kind } of CREATE_FIELDS) {
      if (!(name in line) || name === "map_type") continue;
      if (kind === "fd") attr[name] = this.#fd(line[name]);
      if (kind === "u32" || kind === "s32" || kind === "u64") attr[name] = line[name];
    }
    if ("map_name_hex" in line) attr.map_name = Buffer.from(line.map_name_hex as string, "hex").toString("latin1");
    else if (typeof line.map_name === "string") attr.map_name = Buffer.from(line.map_name).toString("latin1");
    if ("excl_prog_hash" in line) attr.excl_prog_hash = this.#input(line.excl_prog_hash);
    return attr;
  }

  #element(line: Line): Record<string, unknown> {
    return { map_fd: this.#fd(line.fd), key: this.#input(line.key), flags: line.flags ?? 0 };
  }

  #lookup(line: Line): LineOut {
    const object = this.#objectOf(line);
    const asks = object?.type === "BLOOM_FILTER";
    const value = asks ? { value: this.#input(line.value) } : this.#output(line, "value");
    const answer = this.#bpf(line, { ...this.#element(line), ...value });
    if (answer.errno !== null || asks) return outcome(answer);
    return { value: this.#show(object, answer.attr.value as string) };
  }

  #nextKey(line: Line): LineOut {
    const attr = { map_fd: this.#fd(line.fd), key: this.#input(line.key), ...this.#output(line, "next_key") };
    const answer = this.#bpf(line, attr);
    return answer.errno === null ? { next_key: answer.attr.next_key } : outcome(answer);
  }

  #readBatch(line: Line): LineOut {
    const object = this.#objectOf(line);
    const token = (line.in_batch as { token?: string } | null | undefined)?.token;
    const attr = {
      map_fd: this.#fd(line.fd),
      count: line.count,
      in_batch: token === undefined ? this.#input(line.in_batch) : (this.#tokens.get(token) ?? "00000000"),
      elem_flags: line.elem_flags ?? 0,
      flags: line.flags ?? 0,
      ...this.#output(line, "out_batch"),
      ...this.#output(line, "keys"),
      ...this.#output(line, "values"),
    };
    const answer = this.#bpf(line, attr);
    const out = batchOutcome(answer, attr.count as number);
    if (object === null || (answer.errno !== null && answer.errno !== "ENOENT")) return out;
    const { count = 0, out_batch: position } = answer.attr;
    if (typeof line.out_batch === "string" && position !== undefined) this.#tokens.set(line.out_batch, position);
    const shown = { ...out, ...this.#pairs(object, answer.attr) };
    if (UNORDERED_BATCH.has(object.type) || count === 0 || position === undefined) return shown;
    return { ...shown, out_batch: position.slice(0, object.keyBytes * 2) };
  }

  #pairs(object: MapObject, { count = 0, keys = "", values = "" }: DoorAttr): { keys: string[]; values: unknown[] } {
    return {
      keys: split(keys, object.keyBytes, count),
      values: split(values, object.valueBytes, count).map((value) => this.#show(object, value)),
    };
  }

  #writeBatch(line: Line): LineOut {
    const { keys, values } = line;
    const attr: Record<string, unknown> = {
      map_fd: this.#fd(line.fd),
      count: line.count ?? (keys as unknown[] | undefined)?.length ?? 0,
      keys: this.#endToEnd(keys),
      elem_flags: line.elem_flags ?? 0,
      flags: line.flags ?? 0,
    };
    const whole = line.cmd === "MAP_UPDATE_BATCH" ? { ...attr, values: this.#endToEnd(values) } : attr;
    return batchOutcome(this.#bpf(line, whole), attr.count as number);
  }

  #endToEnd(list: unknown): string | null {
    return Array.isArray(list) ? list.map((one) => this.#input(one)).join("") : this.#input(list);
  }

  /** Maps that are not the transcript's are passed over, and those that are only kept alive. */
  #nextId(line: Line): LineOut {
    let start = this.#id(line.start_id);
    for (;;) {
      const answer = this.#bpf(line, { start_id: start });
      if (answer.errno !== null) return outcome(answer);
      start = answer.attr.next_id as number;
      const object = this.objects.get(start);
      if (object !== undefined && !this.hidden.has(object.name)) return { id_of: object.name };
    }
  }

  #info(line: Line): LineOut {
    const length = (line.info_len as number | undefined) ?? MAP_INFO_BYTES;
    const answer = this.#bpf(line, { bpf_fd: this.#fd(line.fd), info_len: length, ...infoBuffer(line, length) });
    if (answer.errno !== null) return outcome(answer);
    const { info = "", info_len: used, hash } = answer.attr;
    const fields = this.#fields(Buffer.from(info, "hex"));
    for (const field of (line.hide as string[] | undefined) ?? []) delete fields[field];
    const asked = fields.hash !== undefined && fields.hash !== 0 && line.hash_size !== undefined;
    delete fields.hash;
    return { info: asked ? { ...fields, hash } : fields, info_len: used };
  }

  /** struct bpf_map_info as a transcript shows it: the fields that are there as a whole. */
  #fields(info: Buffer): Record<string, unknown> {
    const fields: Record<string, unknown> = {};
    for (const [field, offset] of Object.entries(MAP_INFO)) {
      const size = field === "name" ? 16 : INFO_U64.has(field) ? 8 : 4;
      const bytes = info.subarray(offset, offset + size);
      if (bytes.length < size) continue;
      if (field !== "name")
        fields[field] = shownNumber(size === 8 ? bytes.readBigUInt64LE() : BigInt(bytes.readUInt32LE()));
      else if (bytes.every((byte) => byte < 128)) fields.name = bytes.toString("latin1").replace(/\0.*/s, "");
      else fields.name_hex = bytes.toString("hex");
    }
    if ("type" in fields) fields.type = typeName(fields.type as number);
    if (fields.btf_id !== undefined && fields.btf_id !== 0 && this.#btf !== "") fields.btf_id = { btf_of: this.#btf };
    if ("id" in fields) fields.id = { id_of: this.objects.get(fields.id as number)?.name ?? "?" };
    return fields;
  }

  #pathAttr(line: Line): Record<string, unknown> {
    return {
      pathname: this.place(line.path),
      bpf_fd: this.#fd(line.fd ?? 0),
      file_flags: line.file_flags ?? 0,
      path_fd: this.#fd(line.path_fd ?? 0),
    };
  }

  #pin(line: Line): LineOut {
    const answer = this.#bpf(line, this.#pathAttr(line));
    const object = this.#objectOf(line);
    if (answer.errno === null && object !== null) this.pins.set(line.path as string, object);
    return outcome(answer);
  }

  #changePath(line: Line, call: "unlink" | "mkdir" | "rmdir"): LineOut {
    const answer = this.#subject.changePath(call, this.place(line.path) as string);
    if (answer.errno === null && call === "unlink") this.pins.delete(line.path as string);
    return outcome(answer);
  }

  #walk(line: Line): LineOut {
    const map_fd = this.#fd(line.fd);
    const object = this.#objectOf(line);
    const most = (line.limit as number | undefined) ?? WALK_KEYS_MAX;
    const keys: string[] = [];
    let end: string | null = null;
    while (keys.length < most && end === null) {
      const answer = this.#subject.bpf({ cmd: "BPF_MAP_GET_NEXT_KEY", attr: { map_fd, key: keys.at(-1) ?? null } });
      end = answer.errno;
      if (end === null) keys.push(answer.attr.next_key as string);
    }
    const out = { end: end ?? "LIMIT", keys };
    if (line.values !== true) return out;
    const values = keys.map((key) => {
      const answer = this.#subject.bpf({ cmd: "BPF_MAP_LOOKUP_ELEM", attr: { map_fd, key } });
      return answer.errno === null ? this.#show(object, answer.attr.value as string) : { err: answer.errno };
    });
    return { ...out, values };
  }

  #drain(line: Line): LineOut {
    const cmd = line.delete === true ? "BPF_MAP_LOOKUP_AND_DELETE_BATCH" : "BPF_MAP_LOOKUP_BATCH";
    const map_fd = this.#fd(line.fd);
    const object = this.#objectOf(line);
    let count = line.count as number;
    let position: string | null = null;
    let end: string | null = null;
    const keys: string[] = [];
    const values: unknown[] = [];
    while (end === null) {
      const answer = this.#subject.bpf({ cmd, attr: { map_fd, count, in_batch: position } });
      if (answer.errno === "ENOSPC") {
        count *= 2;
        continue;
      }
      end = answer.errno;
      if (object === null || (end !== null && end !== "ENOENT")) break;
      const found = this.#pairs(object, answer.attr);
      keys.push(...found.keys);
      values.push(...found.values);
      position = answer.attr.out_batch ?? null;
    }
    return { end, keys, values };
  }

  // Names.

  #bind(line: Line, answer: Answer): LineOut {
    if (answer.errno !== null) return outcome(answer);
    const name = line.as as string;
    this.names.set(name, { fd: answer.ret, object: NO_MAPS.has(line.cmd) ? null : this.#learn(name, answer.ret) });
    return { fd: name };
  }

  #open(line: Line, spec: ObjectSpec): LineOut {
    const path = spec.kind === "dir" ? { path: this.place(line.path ?? "") || this.#subject.directory } : {};
    const answer = this.#subject.open({ ...spec, ...path });
    if (answer.facts?.kind === "socket") this.#cookies.set(answer.facts.cookie, line.as as string);
    if (answer.facts?.kind === "prog") this.#progs.set(answer.facts.progId, line.as as string);
    if (answer.facts?.kind === "cgroup") this.#cgroups.set(line.as as string, answer.facts.cgroupId);
    return this.#bind(line, answer);
  }

  // Memory: a mapping is a descriptor of its own, through which each access is made.

  #mmap(line: Line): LineOut {
    const fd = this.#fd(line.fd);
    const prot = (line.prot as string | undefined) ?? "rw";
    const offset = (line.offset as number | undefined) ?? 0;
    const pages = Math.ceil((line.length as number) / PAGE_BYTES) * PAGE_BYTES;
    const errno = this.#subject.mapMemory(fd, offset, pages, prot.includes("w"));
    if (errno !== null) return { err: errno };
    const object = this.names.get(line.fd as string)?.object as MapObject;
    const { ret } = this.#subject.bpf({ cmd: "BPF_MAP_GET_FD_BY_ID", attr: { map_id: object.id } });
    this.mappings.set(line.as as string, { object, fd: ret, offset, writable: prot.includes("w") });
    return { mapping: line.as };
  }

  #munmap(line: Line): LineOut {
    const mapping = this.mappings.get(line.mapping as string);
    if (mapping === undefined) return { err: "EINVAL" };
    this.#subject.close(mapping.fd);
    this.mappings.delete(line.mapping as string);
    return {};
  }

  #memory(line: Line, access: (mapping: Mapping, offset: number) => MemoryAnswer): LineOut {
    const mapping = this.mappings.get(line.mapping as string) as Mapping;
    const answer = access(mapping, mapping.offset + (line.offset as number));
    if (answer.errno !== null) return { err: answer.errno };
    return line.cmd === "MEM_READ" ? { data: answer.data } : {};
  }

  /** The map behind a new descriptor; its first name is its name. */
  #learn(name: string, fd: number): MapObject | null {
    const answer = this.#subject.bpf({ cmd: "BPF_OBJ_GET_INFO_BY_FD", attr: { bpf_fd: fd, info_len: MAP_INFO_BYTES } });
    if (answer.errno !== null) return null;
    const info = Buffer.from(answer.attr.info as string, "hex");
    const id = info.readUInt32LE(MAP_INFO.id);
    const known = this.objects.get(id);
    if (known !== undefined) return known;
    const type = typeName(info.readUInt32LE(MAP_INFO.type));
    const valueSize = info.readUInt32LE(MAP_INFO.value_size);
    const strideBytes = Math.ceil(valueSize / PER_CPU_SLOT_BYTES) * PER_CPU_SLOT_BYTES;
    const object = {
      name,
      type,
      id,
      keyBytes: info.readUInt32LE(MAP_INFO.key_size),
      valueBytes: PERCPU.has(type) ? strideBytes * RECORDED_CPUS : valueSize,
      strideBytes,
      maxEntries: info.readUInt32LE(MAP_INFO.max_entries),
    };
    this.objects.set(id, object);
    this.ids.set(name, id);
    return object;
  }

  #objectOf(line: Line): MapObject | null {
    return this.names.get(line.fd as string)?.object ?? null;
  }

  close(name: unknown): Answer {
    const answer = this.#subject.close(this.#fd(name));
    this.names.delete(name as string);
    return answer;
  }

  /** A number stands for itself, a name that is not bound for -1. */
  #fd(name: unknown): number {
    return typeof name === "number" ? name : (this.names.get(name as string)?.fd ?? -1);
  }

  #id(spec: unknown): number {
    if (typeof spec === "number") return spec;
    const { id_of: name, add = 0 } = spec as { id_of: string; add?: number };
    return ((this.ids.get(name) ?? NO_SUCH_ID) + add) >>> 0;
  }

  place(path: unknown): string | null {
    if (typeof path !== "string") return null;
    return path === "" ? "" : `${this.#subject.directory}/${path}`;
  }

  /** An input buffer in hex: null is the null pointer, and one that faults has no bytes. */
  #input(spec: unknown): string | null {
    if (spec === undefined || spec === null) return null;
    if (typeof spec === "string") return spec;
    if (Array.isArray(spec)) return spec.map((part) => slot(this.#input(part) as string)).join("");
    const { fd, size = 4, cat, cgroup_id_of: cgroup } = spec as Spec;
    if (cgroup !== undefined) {
      const bytes = Buffer.alloc(8);
      bytes.writeBigUInt64LE(BigInt(this.#cgroups.get(cgroup) ?? 0));
      return bytes.toString("hex");
    }
    if (cat !== undefined) return cat.map((part) => this.#input(part)).join("");
    if (fd === undefined) return "";
    const bytes = Buffer.alloc(8);
    bytes.writeBigInt64LE(BigInt(this.#fd(fd)));
    return bytes.toString("hex", 0, size);
  }

  /** Room for an output: nothing where it fits. */
  #output(line: Line, field: string): Record<string, string> {
    const spec = line[`${field}_to`];
    if (spec === undefined) return {};
    return { [field]: typeof spec === "number" ? "00".repeat(spec) : "" };
  }

  /** A value that was put out, as a transcript shows it. */
  #show(object: MapObject | null, value: string): unknown {
    if (object === null) return value;
    if (PERCPU.has(object.type)) return split(value, object.strideBytes, RECORDED_CPUS);
    const bytes = Buffer.from(value, "hex");
    if (object.type === "PROG_ARRAY") return { id_of: this.#progs.get(bytes.readUInt32LE(0)) ?? "?" };
    if (SOCKETS.has(object.type) && bytes.length === 8)
      return { cookie_of: this.#cookies.get(String(bytes.readBigUInt64LE(0))) ?? "?" };
    if (TARGETS.has(object.type) && bytes.length === 8 && bytes.readUInt32LE(4) !== 0)
      return { cat: [value.slice(0, 8), { id_of: this.#progs.get(bytes.readUInt32LE(4)) ?? "?" }] };
    if (MAPS_IN_MAPS.has(object.type)) return { id_of: this.objects.get(bytes.readUInt32LE(0))?.name ?? "?" };
    return value;
  }
}

function outcome({ errno }: Answer): LineOut {
  return errno === null ? {} : { err: errno };
}

/** `count` is as it was asked for where it was not written to. */
function batchOutcome(answer: Answer, asked: number): LineOut {
  return { ...outcome(answer), count: answer.attr.count ?? asked };
}

function auxOptions(line: Line): { reuseport?: boolean } {
  return line.reuseport === undefined ? {} : { reuseport: line.reuseport === true };
}

function infoBuffer(line: Line, length: number): { info?: string } {
  if ("info_to" in line) return { info: typeof line.info_to === "number" ? JUNK.repeat(line.info_to) : "" };
  if (!("hash_size" in line) && !("info_poke" in line)) return {};
  const info = Buffer.alloc(length);
  if ("hash_size" in line) {
    const hash = Buffer.alloc(12);
    hash.writeBigUInt64LE(1n);
    hash.writeUInt32LE(line.hash_size as number, 8);
    hash.copy(info, MAP_INFO.hash);
  }
  for (const [offset, hex] of Object.entries((line.info_poke as Record<string, string> | undefined) ?? {}))
    Buffer.from(hex, "hex").copy(info, Number(offset));
  return { info: info.toString("hex") };
}

export function isBad(spec: unknown): boolean {
  return spec !== null && typeof spec === "object" && "bad" in spec;
}

function typeNumber(type: unknown): number {
  return typeof type === "number" ? type : BPF_MAP_TYPE[`BPF_MAP_TYPE_${type}` as MapTypeName];
}

function typeName(type: number): string {
  return (mapTypeName(type) ?? String(type)).replace("BPF_MAP_TYPE_", "");
}

function shownNumber(number: bigint): number | string {
  return number < 1n << 53n ? Number(number) : `0x${number.toString(16)}`;
}

function split(hex: string, size: number, count: number): string[] {
  return Array.from({ length: count }, (_, at) => hex.slice(at * size * 2, (at + 1) * size * 2));
}

/** A value of one CPU, padded to its slot. */
function slot(hex: string): string {
  return hex.padEnd(Math.ceil(hex.length / 2 / PER_CPU_SLOT_BYTES) * PER_CPU_SLOT_BYTES * 2, "0");
}
