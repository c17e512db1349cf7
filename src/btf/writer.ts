/** Writes BTF (btf.ts has its form), type by type. Each method answers the new type's id. */

import { BTF_KIND } from "../maps/btf_types.ts";
import { headerOf } from "./header.ts";

/** The component of a declaration tag that is for a type as a whole. */
const WHOLE = -1;

/** `bits`: the width of a bitfield; 0: the member is none. */
export interface WrittenMember {
  readonly name: string;
  readonly type: number;
  readonly offsetBits: number;
  readonly bits: number;
}

export class BtfWriter {
  readonly #types: Buffer[] = [];
  readonly #offsets = new Map<string, number>([["", 0]]);
  readonly #strings: Buffer[] = [Buffer.from([0])];
  #stringBytes = 1;

  /** `encoding`: INT_ENCODING or 0. */
  int(
    name: string,
    bytes: number,
    { bits, offset, encoding }: { bits: number; offset: number; encoding: number },
  ): number {
    return this.#add(BTF_KIND.INT, { name, sizeOrType: bytes, rest: [(encoding << 24) | (offset << 16) | bits] });
  }

  float(name: string, bytes: number): number {
    return this.#add(BTF_KIND.FLOAT, { name, sizeOrType: bytes });
  }

  /** `to` 0: void. */
  pointer(to: number): number {
    return this.#add(BTF_KIND.PTR, { sizeOrType: to });
  }

  typedef(name: string, of: number): number {
    return this.#add(BTF_KIND.TYPEDEF, { name, sizeOrType: of });
  }

  typeTag(text: string, of: number): number {
    return this.#add(BTF_KIND.TYPE_TAG, { name: text, sizeOrType: of });
  }

  /** A tag of a type as a whole. */
  declTag(text: string, of: number): number {
    return this.#add(BTF_KIND.DECL_TAG, { name: text, sizeOrType: of, rest: [WHOLE] });
  }

  array(element: number, index: number, count: number): number {
    return this.#add(BTF_KIND.ARRAY, { rest: [element, index, count] });
  }

  struct(name: string, bytes: number, members: readonly WrittenMember[]): number {
    return this.#composite(BTF_KIND.STRUCT, { name, bytes, members });
  }

  union(name: string, bytes: number, members: readonly WrittenMember[]): number {
    return this.#composite(BTF_KIND.UNION, { name, bytes, members });
  }

  /** An ENUM64 if it has 8 bytes. */
  enum(
    name: string,
    bytes: number,
    { signed, values }: { signed: boolean; values: readonly (readonly [name: string, value: bigint])[] },
  ): number {
    const is64 = bytes === 8;
    const rest = values.flatMap(([text, value]) => {
      const low = Number(BigInt.asUintN(32, value));
      return [this.#string(text), low, ...(is64 ? [Number(BigInt.asUintN(32, value >> 32n))] : [])];
    });
    const kind = is64 ? BTF_KIND.ENUM64 : BTF_KIND.ENUM;
    return this.#add(kind, { name, sizeOrType: bytes, vlen: values.length, kindFlag: signed, rest });
  }

  /** A variable with external linkage. */
  variable(name: string, type: number): number {
    return this.#add(BTF_KIND.VAR, { name, sizeOrType: type, rest: [1] });
  }

  section(name: string, bytes: number, variables: readonly { type: number; offset: number; size: number }[]): number {
    const rest = variables.flatMap(({ type, offset, size }) => [type, offset, size]);
    return this.#add(BTF_KIND.DATASEC, { name, sizeOrType: bytes, vlen: variables.length, rest });
  }

  blob(): Buffer {
    const types = Buffer.concat(this.#types);
    return Buffer.concat([headerOf(types.length, this.#stringBytes), types, ...this.#strings]);
  }

  #composite(
    kind: number,
    { name, bytes, members }: { name: string; bytes: number; members: readonly WrittenMember[] },
  ): number {
    const kindFlag = members.some(({ bits }) => bits !== 0);
    const rest = members.flatMap((member) => [
      this.#string(member.name),
      member.type,
      (member.bits << 24) | member.offsetBits,
    ]);
    return this.#add(kind, { name, sizeOrType: bytes, vlen: members.length, kindFlag, rest });
  }

  #add(
    kind: number,
    {
      name = "",
      sizeOrType = 0,
      vlen = 0,
      kindFlag = false,
      rest = [],
    }: { name?: string; sizeOrType?: number; vlen?: number; kindFlag?: boolean; rest?: readonly number[] },
  ): number {
    const info = (kindFlag ? 0x80000000 : 0) | (kind << 24) | vlen;
    this.#types.push(words([this.#string(name), info, sizeOrType, ...rest]));
    return this.#types.length;
  }

  #string(text: string): number {
    const known = this.#offsets.get(text);
    if (known !== undefined) return known;
    const [at, bytes] = [this.#stringBytes, Buffer.from(`${text}\0`, "latin1")];
    this.#offsets.set(text, at);
    this.#strings.push(bytes);
    this.#stringBytes += bytes.length;
    return at;
  }
}

function words(numbers: readonly number[]): Buffer {
  const bytes = Buffer.alloc(4 * numbers.length);
  for (const [at, number] of numbers.entries()) bytes.writeUInt32LE(number >>> 0, 4 * at);
  return bytes;
}
