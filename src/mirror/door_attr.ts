import {
  type AttrField,
  BATCH_FIELDS,
  BPF_ATTR_BYTES,
  BTF_FIELDS,
  BTF_ID_FIELDS,
  CREATE_FIELDS,
  ELEMENT_FIELDS,
  type FieldKind,
  ID_FIELDS,
  INFO_FIELDS,
  PATH_FIELDS,
} from "../abi/attr.ts";
import { BTF_INFO, BTF_INFO_BYTES, MAP_INFO, OBJ_NAME_LEN } from "../abi/bpf.ts";
import type { DoorAttr } from "../codec/door.ts";
import { roundUp8 } from "../maps/common.ts";
import { factsOf } from "../maps/facts.ts";
import type { Bpf } from "../native/bpf.ts";
import type { Guarded, Room } from "../native/guard_pages.ts";

const DIGEST_BYTES = 32;
/** The most elements that a lookup batch gets room for, whatever its count is. */
const ROOM_ELEMENTS_MAX = 4096;
/** A batch's position has at least the size of a u32. */
const POSITION_BYTES_MIN = 4;

/** An attr with its buffers, ready for the call. */
export interface PackedCall {
  readonly attr: Buffer;
  /** Reads the results from the buffers, after the call. */
  outputs(errno: string | null): DoorAttr;
}

interface Shape {
  readonly keyBytes: number;
  readonly valueBytes: number;
  /** Whether a lookup reads its value, as that of a bloom filter does, instead of writing it. */
  readonly asks: boolean;
}

type Attr = Readonly<Record<string, unknown>>;

const NO_OUTPUTS = (): DoorAttr => ({});
const NO_MAP: Shape = { keyBytes: 64, valueBytes: 64, asks: false };

/** Packs attrs. It must be told which descriptors are maps, because the size of an output depends on the map. */
export class DoorPacker {
  readonly #bpf: Bpf;
  readonly #memory: Guarded;
  readonly #possibleCpus: number;
  /** null: the descriptor is a map's, and its sizes have not been read yet. */
  readonly #shapes = new Map<number, Shape | null>();
  readonly #btfs = new Set<number>();

  constructor(bpf: Bpf, memory: Guarded, possibleCpus: number) {
    this.#bpf = bpf;
    this.#memory = memory;
    this.#possibleCpus = possibleCpus;
  }

  openedMap(fd: number): void {
    this.#shapes.set(fd, null);
  }

  openedOther(fd: number): void {
    this.#shapes.set(fd, NO_MAP);
  }

  openedBtf(fd: number): void {
    this.openedOther(fd);
    this.#btfs.add(fd);
  }

  duplicated(fd: number, copy: number): void {
    if (this.#btfs.has(fd)) this.#btfs.add(copy);
    this.#shapes.set(copy, this.#shapes.get(fd) ?? null);
  }

  closed(fd: number): void {
    this.#btfs.delete(fd);
    this.#shapes.delete(fd);
  }

  /** `bytes`: the length of the attr, if it is longer than union bpf_attr. */
  pack(cmd: string, attr: Attr, bytes = BPF_ATTR_BYTES): PackedCall {
    const packed = Buffer.alloc(Math.max(BPF_ATTR_BYTES, bytes));
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
        return this.#path(packed, attr);
      case "BPF_MAP_GET_NEXT_ID":
        writeNumbers(packed, ID_FIELDS, attr);
        return { attr: packed, outputs: (errno) => (errno === null ? { next_id: packed.readUInt32LE(4) } : {}) };
      case "BPF_MAP_GET_FD_BY_ID":
        writeNumbers(packed, ID_FIELDS, attr);
        return { attr: packed, outputs: NO_OUTPUTS };
      case "BPF_BTF_GET_NEXT_ID":
        writeNumbers(packed, BTF_ID_FIELDS, attr);
        return { attr: packed, outputs: (errno) => (errno === null ? { next_id: packed.readUInt32LE(4) } : {}) };
      case "BPF_BTF_GET_FD_BY_ID":
        writeNumbers(packed, BTF_ID_FIELDS, attr);
        return { attr: packed, outputs: NO_OUTPUTS };
      case "BPF_OBJ_GET_INFO_BY_FD":
        return this.#btfs.has(attr.bpf_fd as number) ? this.#btfInfo(packed, attr) : this.#info(packed, attr);
      case "BPF_BTF_LOAD":
        packed.writeBigUInt64LE(this.#input("btf", attr.btf), 0);
        writeNumbers(packed, BTF_FIELDS, attr);
        return { attr: packed, outputs: NO_OUTPUTS };
      default:
        return { attr: packed, outputs: NO_OUTPUTS };
    }
  }

  /**
   * The sizes of a map's keys and values in user space; for other descriptors, sizes that are large enough for any of
   * them.
   */
  #shape(fd: unknown): Shape {
    const known = this.#shapes.get(fd as number);
    if (known === undefined) return NO_MAP;
    if (known !== null) return known;
    const info = this.#bpf.infoByFd(fd as number);
    if (typeof info === "number") return NO_MAP;
    const { perCpu = false, asks = false } = factsOf(info.type) ?? {};
    const shape = {
      keyBytes: info.keySize,
      valueBytes: perCpu ? roundUp8(info.valueSize) * this.#possibleCpus : info.valueSize,
      asks,
    };
    this.#shapes.set(fd as number, shape);
    return shape;
  }

  #create(packed: Buffer, attr: Attr): PackedCall {
    writeNumbers(packed, CREATE_FIELDS, attr);
    packed.write((attr.map_name as string | undefined) ?? "", 28, OBJ_NAME_LEN, "latin1");
    packed.writeBigUInt64LE(this.#input("hash", attr.excl_prog_hash), 80);
    return { attr: packed, outputs: NO_OUTPUTS };
  }

  #element(packed: Buffer, attr: Attr, output: "value" | "next_key" | null): PackedCall {
    writeNumbers(packed, ELEMENT_FIELDS, attr);
    packed.writeBigUInt64LE(this.#input("key", attr.key), 8);
    // The lookup of a bloom filter reads `value`; that of any other map writes it.
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

  #batch(packed: Buffer, attr: Attr, reads: boolean): PackedCall {
    const count = Number(attr.count ?? 0);
    writeNumbers(packed, BATCH_FIELDS, attr);
    packed.writeBigUInt64LE(this.#input("in_batch", attr.in_batch), 0);
    const done = (): number => packed.readUInt32LE(32);
    if (!reads) {
      packed.writeBigUInt64LE(this.#input("keys", attr.keys), 16);
      packed.writeBigUInt64LE(this.#input("values", attr.values), 24);
      return { attr: packed, outputs: () => ({ count: done() }) };
    }
    const { keyBytes, valueBytes } = this.#shape(attr.map_fd);
    const most = Math.min(count, ROOM_ELEMENTS_MAX);
    const position = this.#output("out_batch", attr.out_batch, Math.max(keyBytes, POSITION_BYTES_MIN));
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

  #path(packed: Buffer, attr: Attr): PackedCall {
    const path = attr.pathname as string | null | undefined;
    const pointer = path == null ? null : Buffer.from(`${path}\0`).toString("hex");
    packed.writeBigUInt64LE(this.#input("path", pointer), 0);
    writeNumbers(packed, PATH_FIELDS, attr);
    return { attr: packed, outputs: NO_OUTPUTS };
  }

  /**
   * If the caller's info has a hash pointer other than 0, it is replaced by the address of a buffer for the digest.
   */
  #info(packed: Buffer, attr: Attr): PackedCall {
    const length = Number(attr.info_len ?? 0);
    const digest = this.#memory.room("hash", DIGEST_BYTES);
    const info = this.#infoRoom(attr, length);
    const asked =
      Math.min(info.bytes.length, length) >= MAP_INFO.hash + 8 && info.bytes.readBigUInt64LE(MAP_INFO.hash) !== 0n;
    if (asked) info.bytes.writeBigUInt64LE(digest.address, MAP_INFO.hash);
    writeNumbers(packed, INFO_FIELDS, attr);
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

  /** Pointers other than 0 in the caller's info are replaced by addresses of buffers of the length that the info says. */
  #btfInfo(packed: Buffer, attr: Attr): PackedCall {
    const length = Number(attr.info_len ?? 0);
    const info = this.#infoRoom(attr, length);
    const given = Buffer.alloc(BTF_INFO_BYTES);
    info.bytes.copy(given, 0, 0, Math.min(length, BTF_INFO_BYTES));
    const pointed = (at: number, bytes: number): Room | null => {
      if (given.readBigUInt64LE(at) === 0n || length < at + 8) return null;
      const room = this.#memory.room(at === BTF_INFO.btf ? "btf" : "name", bytes);
      info.bytes.writeBigUInt64LE(room.address, at);
      return room;
    };
    const btf = pointed(BTF_INFO.btf, given.readUInt32LE(BTF_INFO.btf_size));
    const name = pointed(BTF_INFO.name, given.readUInt32LE(BTF_INFO.name_len));
    writeNumbers(packed, INFO_FIELDS, attr);
    packed.writeBigUInt64LE(info.address, 8);
    return {
      attr: packed,
      outputs(errno) {
        if (errno !== null) return {};
        const used = packed.readUInt32LE(4);
        const answer = Buffer.alloc(Math.max(used, BTF_INFO_BYTES));
        info.bytes.copy(answer, 0, 0, used);
        for (const at of [BTF_INFO.btf, BTF_INFO.name]) given.copy(answer, at, at, at + 8);
        return {
          info: hex(answer, used),
          info_len: used,
          ...(btf !== null && { btf: hex(btf.bytes, answer.readUInt32LE(BTF_INFO.btf_size)) }),
          ...(name !== null && { name: name.bytes.toString("latin1", 0, name.bytes.indexOf(0)) }),
        };
      },
    };
  }

  /** Room for an info, with the bytes that the caller gave. */
  #infoRoom({ info }: Attr, length: number): Room {
    const room = this.#output("info", info, length);
    if (typeof info === "string") Buffer.from(info, "hex").copy(room.bytes);
    return room;
  }

  /** The address of an input of exactly its length; 0 if there is none. */
  #input(role: string, value: unknown): bigint {
    return typeof value === "string" ? this.#memory.put(role, Buffer.from(value, "hex")) : 0n;
  }

  /** Room for an output: of the caller's length, if given, otherwise of `size`. */
  #output(role: string, value: unknown, size: number): Room {
    return this.#memory.room(role, typeof value === "string" ? value.length / 2 : size);
  }
}

/** The bytes of a number of each kind; null: the field is no number, and `DoorPacker` writes it. */
const NUMBER_BYTES: Readonly<Record<FieldKind, 4 | 8 | null>> = {
  u32: 4,
  s32: 4,
  u64: 8,
  fd: 4,
  char16: null,
  pointer: null,
  path: null,
};

/**
 * Writes the numbers of the door's JSON into the attr. An absent field is 0. If a field has two names, the caller gives
 * one of them.
 */
function writeNumbers(packed: Buffer, fields: readonly AttrField[], attr: Attr): void {
  for (const { name, offset, kind } of fields) {
    const size = NUMBER_BYTES[kind];
    if (size !== null && attr[name] != null) write(packed, offset, size, attr[name]);
  }
}

/** Writes a number from the door's JSON into the attr. */
function write(attr: Buffer, offset: number, size: 4 | 8, value: unknown): void {
  const number = BigInt(value as number | string);
  if (size === 4) attr.writeUInt32LE(Number(BigInt.asUintN(32, number)), offset);
  else attr.writeBigUInt64LE(BigInt.asUintN(64, number), offset);
}

function hex(bytes: Buffer, length: number): string {
  return bytes.toString("hex", 0, length);
}
