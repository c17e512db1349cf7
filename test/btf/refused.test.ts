import t from "tap";
import { HOST, Service } from "../../conformance/service.ts";
import { BTF_KIND } from "../../src/maps/btf_types.ts";
import { ask } from "../maps/ladder.ts";
import { onBoth } from "../maps/subjects.ts";
import { BtfBlob } from "./btf_blob.ts";

/** What BPF_BTF_LOAD says to each rule of btf_parse(), kernel/bpf/btf.c, as a kernel 6.18 says it; null: it takes it. */

const K = BTF_KIND;
const KIND_FLAG = 2 ** 31;
const LONGEST = "n".repeat(512);
const INT = 1;
const U64 = 2;

/** Answers another blob than has been built, or nothing. */
type Build = (blob: BtfBlob) => unknown;
type Row = readonly [what: string, errno: string | null, build: Build];

/** With an int (1) and a u64 (2) in front. */
function built(build: Build): Buffer {
  const blob = new BtfBlob();
  blob.int("int", 4);
  blob.int("u64", 8);
  const other = build(blob);
  return other instanceof Buffer ? other : blob.bytes();
}

function refuses(what: string, rows: readonly Row[]): void {
  onBoth(`BPF_BTF_LOAD of ${what}`, (t, subject) => {
    for (const [what, errno, build] of rows) {
      const bytes = built(build);
      const attr = { btf: bytes.toString("hex"), btf_size: bytes.length };
      t.equal(ask(subject, "BPF_BTF_LOAD", attr), errno, what);
    }
  });
}

/** The blob with one word other than it is. */
function poked(offset: number, word: number): Build {
  return (blob) => {
    const bytes = blob.bytes();
    bytes.writeUInt32LE(word, offset);
    return bytes;
  };
}

/** The blob with a header of so many bytes, of which those that are more are filled. */
function header(bytes: number, filled = 0): Build {
  return (blob) => {
    const whole = blob.bytes();
    const more = Buffer.alloc(Math.max(0, bytes - 24), filled);
    const head = Buffer.concat([whole.subarray(0, Math.min(24, bytes)), more]);
    head.writeUInt32LE(bytes, 4);
    return Buffer.concat([head, whole.subarray(24)]);
  };
}

/** Types of both integers take 32 bytes, strings 9. */
refuses("headers", [
  ["no other types", null, () => {}],
  ["a header of 32 bytes, those that are not known 0", null, header(32)],
  ["one that says something there", "E2BIG", header(32, 1)],
  ["one that says something there, and has another magic", "E2BIG", (b) => spoilt(header(32, 1)(b) as Buffer, 0)],
  ["a header of 21 bytes, all of it that is not 0", null, header(21)],
  ["a header of 20 bytes, which has no strings", "EINVAL", header(20)],
  ["a header that is longer than the blob", "EINVAL", poked(4, 66)],
  ["a header that is the blob", "EINVAL", (b) => b.bytes().subarray(0, 24)],
  ["a header of 0 bytes", "EINVAL", poked(4, 0)],
  ["types that do not begin at once", "EINVAL", poked(8, 4)],
  ["strings on the types", "EINVAL", poked(16, 28)],
  ["strings behind a gap", "EINVAL", poked(16, 36)],
  ["strings that are too short", "EINVAL", poked(20, 8)],
  ["strings in front of the types", "EINVAL", stringsFirst],
  ["types of 31 bytes", "EINVAL", (b) => withSections(b.bytes(), 31)],
  ["types that are 4 bytes more", "EINVAL", (b) => withSections(b.bytes(), 36)],
]);

function spoilt(bytes: Buffer, at: number): Buffer {
  bytes[at] = 0;
  return bytes;
}

function stringsFirst(blob: BtfBlob): Buffer {
  const bytes = blob.bytes();
  const [types, strings] = [bytes.readUInt32LE(12), bytes.readUInt32LE(20)];
  const swapped = Buffer.concat([bytes.subarray(0, 24), bytes.subarray(24 + types), bytes.subarray(24, 24 + types)]);
  swapped.writeUInt32LE(strings, 8);
  swapped.writeUInt32LE(0, 16);
  return swapped;
}

/** Types of another length, with strings behind them as they were. */
function withSections(bytes: Buffer, types: number): Buffer {
  const end = 24 + bytes.readUInt32LE(12);
  const cut = Buffer.concat([bytes.subarray(24, end), Buffer.alloc(8)]).subarray(0, types);
  const other = Buffer.concat([bytes.subarray(0, 24), cut, bytes.subarray(end)]);
  other.writeUInt32LE(types, 12);
  other.writeUInt32LE(types, 16);
  return other;
}

refuses("types that say what their kind cannot", [
  ["a kind that there is not", "EINVAL", (b) => b.add(0, "", 0)],
  ["a kind behind the last", "EINVAL", (b) => b.add(20, "", 0)],
  ["bits of info that mean nothing", "EINVAL", (b) => b.add(K.FLOAT, "", 8, 1 << 29)],
  ["bits of vlen that are too many", "EINVAL", (b) => b.add(K.FLOAT, "", 8, 1 << 16)],
  ["an int with a vlen", "EINVAL", (b) => b.add(K.INT, "i", 4, 1, [32])],
  ["an int with kind_flag", "EINVAL", (b) => b.add(K.INT, "i", 4, KIND_FLAG, [32])],
  ["an int of more bits than bytes", "EINVAL", (b) => b.add(K.INT, "i", 4, 0, [33])],
  ["an int whose bits end behind its bytes", "EINVAL", (b) => b.add(K.INT, "i", 4, 0, [(8 << 16) | 32])],
  ["an int of more than 128 bits", "EINVAL", (b) => b.add(K.INT, "i", 32, 0, [129])],
  ["an int with bits that mean nothing", "EINVAL", (b) => b.add(K.INT, "i", 4, 0, [(1 << 28) | 32])],
  ["an int with bits that nobody looks at", null, (b) => b.add(K.INT, "i", 4, 0, [(1 << 8) | 32])],
  ["an int of two encodings", "ENOTSUPP", (b) => b.add(K.INT, "i", 4, 0, [(3 << 24) | 32])],
  ["an int of two encodings, of too many bits", "EINVAL", (b) => b.add(K.INT, "i", 4, 0, [(3 << 24) | 33])],
  ["a bool", null, (b) => b.add(K.INT, "_Bool", 1, 0, [(4 << 24) | 8])],
  ["an int of 7 bits without a name", null, (b) => b.add(K.INT, "", 4, 0, [(1 << 16) | 7])],
  ["an int in front of half a type, of two encodings", "ENOTSUPP", (b) => halved(b, (3 << 24) | 32)],
  ["half a type", "EINVAL", (b) => halved(b, 32)],
  ["a pointer with a name", "EINVAL", (b) => b.add(K.PTR, "p", INT)],
  ["a pointer with a vlen", "EINVAL", (b) => b.add(K.PTR, "", INT, 1)],
  ["a pointer with kind_flag", "EINVAL", (b) => b.add(K.PTR, "", INT, KIND_FLAG)],
  ["a pointer to an id that there cannot be", "EINVAL", (b) => b.add(K.PTR, "", 0x100000)],
  ["a const with a name", "EINVAL", (b) => b.add(K.CONST, "c", INT)],
  ["a volatile with a vlen", "EINVAL", (b) => b.add(K.VOLATILE, "", INT, 1)],
  ["a restrict with kind_flag", "EINVAL", (b) => b.add(K.RESTRICT, "", INT, KIND_FLAG)],
  ["a typedef without a name", "EINVAL", (b) => b.add(K.TYPEDEF, "", INT)],
  ["a typedef with a vlen", "EINVAL", (b) => b.add(K.TYPEDEF, "t", INT, 1)],
  ["a type tag without a name", "EINVAL", (b) => b.add(K.TYPE_TAG, "", INT)],
  ["a type tag with kind_flag", null, (b) => b.add(K.TYPE_TAG, "any text", INT, KIND_FLAG)],
  ["a type tag with a vlen", "EINVAL", (b) => b.add(K.TYPE_TAG, "t", INT, 1)],
  ["a forward declaration without a name", "EINVAL", (b) => b.add(K.FWD, "", 0)],
  ["a forward declaration of a type", "EINVAL", (b) => b.add(K.FWD, "f", INT)],
  ["a forward declaration of a union", null, (b) => b.add(K.FWD, "f", 0, KIND_FLAG)],
  ["a forward declaration with a vlen", "EINVAL", (b) => b.add(K.FWD, "f", 0, 1)],
  ["an array with a name", "EINVAL", (b) => b.add(K.ARRAY, "a", 0, 0, [INT, INT, 1])],
  ["an array with a size", "EINVAL", (b) => b.add(K.ARRAY, "", 4, 0, [INT, INT, 1])],
  ["an array with a vlen", "EINVAL", (b) => b.add(K.ARRAY, "", 0, 1, [INT, INT, 1])],
  ["an array with kind_flag", "EINVAL", (b) => b.add(K.ARRAY, "", 0, KIND_FLAG, [INT, INT, 1])],
  ["an array of void", "EINVAL", (b) => b.add(K.ARRAY, "", 0, 0, [0, INT, 1])],
  ["an array with void for an index", "EINVAL", (b) => b.add(K.ARRAY, "", 0, 0, [INT, 0, 1])],
  ["an enum of 3 bytes", "EINVAL", (b) => b.add(K.ENUM, "e", 3)],
  ["an enum of 16 bytes", "EINVAL", (b) => b.add(K.ENUM, "e", 16)],
  ["an enum of 8 bytes with signs", null, (b) => b.add(K.ENUM, "", 8, KIND_FLAG + 1, [b.name("v"), 1])],
  ["an enum with a value without a name", "EINVAL", (b) => b.add(K.ENUM, "e", 4, 1, [0, 1])],
  ["an enum with a value by a wrong name", "EINVAL", (b) => b.add(K.ENUM, "e", 4, 1, [b.name("1"), 1])],
  ["an enum with a value by no name of the blob's", "EINVAL", (b) => b.add(K.ENUM, "e", 4, 1, [999, 1])],
  ["an enum64 of 2 bytes", null, (b) => b.add(K.ENUM64, "e", 2, 1, [b.name("v"), 1, 0])],
  ["an enum64 with a value without a name", "EINVAL", (b) => b.add(K.ENUM64, "e", 8, 1, [0, 1, 0])],
  ["an enum64 of 0 bytes", "EINVAL", (b) => b.add(K.ENUM64, "e", 0)],
  ["a float of 12 bytes by any name", null, (b) => b.add(K.FLOAT, "no name", 12)],
  ["a float of 1 byte", "EINVAL", (b) => b.add(K.FLOAT, "f", 1)],
  ["a float with kind_flag", "EINVAL", (b) => b.add(K.FLOAT, "f", 8, KIND_FLAG)],
]);

/** An integer with this word, and 4 bytes behind it. */
function halved(blob: BtfBlob, word: number): Buffer {
  blob.add(K.INT, "i", 4, 0, [word]);
  const bytes = blob.bytes();
  return withSections(bytes, bytes.readUInt32LE(12) + 4);
}

refuses("names", [
  ["a name behind the strings", "EINVAL", poked(24, 9)],
  ["a name far behind them", "EINVAL", poked(24, 0x01000000)],
  ["a struct by 512 letters", null, (b) => b.struct(LONGEST, 0)],
  ["a struct by 513", "EINVAL", (b) => b.struct(`${LONGEST}n`, 0)],
  ["a struct whose name begins with a dot", null, (b) => b.struct(".a", 0)],
  ["a struct whose name has letters of Latin-1", null, (b) => b.struct("\u00c0\u00ff", 0)],
  ["a struct whose name has a sign of Latin-1", "EINVAL", (b) => b.struct("a\u00d7", 0)],
  ["a struct whose name begins with a digit", "EINVAL", (b) => b.struct("0a", 0)],
  ["a struct whose name has a space", "EINVAL", (b) => b.struct("a b", 0)],
  ["a struct by the end of another name", null, (b) => b.add(K.STRUCT, "", 0, 0) && endOf(b, "struct")],
  ["a struct by the NUL of another name", "EINVAL", (b) => b.add(K.STRUCT, "", 0, 0) && endOf(b, "")],
  ["a union by a wrong name", "EINVAL", (b) => b.add(K.UNION, "a-b", 0)],
  ["an enum by a wrong name", "EINVAL", (b) => b.add(K.ENUM, "a-b", 4)],
  ["a member by a wrong name", "EINVAL", (b) => b.struct("s", 4, [["a-b", INT, 0]])],
  ["a member by no name of the blob's", "EINVAL", (b) => b.add(K.STRUCT, "s", 4, 1, [999, INT, 0])],
  ["a typedef by a wrong name", "EINVAL", (b) => b.add(K.TYPEDEF, "a-b", INT)],
  ["a section by 512 printed characters", null, (b) => section(b, " ".repeat(512))],
  ["a section by 513", "EINVAL", (b) => section(b, ` ${LONGEST}`)],
  ["a section by a no-break space", null, (b) => section(b, "\u00a0")],
  ["a section by what is not printed", "EINVAL", (b) => section(b, "a\u007f")],
  ["a section whose name begins with what is not printed", "EINVAL", (b) => section(b, "\u0001a")],
]);

/** The last type has the end of a name that the strings have at their end. */
function endOf(blob: BtfBlob, end: string): Buffer {
  blob.name("a-struct");
  const bytes = blob.bytes();
  bytes.writeUInt32LE(bytes.readUInt32LE(20) - end.length - 1, 24 + bytes.readUInt32LE(12) - 12);
  return bytes;
}

function variable(blob: BtfBlob, type = INT, linkage = 1): number {
  return blob.add(K.VAR, "v", type, 0, [linkage]);
}

function section(blob: BtfBlob, name: string, size = 4, more = 0): number {
  return blob.add(K.DATASEC, name, size, 1, [variable(blob), 0, 4 + more]);
}

refuses("variables and sections", [
  ["a section", null, (b) => section(b, ".bss")],
  ["a section of size 0, as clang leaves it", "EINVAL", (b) => section(b, ".bss", 0)],
  ["an empty section", null, (b) => b.add(K.DATASEC, ".bss", 1)],
  ["a section without a name", "EINVAL", (b) => section(b, "")],
  ["a section with kind_flag", "EINVAL", (b) => b.add(K.DATASEC, ".bss", 4, KIND_FLAG)],
  ["a variable beyond its section", "EINVAL", (b) => b.add(K.DATASEC, ".bss", 4, 1, [variable(b), 2, 4])],
  ["a variable behind its section", "EINVAL", (b) => b.add(K.DATASEC, ".bss", 4, 1, [variable(b), 4, 4])],
  ["a variable of size 0", "EINVAL", (b) => b.add(K.DATASEC, ".bss", 4, 1, [variable(b), 0, 0])],
  ["a variable larger than its section", "EINVAL", (b) => section(b, ".bss", 4, 1)],
  ["a variable for which there are 3 bytes, resolved before", "EINVAL", (b) => cramped(b, true)],
  ["one that is resolved on the way", null, (b) => cramped(b, false)],
  ["a section of an int", "EINVAL", (b) => b.add(K.DATASEC, ".bss", 4, 1, [INT, 0, 4])],
  ["a section of void", "EINVAL", (b) => b.add(K.DATASEC, ".bss", 4, 1, [0, 0, 4])],
  ["variables that go back", "EINVAL", (b) => two(b, [4, 4], [0, 4])],
  ["variables on each other", "EINVAL", (b) => two(b, [0, 4], [2, 4])],
  ["variables with room between", null, (b) => two(b, [0, 4], [12, 4])],
  ["a variable that ends beyond 4 GiB, where its section does not", null, (b) => two(b, [0, 4], [2 ** 32 - 4, 8], -1)],
  ["a variable without a name", "EINVAL", (b) => b.add(K.VAR, "", INT, 0, [1])],
  ["a static variable", null, (b) => variable(b, INT, 0)],
  ["an extern variable", "EINVAL", (b) => variable(b, INT, 2)],
  ["a variable of unknown linkage", "EINVAL", (b) => variable(b, INT, 7)],
  ["a variable of void", "EINVAL", (b) => variable(b, 0)],
  ["a variable of const void", "EINVAL", (b) => variable(b, b.add(K.CONST, "", 0))],
  ["a variable of a forward declaration", "EINVAL", (b) => variable(b, b.add(K.FWD, "f", 0))],
  ["a variable of a variable", "EINVAL", (b) => variable(b, variable(b))],
  ["a variable with a vlen", "EINVAL", (b) => b.add(K.VAR, "v", INT, 1, [1])],
  ["a variable with kind_flag", "EINVAL", (b) => b.add(K.VAR, "v", INT, KIND_FLAG, [1])],
  ["a variable of an id that there is not", "EINVAL", (b) => variable(b, 9)],
]);

/** A section that has 3 bytes for an int. */
function cramped(blob: BtfBlob, isBehind: boolean): void {
  if (isBehind) variable(blob);
  blob.add(K.DATASEC, ".bss", 4, 1, [isBehind ? 3 : 4, 0, 3]);
  if (!isBehind) variable(blob);
}

type Place = readonly [offset: number, size: number];
function two(blob: BtfBlob, first: Place, second: Place, size = 16): number {
  return blob.add(K.DATASEC, ".bss", size, 2, [variable(blob), ...first, variable(blob), ...second]);
}

refuses("structs and unions", [
  ["a struct of nothing", null, (b) => b.struct("s", 0)],
  ["a member beyond its struct", "EINVAL", (b) => b.struct("s", 4, [["a", INT, 2]])],
  ["a member behind its struct", "EINVAL", (b) => b.struct("s", 4, [["a", INT, 5]])],
  ["an array of nothing at its end", null, (b) => b.struct("s", 4, [["a", array(b, INT, 0), 4]])],
  ["members on each other", null, (b) => b.add(K.STRUCT, "s", 4, 2, [0, INT, 0, 0, INT, 0])],
  ["members that go back", "EINVAL", (b) => b.add(K.STRUCT, "s", 8, 2, [0, INT, 32, 0, INT, 0])],
  ["a member of void", "EINVAL", (b) => b.struct("s", 4, [["a", 0, 0]])],
  ["a member of const void", "EINVAL", (b) => b.struct("s", 4, [["a", b.add(K.CONST, "", 0), 0]])],
  ["a member of a forward declaration", "EINVAL", (b) => b.struct("s", 4, [["a", b.add(K.FWD, "f", 0), 0]])],
  ["a member of a prototype", "EINVAL", (b) => b.struct("s", 4, [["a", b.add(K.FUNC_PROTO, "", 0), 0]])],
  ["a member of a variable", "EINVAL", (b) => b.struct("s", 4, [["a", variable(b), 0]])],
  ["a member of a section", "EINVAL", (b) => b.struct("s", 4, [["a", section(b, ".bss"), 0]])],
  ["a member of an id that there is not", "EINVAL", (b) => b.struct("s", 4, [["a", 9, 0]])],
  ["a pointer in the middle of a byte", "EINVAL", (b) => member(b, b.add(K.PTR, "", 0), 4)],
  ["an enum in the middle of a byte", "EINVAL", (b) => member(b, b.add(K.ENUM, "", 4), 4)],
  ["an array in the middle of a byte", "EINVAL", (b) => member(b, array(b, INT, 1), 4)],
  ["a struct in the middle of a byte", "EINVAL", (b) => member(b, b.struct("", 4), 4)],
  ["an int in the middle of a byte", null, (b) => member(b, INT, 4)],
  ["an int of which a byte is too much", "EINVAL", (b) => b.add(K.STRUCT, "s", 4, 1, [0, INT, 4])],
  ["an int of 128 bits in the middle of a byte", "EINVAL", (b) => member(b, b.int("u128", 16), 4)],
  ["a float at a multiple of 8 bytes", null, (b) => member(b, b.add(K.FLOAT, "", 8), 64)],
  ["a float that lies crookedly", "EINVAL", (b) => member(b, b.add(K.FLOAT, "", 8), 32)],
  ["a float of 12 bytes beyond its struct", "EINVAL", (b) => b.struct("s", 11, [["a", b.add(K.FLOAT, "", 12), 0]])],
  ["a field of 3 bits", null, (b) => field(b, INT, 3, 5)],
  ["a field of more bits than its int", "EINVAL", (b) => field(b, INT, 33, 0)],
  ["a field of an int that is one itself", "EINVAL", (b) => field(b, b.add(K.INT, "", 4, 0, [7]), 3, 0)],
  ["an int in the middle of a byte, where there may be fields", "EINVAL", (b) => field(b, INT, 0, 4)],
  ["a field of a typedef of an int", null, (b) => field(b, b.add(K.TYPEDEF, "t", INT), 3, 5)],
  ["a field of a pointer", "EINVAL", (b) => field(b, b.add(K.PTR, "", 0), 3, 0)],
  ["a field of 32 bits of an enum of a byte", null, (b) => field(b, b.add(K.ENUM, "", 1), 32, 0)],
  ["a field of 33 bits of an enum of 8 bytes", "EINVAL", (b) => field(b, b.add(K.ENUM, "", 8), 33, 0)],
  ["an enum of a byte at the end, where there may be fields", "EINVAL", (b) => field(b, b.add(K.ENUM, "", 1), 0, 248)],
  ["a field beyond its struct", "EINVAL", (b) => field(b, INT, 8, 249)],
  ["a union", null, (b) => b.add(K.UNION, "u", 8, 2, [0, INT, 0, 0, U64, 0])],
  ["a union with a member that is not at 0", "EINVAL", (b) => b.add(K.UNION, "u", 8, 1, [0, INT, 8])],
  ["a union with a field", null, (b) => b.add(K.UNION, "u", 8, KIND_FLAG + 1, [0, INT, 3 << 24])],
  ["a union that is too small", "EINVAL", (b) => b.add(K.UNION, "u", 4, 1, [0, U64, 0])],
]);

function array(blob: BtfBlob, element: number, count: number, index = INT): number {
  return blob.add(K.ARRAY, "", 0, 0, [element, index, count]);
}

/** A struct of 32 bytes with one member. */
function member(blob: BtfBlob, type: number, offsetBits: number): number {
  return blob.add(K.STRUCT, "s", 32, 1, [0, type, offsetBits]);
}

function field(blob: BtfBlob, type: number, bits: number, offsetBits: number): number {
  return blob.add(K.STRUCT, "s", 32, KIND_FLAG + 1, [0, type, (bits << 24) | offsetBits]);
}

refuses("arrays", [
  ["an array of arrays", null, (b) => array(b, array(b, INT, 3), 5)],
  ["an array of 4 GiB", "EINVAL", (b) => array(b, INT, 2 ** 30)],
  ["an array of 4 GiB but 4 bytes", null, (b) => array(b, INT, 2 ** 30 - 1)],
  ["an array of arrays of 4 GiB", "EINVAL", (b) => array(b, array(b, INT, 2 ** 20), 2 ** 10)],
  ["an array of 4 Gi of nothing", null, (b) => array(b, b.struct("", 0), 2 ** 32 - 1)],
  ["an array by a pointer", "EINVAL", (b) => array(b, INT, 1, b.add(K.PTR, "", 0))],
  ["an array by an enum", "EINVAL", (b) => array(b, INT, 1, b.add(K.ENUM, "", 4))],
  ["an array by a typedef of an int", null, (b) => array(b, INT, 1, b.add(K.TYPEDEF, "t", INT))],
  ["an array by an int of 7 bits", "EINVAL", (b) => array(b, INT, 1, b.add(K.INT, "", 1, 0, [7]))],
  ["an array of ints of 7 bits", "EINVAL", (b) => array(b, b.add(K.INT, "", 1, 0, [7]), 1)],
  ["an array of const void", "EINVAL", (b) => array(b, b.add(K.CONST, "", 0), 1)],
  ["an array of a variable", "EINVAL", (b) => array(b, variable(b), 1)],
  ["an array of an id that there is not", "EINVAL", (b) => array(b, 9, 1)],
]);

refuses("functions", [
  ["a function of two", null, (b) => func(b, b.add(K.FUNC_PROTO, "", INT, 2, [b.name("a"), INT, b.name("b"), U64]))],
  ["a prototype with a name", "EINVAL", (b) => b.add(K.FUNC_PROTO, "p", 0)],
  ["a prototype with kind_flag", "EINVAL", (b) => b.add(K.FUNC_PROTO, "", 0, KIND_FLAG)],
  ["a prototype that ends with ...", null, (b) => func(b, b.add(K.FUNC_PROTO, "", 0, 2, [b.name("a"), INT, 0, 0]))],
  ["a ... by a name", "EINVAL", (b) => b.add(K.FUNC_PROTO, "", 0, 1, [b.name("a"), 0])],
  ["a ... in the middle", "EINVAL", (b) => b.add(K.FUNC_PROTO, "", 0, 2, [0, 0, b.name("a"), INT])],
  ["a parameter by a wrong name", "EINVAL", (b) => b.add(K.FUNC_PROTO, "", 0, 1, [b.name("1"), INT])],
  ["a parameter by no name of the blob's", "EINVAL", (b) => b.add(K.FUNC_PROTO, "", 0, 1, [999, INT])],
  ["a parameter of const void", "EINVAL", (b) => b.add(K.FUNC_PROTO, "", 0, 1, [0, b.add(K.CONST, "", 0)])],
  ["a parameter of a variable", "EINVAL", (b) => b.add(K.FUNC_PROTO, "", 0, 1, [0, variable(b)])],
  ["a parameter of an id that there is not", "EINVAL", (b) => b.add(K.FUNC_PROTO, "", 0, 1, [0, 9])],
  ["a prototype that answers a prototype", "EINVAL", (b) => b.add(K.FUNC_PROTO, "", 3)],
  ["a prototype that answers a section", "EINVAL", (b) => b.add(K.FUNC_PROTO, "", section(b, ".bss"))],
  ["a prototype that answers an id that there is not", "EINVAL", (b) => b.add(K.FUNC_PROTO, "", 9)],
  ["a parameter without a name", null, (b) => b.add(K.FUNC_PROTO, "", 0, 1, [0, INT])],
  ["a function that has it", "EINVAL", (b) => func(b, b.add(K.FUNC_PROTO, "", 0, 1, [0, INT]))],
  ["a function of an int", "EINVAL", (b) => func(b, INT)],
  ["a function of void", "EINVAL", (b) => func(b, 0)],
  ["a function of an id that there cannot be", "EINVAL", (b) => func(b, 0xffffffff)],
  ["a function without a name", "EINVAL", (b) => b.add(K.FUNC, "", b.add(K.FUNC_PROTO, "", 0))],
  ["a global function", null, (b) => func(b, b.add(K.FUNC_PROTO, "", 0), 1)],
  ["an extern function", "EINVAL", (b) => func(b, b.add(K.FUNC_PROTO, "", 0), 2)],
  ["a function with kind_flag", "EINVAL", (b) => func(b, b.add(K.FUNC_PROTO, "", 0), KIND_FLAG)],
]);

function func(blob: BtfBlob, prototype: number, linkage = 0): number {
  return blob.add(K.FUNC, "f", prototype, linkage);
}

refuses("tags", [
  ["a tag of a struct", null, (b) => tag(b, b.struct("s", 0), -1)],
  ["a tag of a member", null, (b) => tag(b, b.struct("s", 4, [["a", INT, 0]]), 0)],
  ["a tag of a member that there is not", "EINVAL", (b) => tag(b, b.struct("s", 4, [["a", INT, 0]]), 1)],
  ["a tag of what is before the whole", "EINVAL", (b) => tag(b, b.struct("s", 0), -2)],
  ["a tag of a parameter", null, (b) => tag(b, func(b, b.add(K.FUNC_PROTO, "", 0, 1, [b.name("a"), INT])), 0)],
  ["a tag of a parameter that there is not", "EINVAL", (b) => tag(b, func(b, b.add(K.FUNC_PROTO, "", 0)), 0)],
  ["a tag of a variable", null, (b) => tag(b, variable(b), -1)],
  ["a tag of a variable's member", "EINVAL", (b) => tag(b, variable(b), 0)],
  ["a tag of a typedef", null, (b) => tag(b, b.add(K.TYPEDEF, "t", INT), -1)],
  ["a tag of a typedef's member", "EINVAL", (b) => tag(b, b.add(K.TYPEDEF, "t", INT), 0)],
  ["a tag of an int", "EINVAL", (b) => tag(b, INT, -1)],
  ["a tag of void", "EINVAL", (b) => tag(b, 0, -1)],
  ["a tag of an id that there cannot be", "EINVAL", (b) => tag(b, 0xffffffff, -1)],
  ["a tag without a name", "EINVAL", (b) => b.add(K.DECL_TAG, "", b.struct("s", 0), 0, [-1])],
  ["a tag with a vlen", "EINVAL", (b) => b.add(K.DECL_TAG, "t", b.struct("s", 0), 1, [-1])],
  ["a tag with kind_flag", null, (b) => b.add(K.DECL_TAG, "t", b.struct("s", 0), KIND_FLAG, [-1])],
  ["type tags in front of a const", null, (b) => typeTag(b, typeTag(b, b.add(K.CONST, "", INT)))],
  ["a type tag behind a const", "EINVAL", (b) => b.add(K.CONST, "", typeTag(b, INT))],
  ["a type tag behind a typedef", "EINVAL", (b) => b.add(K.TYPEDEF, "t", typeTag(b, INT))],
  ["a type tag behind a pointer", null, (b) => b.add(K.PTR, "", typeTag(b, INT))],
  ["a type tag between consts", "EINVAL", (b) => b.add(K.CONST, "", typeTag(b, b.add(K.CONST, "", INT)))],
]);

function tag(blob: BtfBlob, type: number, component: number): number {
  return blob.add(K.DECL_TAG, "t", type, 0, [component]);
}

function typeTag(blob: BtfBlob, type: number, name = "t", flag = 0): number {
  return blob.add(K.TYPE_TAG, name, type, flag);
}

refuses("types of each other", [
  ["a typedef of itself", "EEXIST", (b) => b.add(K.TYPEDEF, "t", 3)],
  ["a pointer to itself", "EEXIST", (b) => b.add(K.PTR, "", 3)],
  ["a pointer to a const of it", "EEXIST", (b) => [b.add(K.PTR, "", 4), b.add(K.CONST, "", 3)]],
  ["a const of a pointer to it", "EEXIST", (b) => [b.add(K.CONST, "", 4), b.add(K.PTR, "", 3)]],
  ["a struct in itself", "EEXIST", (b) => b.struct("s", 8, [["a", 3, 0]])],
  ["a struct of a typedef of it", "EEXIST", (b) => [b.struct("s", 8, [["a", 4, 0]]), b.add(K.TYPEDEF, "t", 3)]],
  // The typedef is resolved for the pointer, to which any struct is one.
  ["a pointer to a typedef of a struct of that typedef", null, pointedAt],
  ["an array in an array in it", "EEXIST", (b) => [array(b, 4, 1), array(b, 3, 1)]],
  ["an array with itself for an index", "EEXIST", (b) => array(b, INT, 1, 3)],
  ["a struct with a pointer to it", null, (b) => [b.struct("s", 8, [["a", 4, 0]]), b.add(K.PTR, "", 3)]],
  ["a prototype that takes a pointer to it", null, takesItself],
  ["a typedef of a function", null, (b) => [b.add(K.TYPEDEF, "t", 4), func(b, 5), b.add(K.FUNC_PROTO, "", 0)]],
  ["a pointer to a function behind it", "EINVAL", (b) => [b.add(K.PTR, "", 4), func(b, 5), b.add(K.FUNC_PROTO, "", 0)]],
  ["a pointer to a function before it", null, (b) => b.add(K.PTR, "", func(b, b.add(K.FUNC_PROTO, "", 0)))],
  ["a pointer to a variable", "EINVAL", (b) => b.add(K.PTR, "", variable(b))],
  ["a pointer to a section", "EINVAL", (b) => b.add(K.PTR, "", section(b, ".bss"))],
  ["a pointer to a tag", "EINVAL", (b) => b.add(K.PTR, "", tag(b, b.struct("s", 0), -1))],
  ["a pointer to an id that there is not", "EINVAL", (b) => b.add(K.PTR, "", 9)],
  ["a const of a forward declaration", null, (b) => b.add(K.CONST, "", b.add(K.FWD, "f", 0))],
  ["a const of a variable", "EINVAL", (b) => b.add(K.CONST, "", variable(b))],
  ["32 pointers, the first to the next", null, (b) => chain(b, K.PTR, 32, 1)],
  ["33 pointers, the first to the next", "E2BIG", (b) => chain(b, K.PTR, 33, 1)],
  ["99 pointers, each to the one before", null, (b) => chain(b, K.PTR, 99, -1)],
  ["32 consts, the first of the next", null, (b) => chain(b, K.CONST, 32, 1)],
  ["33 consts, the first of the next", "E2BIG", (b) => chain(b, K.CONST, 33, 1)],
  ["99 consts, each of the one before", null, (b) => chain(b, K.CONST, 99, -1)],
  ["34 consts, the first of the next, of which the last 17 are resolved before", "ELOOP", rotated],
]);

function pointedAt(blob: BtfBlob): void {
  blob.add(K.PTR, "", 4);
  blob.add(K.TYPEDEF, "t", 5);
  blob.struct("s", 8, [["a", 4, 0]]);
}

function takesItself(blob: BtfBlob): void {
  blob.add(K.FUNC_PROTO, "", 0, 1, [0, 4]);
  blob.add(K.PTR, "", 3);
}

/** Types that are each of the next (1) or of the one before (-1), up to an int. */
function chain(blob: BtfBlob, kind: number, length: number, step: 1 | -1, first = 3): void {
  for (let at = 0; at < length; at++) {
    const of = step === 1 ? first + at + 1 : first + at - 1;
    blob.add(kind, "", of);
  }
  blob.int("last", 4);
}

/** An array has the end of the chain resolved, so that the stack is large enough for its beginning. */
function rotated(blob: BtfBlob): void {
  const half = 17;
  const first = 4;
  array(blob, first + half, 1);
  chain(blob, K.CONST, 2 * half, 1, first);
}

refuses("what programs may allocate", [
  ["a struct with a lock", null, (b) => b.struct("s", 4, [["l", special(b, "bpf_spin_lock", 4), 0]])],
  ["a lock of another size", "EFAULT", (b) => b.struct("s", 8, [["l", special(b, "bpf_spin_lock", 8), 0]])],
  ["a lock that lies crookedly", "EFAULT", (b) => b.struct("s", 8, [["l", special(b, "bpf_spin_lock", 4), 2]])],
  ["a timer, which they do not", null, (b) => b.struct("s", 24, [["t", special(b, "bpf_timer", 16), 4]])],
  ["a list", null, (b) => list(b)],
  ["a tree", null, (b) => list(b, { root: "bpf_rb_root", node: "bpf_rb_node", nodeBytes: 32 })],
  ["a list without a lock", "EINVAL", (b) => list(b, { locked: false })],
  ["a list without a tag", "EINVAL", (b) => list(b, { tag: null })],
  ["a list with two tags", "EINVAL", (b) => list(b, { tags: 2 })],
  ["a list with a tag of another member", "EINVAL", (b) => list(b, { component: 0 })],
  ["a list with a tag for the whole", "EINVAL", (b) => list(b, { component: -1 })],
  ["a list with a tag of another beginning", "EINVAL", (b) => list(b, { tag: "contains elem:node" })],
  ["a list whose tag names no member", "EINVAL", (b) => list(b, { tag: "contains:elem" })],
  ["a list whose tag names an empty member", "EINVAL", (b) => list(b, { tag: "contains:elem:" })],
  ["a list of a struct that there is not", "ENOENT", (b) => list(b, { tag: "contains:other:node" })],
  ["a list of a struct that there is not, by no member", "ENOENT", (b) => list(b, { tag: "contains:other:" })],
  ["a list by a member that there is not", "ENOENT", (b) => list(b, { tag: "contains:elem:other" })],
  ["a list by a member that is no node", "EINVAL", (b) => list(b, { tag: "contains:elem:data" })],
  ["a list by a member without a name", "EINVAL", (b) => list(b, { tag: "contains:elem:(anon)" })],
  ["a list of a struct without a name", "ENOENT", (b) => list(b, { tag: "contains::node" })],
  ["a list of what has a node of a tree", "EINVAL", (b) => list(b, { node: "bpf_rb_node", nodeBytes: 32 })],
  ["a list of what has the node crookedly", "EFAULT", (b) => list(b, { nodeAt: 12 })],
  ["a list of what has no node of its own", "EFAULT", (b) => list(b, { twice: true })],
  ["a list of itself", "ELOOP", (b) => list(b, { inItself: true })],
  ["11 lists in an array", "E2BIG", (b) => list(b, { count: 11 })],
  ["10 lists in an array, and a lock", null, (b) => list(b, { count: 10 })],
  ["no lists in an array, and a lock", null, (b) => list(b, { count: 0 })],
  ["both nodes without a count of references", "EINVAL", (b) => nodes(b, false)],
  ["both nodes with it", null, (b) => nodes(b, true)],
  ["a lock in an array of two", "EINVAL", (b) => inArray(b, "bpf_spin_lock", 4, 2)],
  ["12 nodes in structs of their own", "E2BIG", (b) => many(b, 12)],
  ["11 nodes in structs of their own", null, (b) => many(b, 11)],
  ["a lock beside a field at bit 3", "EINVAL", fieldBesideLock],
  ["an int by the name of a lock, and a lock", "E2BIG", intByName],
]);

function special(blob: BtfBlob, name: string, size: number): number {
  return blob.struct(name, size);
}

/** A struct `elem { u64 data; u64; node }` with a node, and a struct `s { lock; root }`, which has the list. */
function list(
  blob: BtfBlob,
  {
    root = "bpf_list_head",
    node = "bpf_list_node",
    nodeBytes = 24,
    nodeAt = 16,
    locked = true,
    tag = "contains:elem:node" as string | null,
    tags = 1,
    component = 1,
    inItself = false,
    twice = false,
    count = null as number | null,
  } = {},
): void {
  const lock = special(blob, "bpf_spin_lock", 4);
  // Of two structs by the name of a node the first makes objects of those that have it.
  if (twice) special(blob, node, nodeBytes);
  const inElem = special(blob, node, nodeBytes);
  const head = special(blob, root, 16);
  const data = [blob.name("data"), U64, 0, 0, U64, 64];
  blob.add(K.STRUCT, "elem", 16 + nodeBytes, 3, [...data, blob.name("node"), inElem, nodeAt * 8]);
  const type = count === null ? head : array(blob, head, count);
  const members: [string, number, number][] = [
    ["lock", locked ? lock : INT, 0],
    ["root", type, 8],
  ];
  if (inItself) members.push(["node", inElem, 24]);
  const id = blob.struct(inItself ? "own" : "s", 200, members);
  const text = inItself ? "contains:own:node" : tag;
  for (let left = text === null ? 0 : tags; left > 0; left--) blob.add(K.DECL_TAG, text as string, id, 0, [component]);
}

function nodes(blob: BtfBlob, counted: boolean): void {
  const members: [string, number, number][] = [
    ["a", special(blob, "bpf_list_node", 24), 0],
    ["b", special(blob, "bpf_rb_node", 32), 24],
  ];
  if (counted) members.push(["c", special(blob, "bpf_refcount", 4), 56]);
  blob.struct("s", 64, members);
}

function inArray(blob: BtfBlob, name: string, size: number, count: number): void {
  const inner = special(blob, name, size);
  blob.struct("s", size * (count + 1), [
    ["one", inner, 0],
    ["more", array(blob, blob.struct("in", size, [["x", inner, 0]]), count), size],
  ]);
}

function many(blob: BtfBlob, count: number): void {
  const node = special(blob, "bpf_list_node", 24);
  const apart = blob.struct("apart", 24, [["node", node, 0]]);
  const members = Array.from({ length: count }, (_, at) => [`m${at}`, at === 0 ? node : apart, at * 24] as const);
  blob.struct("s", 24 * count, members);
}

function fieldBesideLock(blob: BtfBlob): void {
  const lock = special(blob, "bpf_spin_lock", 4);
  blob.add(K.STRUCT, "s", 8, KIND_FLAG + 2, [0, lock, 0, 0, INT, (2 << 24) | 35]);
}

function intByName(blob: BtfBlob): void {
  blob.struct("s", 8, [
    ["a", blob.add(K.INT, "bpf_spin_lock", 4, 0, [32]), 0],
    ["b", special(blob, "bpf_spin_lock", 4), 4],
  ]);
}

refuses("kernel pointers", [
  ["one to a struct of its own", null, (b) => pointer(b, "kptr")],
  ["one that is not trusted", null, (b) => pointer(b, "kptr_untrusted")],
  ["one for each CPU", null, (b) => pointer(b, "percpu_kptr")],
  ["one to what the kernel can destroy", null, (b) => pointer(b, "kptr", b.struct("task_struct", 0))],
  ["a volatile one", null, (b) => holds(b, b.add(K.VOLATILE, "", tagged(b, "kptr", b.struct("own", 0))))],
  ["one by a tag with kind_flag", null, (b) => holds(b, b.add(K.PTR, "", typeTag(b, INT, "kptr", KIND_FLAG)))],
  ["one to an int", null, (b) => pointer(b, "kptr", INT)],
  ["one to an int beside a good one", "EINVAL", (b) => pointers(b, ["kptr", INT])],
  ["one of another tag beside a good one", "EINVAL", (b) => pointers(b, ["user", INT])],
  ["one to user space beside a good one", null, (b) => pointers(b, ["uptr", INT])],
  ["one of two tags beside a good one", "EINVAL", (b) => pointers(b, ["kptr", typeTag(b, INT)])],
  ["one that lies crookedly", "EFAULT", (b) => b.struct("s", 16, [["p", tagged(b, "kptr", b.struct("own", 0)), 4]])],
  ["11 in an array, and one", "E2BIG", (b) => arrayed(b, 11)],
  ["10 in an array, and one", null, (b) => arrayed(b, 10)],
]);

function tagged(blob: BtfBlob, name: string, to: number): number {
  return blob.add(K.PTR, "", typeTag(blob, to, name));
}

function holds(blob: BtfBlob, ...types: readonly number[]): number {
  return blob.struct(
    "s",
    8 * types.length,
    types.map((type, at) => [`p${at}`, type, 8 * at] as const),
  );
}

function pointer(blob: BtfBlob, name: string, to = blob.struct("own", 0)): number {
  return holds(blob, tagged(blob, name, to));
}

function pointers(blob: BtfBlob, [name, to]: readonly [string, number]): number {
  return holds(blob, tagged(blob, "kptr", blob.struct("own", 0)), tagged(blob, name, to));
}

function arrayed(blob: BtfBlob, count: number): number {
  const one = tagged(blob, "kptr", blob.struct("own", 0));
  return blob.struct("s", 8 * (count + 1), [
    ["one", one, 0],
    ["more", array(blob, one, count), 8],
  ]);
}

t.test("a kptr is to no struct of the kernel's own that it cannot destroy", async (t) => {
  const service = new Service({}, { ...HOST, undestroyed: () => new Set(["file"]) });
  for (const [tag, name, errno] of [
    ["kptr", "file", "ENOENT"],
    ["kptr_untrusted", "file", null],
    ["percpu_kptr", "file", null],
    ["kptr", "task_struct", null],
  ] as const) {
    const bytes = built((b) => pointer(b, tag, b.struct(name, 0)));
    t.equal(ask(service, "BPF_BTF_LOAD", { btf: bytes.toString("hex"), btf_size: bytes.length }), errno, name);
  }
});
