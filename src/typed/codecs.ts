/** The codecs (codec.ts): how each shows bytes, and takes them. */

import { ERRNO_NAMES, ERRNO_NUMBERS } from "../abi/errno_numbers.ts";
import { SYSCALLS } from "../abi/syscalls.ts";
import { addressOf, macOf, macText, v4Text, v6Text } from "./addresses.ts";
import { integer } from "./bits.ts";
import type { Codec } from "./codec.ts";
import { dname } from "./dname.ts";
import { EXACT_BITS } from "./enums.ts";
import { hexBytes } from "./floats.ts";
import { inRange, integerOf, type Range, rangeOf } from "./integers.ts";
import { isZero } from "./json_text.ts";
import type { Leaf } from "./leaf.ts";
import { Misfit, shown } from "./misfit.ts";
import type { Names } from "./names.ts";

const BYTE = rangeOf({ width: 8, signed: false });
const U64 = rangeOf({ width: 64, signed: false });
const NS = 1_000_000_000n;
const KTIME = /^([0-9]{1,11})(?:\.([0-9]{1,9}))?s$/;
const DEVICE = /^([0-9]{1,4}):([0-9]{1,7})$/;
const PREFIX = /^(.{1,45})\/([0-9]{1,3})$/;
/** new_encode_dev(), include/linux/kdev_t.h, as stat(2) shows devices: 12 bits of major between two parts of minor. */
const MAJOR_MAX = 0xfff;
const MINOR_MAX = 0xfffff;

/** A codec's leaf for a value of so many bytes. `signed`: of integers. */
export function codecLeaf({ name, address, labels }: Codec, size: number, signed: boolean): Leaf {
  switch (name) {
    case "uint":
      return number(size, false);
    case "string":
      return text(size);
    case "inet_ip":
      return inetIp(size);
    case "hex":
      return hexBytes(size);
    case "ifname":
      return hostName(size, INTERFACES);
    case "cgroup":
      return hostName(size, CGROUPS);
    case "errno":
      return named(size, signed, ERRNOS);
    case "majorminor":
      return device(size);
    case "dname":
      return dname(size);
    case "syscall":
      return named(size, signed, CALLS);
    case "static_map":
      return named(size, signed, labelled(labels ?? new Map(), size, signed));
    case "cidr":
      return cidr(size - 4);
    case "mac":
      return fixed({ text: macText, of: macOf, like: 'an address such as "02:00:00:00:00:01"' });
    case "be16":
    case "be32":
    case "be64":
      return bigEndian(size, address === true);
    case "ktime":
      return ktime();
  }
}

interface Fixed {
  readonly text: (bytes: Buffer, at: number) => string;
  /** null: the text is none. */
  readonly of: (text: string) => Buffer | null;
  readonly like: string;
}

function fixed({ text, of, like }: Fixed): Leaf {
  return {
    read: (bytes, at) => `"${text(bytes, at)}"`,
    write: (bytes, at, json) => {
      const found = typeof json === "string" ? of(json) : null;
      if (found === null) return new Misfit(`${like} required, found ${shown(json)}`);
      found.copy(bytes, at);
      return null;
    },
  };
}

function number(size: number, signed: boolean): Leaf {
  const of = integer({ shift: 0, width: 8 * size, signed });
  const range = rangeOf(of);
  const isWide = of.width > EXACT_BITS;
  return {
    read: (bytes, at) => (isWide ? `"${of.text(bytes, at)}"` : of.text(bytes, at)),
    write: (bytes, at, json) => {
      const value = inRange(json, range);
      if (value instanceof Misfit) return value;
      of.set(bytes, at, value);
      return null;
    },
  };
}

/** UTF-8 up to the first NUL or the last byte; else the list of all bytes. */
function text(size: number): Leaf {
  return {
    read: (bytes, at) => {
      const nul = bytes.subarray(at, at + size).indexOf(0);
      const end = nul === -1 ? at + size : at + nul;
      const text = bytes.toString("utf8", at, end);
      if (Buffer.byteLength(text) !== end - at || text.includes("\ufffd"))
        return `[${bytes.subarray(at, at + size).join(",")}]`;
      return isZero(bytes, end, at + size) ? JSON.stringify(text) : new Misfit("bytes after NUL");
    },
    write: (bytes, at, json) => {
      if (Array.isArray(json)) return byteList(bytes, at, { size, json });
      if (typeof json !== "string" || json.includes("\0") || !json.isWellFormed())
        return new Misfit(`a text without NUL required, found ${shown(json)}`);
      const length = Buffer.byteLength(json);
      if (length > size) return new Misfit(`at most ${size} bytes, found ${length}`);
      bytes.write(json, at, "utf8");
      return null;
    },
  };
}

function byteList(
  bytes: Buffer,
  at: number,
  { size, json }: { size: number; json: readonly unknown[] },
): Misfit | null {
  if (json.length !== size) return new Misfit(`${size} bytes required, found ${json.length}`);
  for (let byte = 0; byte < size; byte++) {
    const value = inRange(json[byte], BYTE);
    if (value instanceof Misfit) return value.inside(`[${byte}]`);
    bytes[at + byte] = Number(value);
  }
  return null;
}

/** Addresses are taken as numbers, too, where they have 4 bytes: in the order of the network, as be32 has them. */
function inetIp(size: number): Leaf {
  const like = size === 4 ? 'an address such as "10.0.0.1"' : 'an address such as "2001:db8::1"';
  const plain = fixed({ text: size === 4 ? v4Text : v6Text, of: (text) => addressOf(text, size), like });
  if (size !== 4) return plain;
  const asNumber = bigEndian(size, false);
  return {
    read: plain.read,
    write: (bytes, at, json, names) =>
      (typeof json === "string" && json.includes(".")) || integerOf(json) === null
        ? plain.write(bytes, at, json, names)
        : asNumber.write(bytes, at, json, names),
  };
}

function bigEndian(size: number, address: boolean): Leaf {
  const range = rangeOf({ width: 8 * size, signed: false });
  const read = (bytes: Buffer, at: number): string => {
    if (size === 2) return String(bytes.readUInt16BE(at));
    return size === 4 ? String(bytes.readUInt32BE(at)) : `"${bytes.readBigUInt64BE(at)}"`;
  };
  return {
    read: address ? (bytes, at) => `"${v4Text(bytes, at)}"` : read,
    write: (bytes, at, json) => {
      const found = size === 4 && typeof json === "string" ? addressOf(json, size) : null;
      if (found !== null) {
        found.copy(bytes, at);
        return null;
      }
      const value = inRange(json, range);
      if (value instanceof Misfit) return value;
      if (size === 2) bytes.writeUInt16BE(Number(value), at);
      else if (size === 4) bytes.writeUInt32BE(Number(value), at);
      else bytes.writeBigUInt64BE(BigInt(value), at);
      return null;
    },
  };
}

/** The bits after the prefix stay as they are: a trie keeps them, too. */
function cidr(size: number): Leaf {
  const show = size === 4 ? v4Text : v6Text;
  const like = size === 4 ? 'a prefix such as "10.0.0.0/8" required' : 'a prefix such as "2001:db8::/32" required';
  return {
    read: (bytes, at) => {
      const length = bytes.readUInt32LE(at);
      return length > 8 * size
        ? new Misfit(`a prefix of ${length} bits in ${8 * size}`)
        : `"${show(bytes, at + 4)}/${length}"`;
    },
    write: (bytes, at, json) => {
      const [, text, length] = (typeof json === "string" ? PREFIX.exec(json) : null) ?? [];
      const address = text === undefined ? null : addressOf(text, size);
      if (address === null) return new Misfit(`${like}, found ${shown(json)}`);
      if (Number(length) > 8 * size)
        return new Misfit(`a prefix of 0 to ${8 * size} bits required, found ${shown(json)}`);
      bytes.writeUInt32LE(Number(length), at);
      address.copy(bytes, at + 4);
      return null;
    },
  };
}

/** Nanoseconds since the machine has started, such as "12345.678901234s". */
function ktime(): Leaf {
  return {
    read: (bytes, at) => {
      const ns = bytes.readBigUInt64LE(at);
      return `"${ns / NS}.${String(ns % NS).padStart(9, "0")}s"`;
    },
    write: (bytes, at, json) => {
      const parts = typeof json === "string" ? KTIME.exec(json) : null;
      const given =
        parts === null ? json : String(BigInt(parts[1] as string) * NS + BigInt((parts[2] ?? "").padEnd(9, "0")));
      const ns = inRange(given, U64);
      if (ns instanceof Misfit)
        return new Misfit(`nanoseconds, or a time such as "1.500000000s", required, found ${shown(json)}`);
      bytes.writeBigUInt64LE(BigInt(ns), at);
      return null;
    },
  };
}

function device(size: number): Leaf {
  const plain = number(size, false);
  return {
    read: (bytes, at, names) => {
      if (!isZero(bytes, at + 4, at + size)) return plain.read(bytes, at, names);
      const dev = bytes.readUInt32LE(at);
      return `"${(dev >>> 8) & MAJOR_MAX}:${(dev & 0xff) | ((dev >>> 12) & 0xfff00)}"`;
    },
    write: (bytes, at, json, names) => {
      const [, major, minor] = (typeof json === "string" ? DEVICE.exec(json) : null) ?? [];
      if (major === undefined) return plain.write(bytes, at, json, names);
      const [high, low] = [Number(major), Number(minor)];
      if (high > MAJOR_MAX || low > MINOR_MAX)
        return new Misfit(`a device up to ${MAJOR_MAX}:${MINOR_MAX} required, found ${shown(json)}`);
      bytes.writeUInt32LE(((low & 0xff) | (high << 8) | ((low & 0xfff00) << 12)) >>> 0, at);
      return null;
    },
  };
}

/** Names of numbers, both ways. */
interface Texts {
  readonly kind: string;
  readonly nameOf: (value: bigint, names: Names) => string | undefined;
  readonly numberOf: (name: string, names: Names) => bigint | undefined;
}

/** The kernel's functions return errors as negative numbers: -2 is -ENOENT. */
const ERRNOS: Texts = {
  kind: "error",
  nameOf: (value) => {
    const name = ERRNO_NAMES.get(Number(value < 0n ? -value : value));
    return name === undefined || value >= 0n ? name : `-${name}`;
  },
  numberOf: (name) => {
    const number = ERRNO_NUMBERS.get(name.replace(/^-/, ""));
    if (number === undefined) return undefined;
    return BigInt(name.startsWith("-") ? -number : number);
  },
};

const CALLS: Texts = {
  kind: "system call",
  nameOf: (value, { machine }) => (machine === undefined ? undefined : SYSCALLS[machine].names.get(Number(value))),
  numberOf: (name, { machine }) => {
    const number = machine === undefined ? undefined : SYSCALLS[machine].numbers.get(name);
    return number === undefined ? undefined : BigInt(number);
  },
};

/** Two numbers may have the same text; then it stands for the first one, and the others are shown as numbers. */
function labelled(labels: ReadonlyMap<bigint, string>, size: number, signed: boolean): Texts {
  const { low, high }: Range = rangeOf({ width: 8 * size, signed });
  const numbers = new Map<string, bigint>();
  for (const [value, label] of labels)
    if (value >= low && value <= high && !numbers.has(label)) numbers.set(label, value);
  return {
    kind: "text of the static_map",
    nameOf: (value) => {
      const label = labels.get(value);
      return label !== undefined && numbers.get(label) === value ? label : undefined;
    },
    numberOf: (name) => numbers.get(name),
  };
}

function named(size: number, signed: boolean, { kind, nameOf, numberOf }: Texts): Leaf {
  const of = integer({ shift: 0, width: 8 * size, signed });
  const plain = number(size, signed);
  return {
    read: (bytes, at, names) => {
      const name = nameOf(BigInt(of.get(bytes, at)), names);
      return name === undefined ? plain.read(bytes, at, names) : JSON.stringify(name);
    },
    write: (bytes, at, json, names) => {
      const value = typeof json === "string" ? numberOf(json, names) : undefined;
      if (value === undefined && typeof json === "string" && integerOf(json) === null)
        return new Misfit(`no ${kind} ${shown(json)}`);
      return plain.write(bytes, at, value === undefined ? json : String(value), names);
    },
  };
}

/** Names that only a host knows, and stand beside the number: {"number": 2, "name": "eth0"}. */
interface Hosted {
  readonly kind: string;
  readonly nameOf: (names: Names, value: bigint) => string | null | undefined;
  readonly numberOf: (names: Names, name: string) => bigint | number | null | undefined;
}

const INTERFACES: Hosted = {
  kind: "network interface",
  nameOf: (names, value) => names.ifname?.(Number(value)),
  numberOf: (names, name) => names.ifindex?.(name),
};

const CGROUPS: Hosted = {
  kind: "cgroup",
  nameOf: (names, value) => names.cgroup?.(value),
  numberOf: (names, name) => names.cgroupId?.(name),
};

/** Of {"number": 2, "name": "eth0"} in input the number counts. */
function hostName(size: number, { kind, nameOf, numberOf }: Hosted): Leaf {
  const of = integer({ shift: 0, width: 8 * size, signed: false });
  const plain = number(size, false);
  return {
    read: (bytes, at, names) => {
      const shownNumber = plain.read(bytes, at, names) as string;
      const name = nameOf(names, BigInt(of.get(bytes, at)));
      return typeof name === "string" ? `{"number":${shownNumber},"name":${JSON.stringify(name)}}` : shownNumber;
    },
    write: (bytes, at, json, names) => {
      const given =
        typeof json === "object" && json !== null && Object.hasOwn(json, "number")
          ? (json as { number: unknown }).number
          : json;
      if (typeof given !== "string" || integerOf(given) !== null) return plain.write(bytes, at, given, names);
      const number = numberOf(names, given);
      if (number === undefined)
        return new Misfit(`the number of a ${kind} required: names are not known here, found ${shown(given)}`);
      if (number === null) return new Misfit(`no ${kind} ${shown(given)} on this host`);
      return plain.write(bytes, at, String(number), names);
    },
  };
}
