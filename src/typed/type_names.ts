/** Names of types in descriptions (description.ts): those of scalars, and those that are short for a codec and its bytes. */

import { INT_ENCODING } from "../maps/btf_types.ts";
import type { CodecName } from "./codec.ts";

/** `name`: as C has it. */
export interface IntName {
  readonly name: string;
  readonly bytes: number;
  readonly encoding: number;
}

const { SIGNED, BOOL } = INT_ENCODING;

export const INTS: ReadonlyMap<string, IntName> = new Map([
  ["u8", { name: "unsigned char", bytes: 1, encoding: 0 }],
  ["u16", { name: "unsigned short", bytes: 2, encoding: 0 }],
  ["u32", { name: "unsigned int", bytes: 4, encoding: 0 }],
  ["u64", { name: "unsigned long long", bytes: 8, encoding: 0 }],
  ["u128", { name: "unsigned __int128", bytes: 16, encoding: 0 }],
  ["s8", { name: "signed char", bytes: 1, encoding: SIGNED }],
  ["s16", { name: "short", bytes: 2, encoding: SIGNED }],
  ["s32", { name: "int", bytes: 4, encoding: SIGNED }],
  ["s64", { name: "long long", bytes: 8, encoding: SIGNED }],
  ["s128", { name: "__int128", bytes: 16, encoding: SIGNED }],
  ["char", { name: "char", bytes: 1, encoding: SIGNED }],
  ["bool", { name: "_Bool", bytes: 1, encoding: BOOL }],
]);

/** char by a typedef: bpftool prints an array of it as a list. */
export const CHAR_TYPEDEF = "char_t";

export const FLOATS: ReadonlyMap<string, number> = new Map([
  ["float", 4],
  ["double", 8],
]);

/** The bytes of codecs whose size a description gives in brackets: string[16]. 0: a size is required. */
const SIZED_CODECS: ReadonlyMap<CodecName, { readonly element: string; readonly bytes: number }> = new Map([
  ["string", { element: "char", bytes: 0 }],
  ["hex", { element: "u8", bytes: 0 }],
  ["dname", { element: "u8", bytes: 0 }],
  ["uint", { element: "u8", bytes: 0 }],
  ["inet_ip", { element: "u8", bytes: 4 }],
]);
/** The types of codecs that have one usual size; those of integers fit a whole key or value of another size, too. */
const FIXED_CODECS: ReadonlyMap<string, readonly [codec: CodecName, type: string]> = new Map<
  string,
  readonly [CodecName, string]
>([
  ["ifname", ["ifname", "u32"]],
  ["cgroup", ["cgroup", "u64"]],
  ["errno", ["errno", "s32"]],
  ["majorminor", ["majorminor", "u32"]],
  ["syscall", ["syscall", "u32"]],
  ["mac", ["mac", "u8[6]"]],
  ["be16", ["be16", "u16"]],
  ["be32", ["be32", "u32"]],
  ["be64", ["be64", "u64"]],
  ["ktime", ["ktime", "u64"]],
]);
const INT_BY_BYTES: Readonly<Record<number, string>> = { 1: "u8", 2: "u16", 4: "u32", 8: "u64", 16: "u128" };
const SCALAR_CODECS: ReadonlySet<string> = new Set(["ifname", "errno", "majorminor", "syscall"]);

/** A codec and the description of the bytes that it shows. */
export interface ShortCodec {
  readonly codec: CodecName;
  readonly type: string;
}

/**
 * The codec that a name stands for; null: it stands for none. `size`: from the first brackets, or of a whole key or value;
 * undefined: neither is given. "size": the name needs one.
 */
export function shortCodec(name: string, size: number | undefined): ShortCodec | "size" | null {
  const sized = SIZED_CODECS.get(name as CodecName);
  if (sized !== undefined) {
    const bytes = size ?? sized.bytes;
    if (bytes === 0) return "size";
    const int = name === "uint" ? INT_BY_BYTES[bytes] : undefined;
    return { codec: name as CodecName, type: int ?? `${sized.element}[${bytes}]` };
  }
  const fixed = FIXED_CODECS.get(name);
  if (fixed === undefined) return null;
  const [codec, type] = fixed;
  const other = size !== undefined && SCALAR_CODECS.has(name) ? INT_BY_BYTES[size] : undefined;
  return { codec, type: other === undefined || name === "errno" ? (other?.replace("u", "s") ?? type) : other };
}

/** Whether brackets after a name are a number of bytes, and no number of elements. */
export function takesBytes(name: string): boolean {
  return SIZED_CODECS.has(name as CodecName);
}

/** The name that is short for a codec and the description of its bytes; null: there is none. */
export function shortName(codec: CodecName, type: unknown): string | null {
  if (typeof type !== "string") return null;
  const fixed = FIXED_CODECS.get(codec);
  if (fixed !== undefined) return fixed[1] === type ? codec : null;
  const sized = SIZED_CODECS.get(codec);
  if (sized === undefined) return null;
  for (const [bytes, int] of Object.entries(INT_BY_BYTES))
    if (codec === "uint" && int === type) return `uint[${bytes}]`;
  const match = /^(\w+)\[([0-9]+)\]$/.exec(type);
  if (match?.[1] !== sized.element || (codec === "uint" && INT_BY_BYTES[Number(match[2])] !== undefined)) return null;
  return Number(match[2]) === sized.bytes ? codec : `${codec}[${match[2]}]`;
}
