/** BTF as JSON, beside what bpftool writes. */

import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import t from "tap";
import { Btf } from "../../src/btf/btf.ts";
import { jsonOf, jsonOfReached } from "../../src/btf/json.ts";
import { BTF_KIND } from "../../src/maps/btf_types.ts";
import { BtfBlob } from "./btf_blob.ts";

const { ARRAY, DECL_TAG, ENUM, ENUM64, PTR, STRUCT } = BTF_KIND;
const VMLINUX = "/sys/kernel/btf/vmlinux";
const KIND_FLAG = 128;

interface Type {
  readonly id: number;
  readonly kind: string;
  readonly encoding?: string;
  readonly values?: readonly { readonly name: string; readonly val: number; readonly digits?: string }[];
}

function listOf(pieces: Iterable<string>): Type[] {
  return JSON.parse(`[${[...pieces].join("")}]`) as Type[];
}

function bpftool(): readonly Type[] | string {
  if (!existsSync(VMLINUX)) return `no ${VMLINUX}`;
  try {
    const text = execFileSync("bpftool", ["-j", "btf", "dump", "file", VMLINUX], { maxBuffer: 2 ** 29, stdio: "pipe" });
    return JSON.parse(text.toString()).types as Type[];
  } catch (error) {
    return `running bpftool: ${(error as Error).message.split("\n")[0]}`;
  }
}

/** bpftool 7.1 extends the sign of unsigned constants, and writes large ones as numbers alone. */
function isToldExactly({ encoding, values = [] }: Type): boolean {
  return !values.some(({ val, digits }) => digits !== undefined || (encoding === "UNSIGNED" && val > 0x7fffffff));
}

const THEIRS = bpftool();

t.test("the kernel's types are those of bpftool", { skip: typeof THEIRS === "string" && THEIRS }, async (t) => {
  const ours = listOf(jsonOf(Btf.parse(readFileSync(VMLINUX)) as Btf));
  const theirs = THEIRS as readonly Type[];
  t.equal(ours.length, theirs.length);
  const differ = ours.filter((type, at) => isToldExactly(type) && JSON.stringify(type) !== JSON.stringify(theirs[at]));
  t.same(differ, []);
  t.ok(ours.filter((type) => !isToldExactly(type)).length < 100, "nearly all are compared");
});

t.test("constants are exact: numbers up to 2^53, and digits beside them beyond", async (t) => {
  const blob = new BtfBlob();
  blob.add(ENUM, "top", 4, 1, [blob.name("A"), 0xffffffff]);
  blob.add(ENUM64 | KIND_FLAG, "wide", 8, 2, [blob.name("B"), 0, 0x80000000, blob.name("C"), 0xffffffff, 0x1fffff]);
  const [top, wide] = listOf(jsonOf(Btf.parse(blob.bytes()) as Btf));
  t.same(top?.values, [{ name: "A", val: 4294967295 }]);
  t.same(wide?.values, [
    { name: "B", val: -(2 ** 63), digits: "-9223372036854775808" },
    { name: "C", val: Number.MAX_SAFE_INTEGER },
  ]);
});

t.test("the types that are reached are those that some name, with their tags", async (t) => {
  const blob = new BtfBlob();
  const [u32, index, u8] = [blob.int("u32", 4), blob.int("index", 4), blob.int("u8", 1)];
  const list = blob.add(STRUCT, "list", 8, 1, [blob.name("next"), 5, 0]);
  blob.add(PTR, "", list);
  const bytes = blob.add(ARRAY, "", 0, 0, [u8, index, 4]);
  const tag = blob.add(DECL_TAG, "inet_ip", bytes, 0, [-1]);
  blob.add(DECL_TAG, "other", u32, 0, [-1]);
  const reached = (...roots: number[]) =>
    listOf(jsonOfReached(Btf.parse(blob.bytes()) as Btf, roots)).map(({ id }) => id);
  t.same(reached(bytes), [index, u8, bytes, tag]);
  t.same(reached(list), [list, 5], "a circle");
  t.same(reached(0, 99), [], "void, and none");
});
