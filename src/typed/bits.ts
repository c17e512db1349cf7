/**
 * Integers in bytes, at any bit: numbers of up to 53 bits as numbers, wider ones as bigints. Little-endian. Writers find
 * zeros where they write.
 */

/** `width` in bits. */
export interface Integer {
  readonly width: number;
  readonly signed: boolean;
  readonly get: (bytes: Buffer, at: number) => number | bigint;
  /** The value may be of any width: its lower bits count. */
  readonly set: (bytes: Buffer, at: number, value: number | bigint) => void;
  /** In decimal. */
  readonly text: (bytes: Buffer, at: number) => string;
}

const TWO_32 = 2 ** 32;
/** The upper word below which a u64 is a number that is exact. */
const EXACT_HIGH = 2 ** 21;

/** A u64 in decimal. */
function u64Text(bytes: Buffer, at: number): string {
  const high = bytes.readUInt32LE(at + 4);
  if (high < EXACT_HIGH) return String(high * TWO_32 + bytes.readUInt32LE(at));
  return String(bytes.readBigUInt64LE(at));
}

function s64Text(bytes: Buffer, at: number): string {
  const high = bytes.readInt32LE(at + 4);
  if (high < EXACT_HIGH && high >= -EXACT_HIGH) return String(high * TWO_32 + bytes.readUInt32LE(at));
  return String(bytes.readBigInt64LE(at));
}

/** The bits from `shift` on, as an unsigned bigint. */
function wideBits(bytes: Buffer, at: number, { shift, width }: { shift: number; width: number }): bigint {
  let value = 0n;
  for (let end = (shift + width + 7) >>> 3; end > 0; end--)
    value = (value << 8n) | BigInt(bytes[at + end - 1] as number);
  return BigInt.asUintN(width, value >> BigInt(shift));
}

/** The bits from `shift` on, at most 32, as an unsigned number. */
function narrowBits(bytes: Buffer, at: number, { shift, width }: { shift: number; width: number }): number {
  let value = 0;
  for (let end = (shift + width + 7) >>> 3; end > 0; end--) value = value * 256 + (bytes[at + end - 1] as number);
  return Math.floor(value / 2 ** shift) % 2 ** width;
}

function setBits(
  bytes: Buffer,
  at: number,
  { shift, width, value }: { shift: number; width: number; value: bigint },
): void {
  let left = BigInt.asUintN(width, value) << BigInt(shift);
  for (let byte = at; left !== 0n; byte++) {
    bytes[byte] = (bytes[byte] as number) | Number(left & 0xffn);
    left >>= 8n;
  }
}

/** The same for at most 32 bits of a number. */
function setNarrow(
  bytes: Buffer,
  at: number,
  { shift, width, value }: { shift: number; width: number; value: number },
): void {
  const whole = 2 ** width;
  let left = (((value % whole) + whole) % whole) * 2 ** shift;
  for (let byte = at; left !== 0; byte++) {
    bytes[byte] = (bytes[byte] as number) | (left % 256);
    left = Math.floor(left / 256);
  }
}

function setU64(bytes: Buffer, at: number, value: number | bigint): void {
  if (typeof value === "bigint" || value < 0) bytes.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value)), at);
  else {
    bytes.writeUInt32LE(value % TWO_32, at);
    bytes.writeUInt32LE(Math.floor(value / TWO_32), at + 4);
  }
}

/** An integer that fills whole bytes, by its number of bytes. */
const WHOLE: Readonly<Record<number, (signed: boolean) => Omit<Integer, "width" | "signed">>> = {
  1: (signed) => ({
    get: signed ? (bytes, at) => ((bytes[at] as number) << 24) >> 24 : (bytes, at) => bytes[at] as number,
    set: (bytes, at, value) => {
      bytes[at] = Number(value);
    },
    text: signed ? (bytes, at) => String(((bytes[at] as number) << 24) >> 24) : (bytes, at) => String(bytes[at]),
  }),
  2: (signed) => ({
    get: signed ? (bytes, at) => bytes.readInt16LE(at) : (bytes, at) => bytes.readUInt16LE(at),
    set: (bytes, at, value) => void bytes.writeUInt16LE(Number(value) & 0xffff, at),
    text: signed ? (bytes, at) => String(bytes.readInt16LE(at)) : (bytes, at) => String(bytes.readUInt16LE(at)),
  }),
  4: (signed) => ({
    get: signed ? (bytes, at) => bytes.readInt32LE(at) : (bytes, at) => bytes.readUInt32LE(at),
    set: (bytes, at, value) => void bytes.writeUInt32LE(Number(value) >>> 0, at),
    text: signed ? (bytes, at) => String(bytes.readInt32LE(at)) : (bytes, at) => String(bytes.readUInt32LE(at)),
  }),
  8: (signed) => ({
    get: signed ? (bytes, at) => bytes.readBigInt64LE(at) : (bytes, at) => bytes.readBigUInt64LE(at),
    set: setU64,
    text: signed ? s64Text : u64Text,
  }),
};

export function integer({ shift, width, signed }: { shift: number; width: number; signed: boolean }): Integer {
  const whole = shift === 0 && width % 8 === 0 ? WHOLE[width / 8]?.(signed) : undefined;
  if (whole !== undefined) return { width, signed, ...whole };
  const [first, bits] = [shift >>> 3, { shift: shift & 7, width }];
  const set: Integer["set"] = (bytes, at, value) => {
    if (width <= 32) setNarrow(bytes, at + first, { ...bits, value: Number(value) });
    else setBits(bytes, at + first, { ...bits, value: BigInt(value) });
  };
  const get = width <= 32 ? narrow(first, bits, signed) : wide(first, bits, signed);
  return { width, signed, get, set, text: (bytes, at) => String(get(bytes, at)) };
}

type Get = Integer["get"];

function narrow(first: number, bits: { shift: number; width: number }, signed: boolean): Get {
  const [half, whole] = [2 ** (bits.width - 1), 2 ** bits.width];
  if (!signed) return (bytes, at) => narrowBits(bytes, at + first, bits);
  return (bytes, at) => {
    const value = narrowBits(bytes, at + first, bits);
    return value >= half ? value - whole : value;
  };
}

function wide(first: number, bits: { shift: number; width: number }, signed: boolean): Get {
  const get: (bytes: Buffer, at: number) => bigint = signed
    ? (bytes, at) => BigInt.asIntN(bits.width, wideBits(bytes, at + first, bits))
    : (bytes, at) => wideBits(bytes, at + first, bits);
  return bits.width <= 53 ? (bytes, at) => Number(get(bytes, at)) : get;
}
