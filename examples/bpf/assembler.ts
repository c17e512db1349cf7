/**
 * eBPF's instructions, written down line by line: Documentation/bpf/standardization/instruction-set.rst. One is 8 bytes:
 *
 *     u8 opcode, u8 registers (src << 4 | dst), s16 offset, s32 immediate
 *
 * Jumps name a label; where it stands is found when all lines are there.
 */
interface Instruction {
  readonly code: number;
  readonly dst: number;
  readonly src: number;
  /** In memory, in bytes; or where a jump goes. */
  readonly off: number | string;
  readonly imm: number;
}

export type Line = Instruction | { readonly label: string };

/**
 * r0 is what a helper or the program returns, r1 to r5 a helper's arguments and gone after it, r6 to r9 stay, r10 is the end
 * of the stack.
 */
export const r0 = 0;
export const r1 = 1;
export const r2 = 2;
export const r3 = 3;
export const r4 = 4;
export const r7 = 7;
export const r10 = 10;

/** Where an XDP program finds its packet: struct xdp_md. */
export const XDP_MD = { data: 0, data_end: 4 } as const;

const BPF_FUNC_MAP_LOOKUP_ELEM = 1;
const BPF_PSEUDO_MAP_FD = 1;

/** BPF_B, BPF_H, BPF_W, BPF_DW: the part of an opcode that says how many bytes are read or written. */
const SIZES = { 1: 0x10, 2: 0x08, 4: 0x00, 8: 0x18 } as const;
type Bytes = keyof typeof SIZES;

export function label(name: string): Line {
  return { label: name };
}

/** dst = src */
export function move(dst: number, src: number): Line {
  return line(0xbf, dst, src, 0, 0);
}

/** dst = imm */
export function set(dst: number, imm: number): Line {
  return line(0xb7, dst, 0, 0, imm);
}

/** dst += imm */
export function add(dst: number, imm: number): Line {
  return line(0x07, dst, 0, 0, imm);
}

/** dst = *(src + off), unsigned */
export function read(dst: number, src: number, off: number, bytes: Bytes): Line {
  return line(0x61 | SIZES[bytes], dst, src, off, 0);
}

/** *(dst + off) = src */
export function write(dst: number, off: number, src: number, bytes: Bytes): Line {
  return line(0x63 | SIZES[bytes], dst, src, off, 0);
}

/** *(dst + off) += src, also where programs on other CPUs do the same; a u64 */
export function addAtomically(dst: number, off: number, src: number): Line {
  return line(0xdb, dst, src, off, 0);
}

/** *(dst + off) = imm */
export function writeNumber(dst: number, off: number, imm: number, bytes: Bytes): Line {
  return line(0x62 | SIZES[bytes], dst, 0, off, imm);
}

/** if (dst == imm) goto */
export function ifEqual(dst: number, imm: number, goto: string): Line {
  return line(0x15, dst, 0, goto, imm);
}

/** if (dst != imm) goto */
export function ifOther(dst: number, imm: number, goto: string): Line {
  return line(0x55, dst, 0, goto, imm);
}

/** if (dst > src) goto */
export function ifAbove(dst: number, src: number, goto: string): Line {
  return line(0x2d, dst, src, goto, 0);
}

export function goto(to: string): Line {
  return line(0x05, 0, 0, to, 0);
}

function call(helper: number): Line {
  return line(0x85, 0, 0, 0, helper);
}

export function exit(): Line {
  return line(0x95, 0, 0, 0, 0);
}

/** r0 = bpf_map_lookup_elem(the map of this fd, r10 + keyAt) */
export function lookup(mapFd: number, keyAt: number): Line[] {
  return [
    line(0x18, r1, BPF_PSEUDO_MAP_FD, 0, mapFd),
    line(0x00, 0, 0, 0, 0), // its second half
    ...lookupIn(keyAt),
  ];
}

/** The same in the map that r0 points to, which was found in a map of maps. */
export function lookupInner(keyAt: number): Line[] {
  return [move(r1, r0), ...lookupIn(keyAt)];
}

/** In the map that r1 points to. */
function lookupIn(keyAt: number): Line[] {
  return [move(r2, r10), add(r2, keyAt), call(BPF_FUNC_MAP_LOOKUP_ELEM)];
}

/** *(r10 + at) = bytes, of which there is a multiple of four. */
export function writeBytes(at: number, bytes: Buffer): Line[] {
  return Array.from({ length: bytes.length / 4 }, (_, word) =>
    writeNumber(r10, at + 4 * word, bytes.readInt32LE(4 * word), 4),
  );
}

/** The bytes that BPF_PROG_LOAD takes. */
export function assemble(lines: readonly Line[]): Buffer {
  const labels = new Map<string, number>();
  const instructions: Instruction[] = [];
  for (const one of lines)
    if ("label" in one) labels.set(one.label, instructions.length);
    else instructions.push(one);
  return Buffer.concat(instructions.map((one, at) => encode(one, at, labels)));
}

/** A jump's offset counts from the instruction behind it. */
function encode({ code, dst, src, off, imm }: Instruction, at: number, labels: ReadonlyMap<string, number>): Buffer {
  const target = typeof off === "string" ? labels.get(off) : 0;
  if (target === undefined) throw new Error(`assembling: no line is labelled ${off}`);
  const bytes = Buffer.alloc(8);
  bytes.writeUInt8(code, 0);
  bytes.writeUInt8((src << 4) | dst, 1);
  bytes.writeInt16LE(typeof off === "string" ? target - at - 1 : off, 2);
  bytes.writeInt32LE(imm, 4);
  return bytes;
}

function line(code: number, dst: number, src: number, off: number | string, imm: number): Instruction {
  return { code, dst, src, off, imm };
}
