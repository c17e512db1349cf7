import type { Subject } from "../../conformance/subject.ts";
import { BTF_KIND } from "../../src/maps/btf_types.ts";
import { succeed } from "../maps/ladder.ts";

type Member = readonly [name: string, type: number, offsetBytes: number];

/** Writes BTF, a type after the other: each answers its id. */
export class BtfBlob {
  readonly #types: Buffer[] = [];
  #strings = "\0";

  int(name: string, size: number): number {
    return this.add(BTF_KIND.INT, name, size, 0, [size * 8]);
  }

  struct(name: string, size: number, members: readonly Member[] = []): number {
    const rest = members.flatMap(([field, type, offset]) => [this.#string(field), type, offset * 8]);
    return this.add(BTF_KIND.STRUCT, name, size, members.length, rest);
  }

  add(kind: number, name: string, sizeOrType: number, vlen = 0, rest: readonly number[] = []): number {
    this.#types.push(words([this.#string(name), (kind << 24) | vlen, sizeOrType, ...rest]));
    return this.#types.length;
  }

  bytes(): Buffer {
    const types = Buffer.concat(this.#types);
    const strings = Buffer.from(this.#strings, "latin1");
    const header = Buffer.concat([
      Buffer.from("9feb0100", "hex"),
      words([24, 0, types.length, types.length, strings.length]),
    ]);
    return Buffer.concat([header, types, strings]);
  }

  /** Where a name begins, for what stands behind a type. */
  name(text: string): number {
    return this.#string(text);
  }

  #string(text: string): number {
    if (text === "") return 0;
    const at = this.#strings.length;
    this.#strings += `${text}\0`;
    return at;
  }
}

function words(numbers: readonly number[]): Buffer {
  const bytes = Buffer.alloc(numbers.length * 4);
  numbers.forEach((number, at) => {
    bytes.writeUInt32LE(number >>> 0, at * 4);
  });
  return bytes;
}

export function loadBtf(subject: Subject, bytes: Buffer): number {
  const attr = { btf: bytes.toString("hex"), btf_size: bytes.length };
  return succeed(subject.bpf({ cmd: "BPF_BTF_LOAD", attr })).ret;
}

/** Types that tests of maps describe their keys and values by; the number in a name is the size. */
export function commonTypes(subject: Subject) {
  const blob = new BtfBlob();
  const u32 = blob.int("u32", 4);
  const u64 = blob.int("u64", 8);
  const lock = blob.struct("bpf_spin_lock", 4, [["val", u32, 0]]);
  const timer = blob.struct("bpf_timer", 16, [
    ["a", u64, 0],
    ["b", u64, 8],
  ]);
  const types = {
    u32,
    u64,
    typedef4: blob.add(BTF_KIND.TYPEDEF, "number", u32),
    plain8: blob.struct("plain8", 8, [["a", u64, 0]]),
    /** The lock stands in bytes 4 to 7. */
    locked12: blob.struct("locked12", 12, [
      ["a", u32, 0],
      ["lock", lock, 4],
      ["b", u32, 8],
    ]),
    /** The timer stands in bytes 0 to 15. */
    timed24: blob.struct("timed24", 24, [
      ["timer", timer, 0],
      ["a", u64, 16],
    ]),
    crooked24: blob.struct("crooked24", 24, [["timer", timer, 4]]),
    prefix8: blob.struct("prefix8", 8, [
      ["prefixlen", u32, 0],
      ["data", u32, 4],
    ]),
    storageKey16: blob.struct("storage_key16", 16, [
      ["cgroup_inode_id", u64, 0],
      ["attach_type", u32, 8],
    ]),
    otherKey16: blob.struct("other_key16", 16, [
      ["a", u64, 0],
      ["b", u64, 8],
    ]),
    largest: blob.struct("largest", 65_407),
  };
  return { ...types, fd: loadBtf(subject, blob.bytes()) };
}
