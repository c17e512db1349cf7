import t from "tap";
import { Service } from "../../conformance/service.ts";
import { ERRNO } from "../../src/abi/errno.ts";
import { CMD } from "../../src/abi/service.ts";
import { Btf } from "../../src/btf/btf.ts";
import { checkedBtf } from "../../src/btf/check.ts";
import { specialFields, valueWarning } from "../../src/btf/special_fields.ts";
import { BTF_KIND } from "../../src/maps/btf_types.ts";
import { HOST } from "../support/commands.ts";
import { BtfBlob } from "./btf_blob.ts";

/**
 * To check BTF takes work that is linear in it. What is counted is how often the blob is read: each of its types and
 * members has three or four words.
 */
const MEMBERS = 65_535;
const READS_A_WORD = 8;

const range = (count: number): number[] => Array.from({ length: count }, (_, at) => at);

/** A struct of so many members at 0, all of one type. */
function wide(blob: BtfBlob, type: number, size: number): number {
  return blob.add(
    BTF_KIND.STRUCT,
    "",
    size,
    MEMBERS,
    range(MEMBERS).flatMap(() => [0, type, 0]),
  );
}

/** Types that are each of the one before; answers the last. */
function chain(first: number, add: (of: number) => number): number {
  return range(MEMBERS).reduce((of) => add(of), first);
}

const SHAPES: Readonly<Record<string, (blob: BtfBlob, int: number) => unknown>> = {
  "structs of structs": (blob, int) => wide(blob, wide(blob, wide(blob, int, 4), 4), 4),
  "members that are at the end of a chain of typedefs": (blob, int) =>
    wide(
      blob,
      chain(int, (of) => blob.add(BTF_KIND.TYPEDEF, "t", of)),
      4,
    ),
  "members that are at the end of a chain of arrays": (blob, int) =>
    wide(
      blob,
      chain(int, (of) => blob.add(BTF_KIND.ARRAY, "", 0, 0, [of, int, 1])),
      4,
    ),
  "arrays with a chain of typedefs for an index": (blob, int) => {
    const index = chain(int, (of) => blob.add(BTF_KIND.TYPEDEF, "t", of));
    for (const _ of range(MEMBERS)) blob.add(BTF_KIND.ARRAY, "", 0, 0, [int, index, 1]);
  },
  "arrays of a large struct": (blob, int) => {
    const large = wide(blob, int, 4);
    for (const _ of range(MEMBERS)) blob.add(BTF_KIND.ARRAY, "", 0, 0, [large, int, 1]);
  },
  "structs that are each in the next": (blob, int) => chain(int, (of) => blob.struct("", 4, [["", of, 0]])),
  "structs with a lock, each in the next": (blob, int) => {
    const lock = blob.struct("bpf_spin_lock", 4, [["", int, 0]]);
    const locked = blob.struct("", 4, [["", lock, 0]]);
    chain(locked, () =>
      blob.struct("", 8, [
        ["", int, 0],
        ["", lock, 4],
      ]),
    );
  },
  "variables of a section": (blob, int) => {
    const variable = blob.add(BTF_KIND.VAR, "v", int, 0, [1]);
    blob.add(
      BTF_KIND.DATASEC,
      ".data",
      4 * MEMBERS,
      MEMBERS,
      range(MEMBERS).flatMap((at) => [variable, at * 4, 4]),
    );
  },
  "values of an enum64": (blob) =>
    blob.add(
      BTF_KIND.ENUM64,
      "",
      8,
      MEMBERS,
      range(MEMBERS).flatMap((at) => [blob.name("v"), at, 0]),
    ),
  "objects with a large struct in them": (blob) => {
    const node = blob.struct("bpf_list_node", 24);
    const large = wide(blob, blob.struct("", 0), 8);
    for (const _ of range(MEMBERS))
      blob.struct("", 32, [
        ["", large, 0],
        ["", node, 8],
      ]);
  },
  "functions of one prototype": (blob, int) => {
    const params = range(MEMBERS).flatMap(() => [blob.name("p"), int]);
    const prototype = blob.add(BTF_KIND.FUNC_PROTO, "", 0, MEMBERS, params);
    for (const _ of range(MEMBERS)) blob.add(BTF_KIND.FUNC, "f", prototype);
  },
  "pointers with a chain of typedefs behind their tag": (blob) => {
    const last = chain(blob.struct("s", 0), (of) => blob.add(BTF_KIND.TYPEDEF, "t", of));
    for (const _ of range(MEMBERS)) blob.add(BTF_KIND.PTR, "", blob.add(BTF_KIND.TYPE_TAG, "kptr", last));
  },
  "type tags on one another": (blob, int) => chain(int, (of) => blob.add(BTF_KIND.TYPE_TAG, "t", of)),
  "lists of one struct": (blob, int) => {
    const lock = blob.struct("bpf_spin_lock", 4, [["", int, 0]]);
    const node = blob.struct("bpf_list_node", 24);
    const head = blob.struct("bpf_list_head", 16);
    const members = range(MEMBERS - 1).flatMap(() => [0, int, 8 * 24]);
    blob.add(BTF_KIND.STRUCT, "elem", 28, MEMBERS, [blob.name("node"), node, 0, ...members]);
    for (const _ of range(5000)) {
      const owner = blob.struct("", 24, [
        ["", lock, 0],
        ["", head, 8],
      ]);
      blob.add(BTF_KIND.DECL_TAG, "contains:elem:node", owner, 0, [1]);
    }
  },
  "parameters of a function": (blob, int) =>
    blob.add(
      BTF_KIND.FUNC_PROTO,
      "",
      int,
      MEMBERS,
      range(MEMBERS).flatMap(() => [0, int]),
    ),
};

for (const [what, build] of Object.entries(SHAPES))
  t.test(`BTF is checked in linear time: ${what}`, (t) => {
    const builder = new BtfBlob();
    build(builder, builder.int("u32", 4));
    const { blob, reads } = counted(builder.bytes());
    const btf = checkedBtf(blob);
    if (!(btf instanceof Btf)) throw new Error(btf.detail);
    const last = btf.count - 1;
    valueWarning(btf, last);
    specialFields(btf, last);
    btf.type(last);
    const words = blob.length / 4;
    t.ok(reads() < words * READS_A_WORD, `${reads()} reads of ${words} words`);
    t.end();
  });

/** A blob that counts how often a word of it is read. */
function counted(bytes: Buffer): { readonly blob: Buffer; readonly reads: () => number } {
  let reads = 0;
  const read = bytes.readUInt32LE;
  bytes.readUInt32LE = (at) => {
    reads++;
    return read.call(bytes, at);
  };
  return { blob: bytes, reads: () => reads };
}

t.test("a service takes no more bytes of it than its setting allows", async (t) => {
  const service = new Service({}, { ...HOST, btfBytesMax: 64 });
  const load = (bytes: number): unknown =>
    service.run({ cmd: CMD.BPF_BTF_LOAD, value: Buffer.alloc(bytes), attr: { btfSize: bytes } }).outcome;
  t.match(load(65), { errno: ERRNO.E2BIG, detail: "btf_size is 65: more than the 64 that MAPLEDGER_BTF_MAX allows" });
  t.match(load(64), { errno: ERRNO.EINVAL }, "what is no BTF");
});
