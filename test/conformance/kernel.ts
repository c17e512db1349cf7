import { mkdirSync, mkdtempSync, readdirSync, rmdirSync, statSync, unlinkSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { BPF_CMD, BPF_MAP_TYPE, MAP_INFO, OBJ_NAME_LEN } from "../../src/abi/bpf.ts";
import { errnoName } from "../../src/abi/errno.ts";
import type { DoorAttr, DoorRequest } from "../../src/codec/door.ts";
import { Bpf, openBpf } from "../../src/mirror/bpf.ts";
import { openRealObject, type RealObject } from "../../src/mirror/real_objects.ts";
import { errnoOf } from "../../src/mirror/refusal.ts";
import type { ObjectSpec } from "../../src/syscall/command.ts";
import { BPFFS } from "../support/bpffs.ts";
import type { Answer, MemoryAnswer, Raw, Subject } from "./subject.ts";

const ATTR_BYTES = 168;
const PAGE_BYTES = 4096;
const DIGEST_BYTES = 32;
/** What a lookup batch is given room for at most, whatever its count. */
const ROOM_ELEMENTS_MAX = 4096;
const SYSCALL_NUMBER = process.arch === "arm64" ? 280 : 321;
const PROT_NONE = 0;
const PROT_READ = 1;
const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;
const MAP_PRIVATE_ANONYMOUS = 0x22;

/** Offsets and sizes in union bpf_attr. */
const CREATE = {
  map_type: [0, 4],
  key_size: [4, 4],
  value_size: [8, 4],
  max_entries: [12, 4],
  map_flags: [16, 4],
  inner_map_fd: [20, 4],
  numa_node: [24, 4],
  map_ifindex: [44, 4],
  btf_fd: [48, 4],
  btf_key_type_id: [52, 4],
  btf_value_type_id: [56, 4],
  btf_vmlinux_value_type_id: [60, 4],
  map_extra: [64, 8],
  value_type_btf_obj_fd: [72, 4],
  map_token_fd: [76, 4],
  excl_prog_hash_size: [88, 4],
} as const;

/** Map types whose values come as one slot a CPU. */
const PERCPU: ReadonlySet<number> = new Set([
  BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_HASH,
  BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_ARRAY,
  BPF_MAP_TYPE.BPF_MAP_TYPE_LRU_PERCPU_HASH,
  BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE,
]);

type Libc = Record<"mmap" | "mprotect" | "munmap" | "syscall" | "dup", (...args: unknown[]) => number | bigint>;
type Koffi = typeof import("koffi");

/** Memory that ends exactly where it says: the next byte faults. One area a role, used again by the next command. */
class Guarded {
  readonly #koffi: Koffi;
  readonly #libc: Libc;
  readonly #areas = new Map<string, { start: bigint; bytes: Buffer }>();

  constructor(koffi: Koffi, libc: Libc) {
    this.#koffi = koffi;
    this.#libc = libc;
  }

  /** `length` zero bytes and where they are. */
  room(role: string, length: number): { address: bigint; bytes: Buffer } {
    const { start, bytes } = this.#area(role, length);
    const at = bytes.length - length;
    return { address: start + BigInt(at), bytes: bytes.subarray(at).fill(0) };
  }

  put(role: string, data: Buffer): bigint {
    const { address, bytes } = this.room(role, data.length);
    data.copy(bytes);
    return address;
  }

  #area(role: string, length: number): { start: bigint; bytes: Buffer } {
    const known = this.#areas.get(role);
    if (known !== undefined && known.bytes.length >= length) return known;
    if (known !== undefined) this.#libc.munmap(known.start, known.bytes.length + PAGE_BYTES);
    const size = Math.max(Math.ceil(length / PAGE_BYTES), 4) * PAGE_BYTES;
    const start = this.#libc.mmap(null, size + PAGE_BYTES, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0) as bigint;
    this.#libc.mprotect(start + BigInt(size), PAGE_BYTES, PROT_NONE);
    const area = { start, bytes: Buffer.from(this.#koffi.view(start, size)) };
    this.#areas.set(role, area);
    return area;
  }
}

interface Natives {
  readonly bpf: Bpf;
  readonly koffi: Koffi;
  readonly libc: Libc;
  readonly memory: Guarded;
}

let loaded: Natives | null = null;

/** Loaded once: the guarded memory serves every kernel subject, one after the other. */
function natives(): Natives {
  if (loaded !== null) return loaded;
  const bpf = openBpf();
  if (!(bpf instanceof Bpf)) throw new Error(`opening bpf(2): ${bpf.off}`);
  const koffi = createRequire(import.meta.url)("koffi") as Koffi;
  const library = koffi.load("libc.so.6");
  const libc = {
    mmap: library.func("void *mmap(void *addr, size_t length, int prot, int flags, int fd, int64_t offset)"),
    mprotect: library.func("int mprotect(void *addr, size_t length, int prot)"),
    munmap: library.func("int munmap(void *addr, size_t length)"),
    syscall: library.func("long syscall(long number, long cmd, void *attr, uint size)"),
    dup: library.func("int dup(int fd)"),
  } as unknown as Libc;
  loaded = { bpf, koffi, libc, memory: new Guarded(koffi, libc) };
  return loaded;
}

/** What an answer's buffers are made of: fields of the attr that the kernel writes behind. */
interface Call {
  readonly attr: Buffer;
  /** Reads what was written; called when the kernel has answered. */
  outputs(errno: string | null): DoorAttr;
}

interface Shape {
  readonly keyBytes: number;
  readonly valueBytes: number;
  /** Its lookups read their value. */
  readonly asks: boolean;
}

type Attr = Readonly<Record<string, unknown>>;

const NO_OUTPUTS = (): DoorAttr => ({});
const UNKNOWN_SHAPE: Shape = { keyBytes: 64, valueBytes: 64, asks: false };

/** The running kernel: bpf(2) on real buffers, in this process. */
export class Kernel implements Subject {
  readonly directory = mkdtempSync(join(BPFFS, "mlcon"));
  readonly takesRaw = true;
  readonly ownsIds = false;
  readonly #bpf: Bpf;
  readonly #koffi: Koffi;
  readonly #libc: Libc;
  readonly #memory: Guarded;
  readonly #open = new Set<number>();
  readonly #objects: RealObject[] = [];
  readonly #shapes = new Map<number, Shape>();
  readonly #possibleCpus: number;

  constructor(possibleCpus: number) {
    this.#possibleCpus = possibleCpus;
    const { bpf, koffi, libc, memory } = natives();
    this.#bpf = bpf;
    this.#koffi = koffi;
    this.#libc = libc;
    this.#memory = memory;
  }

  bpf({ cmd, attr = {} }: DoorRequest, raw: Raw = {}): Answer {
    const number = typeof cmd === "number" ? cmd : BPF_CMD[cmd as keyof typeof BPF_CMD];
    const call = this.#prepare(cmd as string, attr, raw);
    for (const [offset, hex] of Object.entries(raw.poke ?? {})) Buffer.from(hex, "hex").copy(call.attr, Number(offset));
    const size = raw.size ?? ATTR_BYTES;
    const { address, bytes } = this.#memory.room("attr", size);
    call.attr.copy(bytes);
    const result = this.#result(this.#libc.syscall(SYSCALL_NUMBER, number, raw.nullAttr ? null : address, size));
    bytes.copy(call.attr);
    if (result.errno === null && OPENS.has(cmd as string)) this.#opened(result.ret);
    if (result.errno === null && cmd === "BPF_BTF_LOAD") this.#opened(result.ret, UNKNOWN_SHAPE);
    return { ...result, attr: raw.nullAttr ? {} : call.outputs(result.errno) };
  }

  close(fd: number): Answer {
    this.#open.delete(fd);
    this.#shapes.delete(fd);
    return answered(this.#bpf.close(fd));
  }

  dup(fd: number): Answer {
    const { ret, errno } = this.#result(this.#libc.dup(fd));
    if (errno === null) this.#opened(ret, this.#shapes.get(fd));
    return { ret, errno, attr: {} };
  }

  open(spec: ObjectSpec): Answer {
    const object = openRealObject(this.#bpf, spec);
    if (!("facts" in object)) return { ...answered(object.ret), detail: object.detail };
    this.#objects.push(object);
    this.#opened(object.fd, UNKNOWN_SHAPE);
    return { ret: object.fd, errno: null, attr: {}, facts: object.facts };
  }

  mapMemory(fd: number, offset: number, length: number, writable: boolean): string | null {
    return this.#mapped(fd, offset, length, writable, () => "").errno;
  }

  readMemory(fd: number, offset: number, length: number): MemoryAnswer {
    return this.#mapped(fd, offset, length, false, (bytes) => bytes.toString("hex"));
  }

  writeMemory(fd: number, offset: number, data: string): MemoryAnswer {
    const stored = Buffer.from(data, "hex");
    return this.#mapped(fd, offset, stored.length, true, (bytes) => {
      stored.copy(bytes);
      return "";
    });
  }

  /** A mapping for one access, so that it is not in the way of what comes after. */
  #mapped(fd: number, offset: number, length: number, writable: boolean, use: (bytes: Buffer) => string): MemoryAnswer {
    const start = Math.floor(offset / PAGE_BYTES) * PAGE_BYTES;
    const size = Math.ceil((offset + length - start) / PAGE_BYTES) * PAGE_BYTES;
    const prot = writable ? PROT_READ_WRITE : PROT_READ;
    const address = this.#libc.mmap(null, size, prot, MAP_SHARED, fd, start) as bigint;
    if (BigInt.asIntN(64, address) === -1n) return { errno: errnoName(this.#koffi.errno()), data: "" };
    const bytes = Buffer.from(this.#koffi.view(address, size));
    const data = use(bytes.subarray(offset - start, offset - start + length));
    this.#libc.munmap(address, size);
    return { errno: null, data };
  }

  changePath(call: "unlink" | "mkdir" | "rmdir", pathname: string): Answer {
    const calls = { unlink: unlinkSync, mkdir: mkdirSync, rmdir: rmdirSync };
    return answered(errnoOf(() => calls[call](pathname)));
  }

  removeCgroup(fd: number): void {
    this.#objects.findLast((object) => object.fd === fd)?.remove();
  }

  settle(ms = SETTLE_MS): void {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
  }

  end(): void {
    for (const fd of [...this.#open]) this.close(fd);
    for (const object of this.#objects) {
      object.release();
      object.remove();
    }
    for (const name of readdirSync(this.directory, { recursive: true, encoding: "utf8" }).sort().reverse()) {
      const path = join(this.directory, name);
      if (statSync(path).isDirectory()) rmdirSync(path);
      else unlinkSync(path);
    }
    rmdirSync(this.directory);
  }

  #result(returned: number | bigint): { ret: number; errno: string | null } {
    const ret = Number(returned);
    return ret < 0 ? { ret: -1, errno: errnoName(this.#koffi.errno()) } : { ret, errno: null };
  }

  /** `shape`: where there is no need to ask for it, or nobody who would tell. */
  #opened(fd: number, shape?: Shape): void {
    this.#open.add(fd);
    if (shape === undefined) this.#shapes.delete(fd);
    else this.#shapes.set(fd, shape);
  }

  /** Sizes of a map's keys and values in user space; of what is no map: enough for whatever comes. */
  #shape(fd: unknown): Shape {
    if (!this.#open.has(fd as number)) return UNKNOWN_SHAPE;
    const known = this.#shapes.get(fd as number);
    if (known !== undefined) return known;
    const info = this.#bpf.infoByFd(fd as number);
    if (typeof info === "number") return UNKNOWN_SHAPE;
    const slotBytes = Math.ceil(info.valueSize / 8) * 8;
    const shape = {
      keyBytes: info.keySize,
      valueBytes: PERCPU.has(info.type) ? slotBytes * this.#possibleCpus : info.valueSize,
      asks: info.type === BPF_MAP_TYPE.BPF_MAP_TYPE_BLOOM_FILTER,
    };
    this.#shapes.set(fd as number, shape);
    return shape;
  }

  #prepare(cmd: string, attr: Attr, raw: Raw): Call {
    const packed = Buffer.alloc(Math.max(ATTR_BYTES, raw.size ?? 0));
    switch (cmd) {
      case "BPF_MAP_CREATE":
        return this.#create(packed, attr);
      case "BPF_MAP_LOOKUP_ELEM":
      case "BPF_MAP_LOOKUP_AND_DELETE_ELEM":
        return this.#element(packed, attr, "value");
      case "BPF_MAP_GET_NEXT_KEY":
        return this.#element(packed, attr, "next_key");
      case "BPF_MAP_UPDATE_ELEM":
      case "BPF_MAP_DELETE_ELEM":
      case "BPF_MAP_FREEZE":
        return this.#element(packed, attr, null);
      case "BPF_MAP_LOOKUP_BATCH":
      case "BPF_MAP_LOOKUP_AND_DELETE_BATCH":
      case "BPF_MAP_UPDATE_BATCH":
      case "BPF_MAP_DELETE_BATCH":
        return this.#batch(packed, attr, cmd.includes("LOOKUP"));
      case "BPF_OBJ_PIN":
      case "BPF_OBJ_GET":
        return this.#path(packed, attr, raw);
      case "BPF_MAP_GET_NEXT_ID":
        write(packed, 0, 4, attr.start_id);
        return { attr: packed, outputs: (errno) => (errno === null ? { next_id: packed.readUInt32LE(4) } : {}) };
      case "BPF_MAP_GET_FD_BY_ID":
        write(packed, 0, 4, attr.map_id);
        write(packed, 8, 4, attr.open_flags);
        return { attr: packed, outputs: NO_OUTPUTS };
      case "BPF_OBJ_GET_INFO_BY_FD":
        return this.#info(packed, attr);
      case "BPF_BTF_LOAD":
        packed.writeBigUInt64LE(this.#input("btf", attr.btf), 0);
        write(packed, 16, 4, attr.btf_size);
        return { attr: packed, outputs: NO_OUTPUTS };
      default:
        return { attr: packed, outputs: NO_OUTPUTS };
    }
  }

  #create(packed: Buffer, attr: Attr): Call {
    for (const [field, [offset, size]] of Object.entries(CREATE)) write(packed, offset, size, attr[field]);
    packed.write((attr.map_name as string | undefined) ?? "", 28, OBJ_NAME_LEN, "latin1");
    packed.writeBigUInt64LE(this.#input("hash", attr.excl_prog_hash), 80);
    return { attr: packed, outputs: NO_OUTPUTS };
  }

  #element(packed: Buffer, attr: Attr, output: "value" | "next_key" | null): Call {
    write(packed, 0, 4, attr.map_fd);
    packed.writeBigUInt64LE(this.#input("key", attr.key), 8);
    write(packed, 24, 8, attr.flags);
    // A bloom filter's lookup reads what others write to.
    if (output === null || this.#shape(attr.map_fd).asks) {
      packed.writeBigUInt64LE(this.#input("value", attr.value), 16);
      return { attr: packed, outputs: NO_OUTPUTS };
    }
    const shape = this.#shape(attr.map_fd);
    const size = output === "value" ? shape.valueBytes : shape.keyBytes;
    const room = this.#output(output, attr[output], size);
    packed.writeBigUInt64LE(room.address, 16);
    return { attr: packed, outputs: (errno) => (errno === null ? { [output]: hex(room.bytes, size) } : {}) };
  }

  #batch(packed: Buffer, attr: Attr, reads: boolean): Call {
    const count = Number(attr.count ?? 0);
    write(packed, 32, 4, attr.count);
    write(packed, 36, 4, attr.map_fd);
    write(packed, 40, 8, attr.elem_flags);
    write(packed, 48, 8, attr.flags);
    packed.writeBigUInt64LE(this.#input("in_batch", attr.in_batch), 0);
    const done = (): number => packed.readUInt32LE(32);
    if (!reads) {
      packed.writeBigUInt64LE(this.#input("keys", attr.keys), 16);
      packed.writeBigUInt64LE(this.#input("values", attr.values), 24);
      return { attr: packed, outputs: () => ({ count: done() }) };
    }
    const { keyBytes, valueBytes } = this.#shape(attr.map_fd);
    const most = Math.min(count, ROOM_ELEMENTS_MAX);
    const position = this.#output("out_batch", attr.out_batch, Math.max(keyBytes, 4));
    const keys = this.#output("keys", attr.keys, most * keyBytes);
    const values = this.#output("values", attr.values, most * valueBytes);
    packed.writeBigUInt64LE(position.address, 8);
    packed.writeBigUInt64LE(keys.address, 16);
    packed.writeBigUInt64LE(values.address, 24);
    return {
      attr: packed,
      outputs(errno) {
        if (errno !== null && errno !== "ENOENT") return { count: done() };
        return {
          count: done(),
          keys: hex(keys.bytes, done() * keyBytes),
          values: hex(values.bytes, done() * valueBytes),
          out_batch: position.bytes.toString("hex"),
        };
      },
    };
  }

  #path(packed: Buffer, attr: Attr, raw: Raw): Call {
    const path = attr.pathname as string | null | undefined;
    const pointer = raw.badPath ? "" : path == null ? null : Buffer.from(`${path}\0`).toString("hex");
    packed.writeBigUInt64LE(this.#input("path", pointer), 0);
    write(packed, 8, 4, attr.bpf_fd);
    write(packed, 12, 4, attr.file_flags);
    write(packed, 16, 4, attr.path_fd);
    return { attr: packed, outputs: NO_OUTPUTS };
  }

  /** A hash in the buffer stands for the address of room for one. */
  #info(packed: Buffer, attr: Attr): Call {
    const length = Number(attr.info_len ?? 0);
    const digest = this.#memory.room("hash", DIGEST_BYTES);
    const info = this.#output("info", attr.info, length);
    if (typeof attr.info === "string") Buffer.from(attr.info, "hex").copy(info.bytes);
    const asked =
      Math.min(info.bytes.length, length) >= MAP_INFO.hash + 8 && info.bytes.readBigUInt64LE(MAP_INFO.hash) !== 0n;
    if (asked) info.bytes.writeBigUInt64LE(digest.address, MAP_INFO.hash);
    write(packed, 0, 4, attr.bpf_fd);
    write(packed, 4, 4, attr.info_len);
    packed.writeBigUInt64LE(info.address, 8);
    return {
      attr: packed,
      outputs(errno) {
        if (errno !== null) return {};
        const used = packed.readUInt32LE(4);
        const out = { info: hex(info.bytes, Math.min(used, length)), info_len: used };
        return asked ? { ...out, hash: digest.bytes.toString("hex") } : out;
      },
    };
  }

  /** The address of an input: null, or bytes that end where they end. */
  #input(role: string, value: unknown): bigint {
    return typeof value === "string" ? this.#memory.put(role, Buffer.from(value, "hex")) : 0n;
  }

  /** Room for an output: what the caller has, or as much as it takes. */
  #output(role: string, value: unknown, size: number): { address: bigint; bytes: Buffer } {
    return this.#memory.room(role, typeof value === "string" ? value.length / 2 : size);
  }
}

/** A grace period of RCU, and then some. */
const SETTLE_MS = 10;
const OPENS = new Set(["BPF_MAP_CREATE", "BPF_MAP_GET_FD_BY_ID", "BPF_OBJ_GET"]);

/** A number of the door into the attr; absent is 0. */
function write(attr: Buffer, offset: number, size: 4 | 8, value: unknown): void {
  const number = BigInt((value ?? 0) as number | string);
  if (size === 4) attr.writeUInt32LE(Number(BigInt.asUintN(32, number)), offset);
  else attr.writeBigUInt64LE(BigInt.asUintN(64, number), offset);
}

function hex(bytes: Buffer, length: number): string {
  return bytes.toString("hex", 0, length);
}

function answered(ret: number): Answer {
  return ret < 0 ? { ret: -1, errno: errnoName(-ret), attr: {} } : { ret, errno: null, attr: {} };
}
