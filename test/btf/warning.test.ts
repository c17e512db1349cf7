import { rmSync } from "node:fs";
import * as fc from "fast-check";
import t from "tap";
import { Kernel } from "../../conformance/kernel.ts";
import { HOST, Service } from "../../conformance/service.ts";
import type { Subject } from "../../conformance/subject.ts";
import { Btf } from "../../src/btf/btf.ts";
import { specialFields } from "../../src/btf/special_fields.ts";
import { BTF_KIND } from "../../src/maps/btf_types.ts";
import { btfWarning } from "../../src/mirror/btf_warning.ts";
import { KernelTarget } from "../../src/mirror/kernel_target.ts";
import { ReplayDirectory } from "../../src/mirror/replay_directory.ts";
import type { Bpf } from "../../src/native/bpf.ts";
import { openBpf } from "../../src/native/probe.ts";
import { Ids } from "../../src/replay/ids.ts";
import { ask } from "../maps/ladder.ts";
import { onService } from "../maps/subjects.ts";
import { replayedTo } from "../replay/support.ts";
import { unfitForKernel } from "../support/bpffs.ts";
import { SEED } from "../support/seed.ts";
import { warningsSince } from "../support/warnings.ts";
import { BtfBlob } from "./btf_blob.ts";

/**
 * Some BTF makes the kernel print a WARNING (btf_parse_fields(), kernel/bpf/btf.c): one that has panic_on_warn stops. No test
 * gives it such BTF; they prove that the ledger refuses it, and that whatever else is random leaves no WARNING.
 */
const skip = unfitForKernel() ?? false;
const RUNS = Number(process.env.RUNS ?? 150);

const SIZES = {
  bpf_spin_lock: 4,
  bpf_res_spin_lock: 4,
  bpf_refcount: 4,
  bpf_list_node: 24,
  bpf_rb_node: 32,
  bpf_timer: 16,
  bpf_wq: 16,
  bpf_task_work: 8,
} as const;
type Name = keyof typeof SIZES;
const NAMES = Object.keys(SIZES) as Name[];

/** Integers, and a struct of each special name. */
function special(): { readonly blob: BtfBlob; readonly ids: Readonly<Record<Name, number>> } {
  const blob = new BtfBlob();
  blob.int("u32", 4);
  blob.int("u64", 8);
  const ids = Object.fromEntries(NAMES.map((name) => [name, blob.struct(name, SIZES[name])]));
  return { blob, ids: ids as Record<Name, number> };
}

function load(blob: BtfBlob): { btf: string; btf_size: number } {
  const bytes = blob.bytes();
  return { btf: bytes.toString("hex"), btf_size: bytes.length };
}

/** A struct that has two fields, each in a struct of its own. */
function apart(blob: BtfBlob, first: number, second: number, size: number): number {
  const a = blob.struct("a", size, [["x", first, 0]]);
  const b = blob.struct("b", size, [["x", second, 0]]);
  return blob.struct("both", 2 * size, [
    ["a", a, 0],
    ["b", b, size],
  ]);
}

onService("BPF_BTF_LOAD refuses what the kernel would print a WARNING for", (t, subject) => {
  for (const [what, errno, build] of [
    [
      "a bpf_res_spin_lock behind a bpf_spin_lock",
      "EINVAL",
      (blob, { bpf_spin_lock, bpf_res_spin_lock }) =>
        blob.struct("s", 8, [
          ["a", bpf_spin_lock, 0],
          ["b", bpf_res_spin_lock, 4],
        ]),
    ],
    [
      "two bpf_refcounts",
      "E2BIG",
      (blob, { bpf_refcount }) =>
        blob.struct("s", 8, [
          ["a", bpf_refcount, 0],
          ["b", bpf_refcount, 4],
        ]),
    ],
    [
      "a bpf_spin_lock, and one in a struct in it",
      "E2BIG",
      (blob, { bpf_spin_lock }) => {
        const inner = blob.struct("inner", 4, [["a", bpf_spin_lock, 0]]);
        return blob.struct("s", 8, [
          ["a", bpf_spin_lock, 0],
          ["b", inner, 4],
        ]);
      },
    ],
    [
      "two bpf_spin_locks, each in a struct, beside a bpf_list_node",
      "E2BIG",
      (blob, { bpf_spin_lock, bpf_list_node }) => {
        const inner = apart(blob, bpf_spin_lock, bpf_spin_lock, 4);
        return blob.struct("s", 32, [
          ["locks", inner, 0],
          ["node", bpf_list_node, 8],
        ]);
      },
    ],
    [
      "the same beside a kernel pointer",
      "E2BIG",
      (blob, { bpf_spin_lock }) => {
        const inner = apart(blob, bpf_spin_lock, bpf_spin_lock, 4);
        const task = blob.struct("task_struct", 0);
        const pointer = blob.add(BTF_KIND.PTR, "", blob.add(BTF_KIND.TYPE_TAG, "kptr", task));
        return blob.struct("s", 16, [
          ["locks", inner, 0],
          ["task", pointer, 8],
        ]);
      },
    ],
  ] as readonly (readonly [string, string, (blob: BtfBlob, ids: Readonly<Record<Name, number>>) => unknown])[]) {
    const { blob, ids } = special();
    build(blob, ids);
    t.equal(ask(subject, "BPF_BTF_LOAD", load(blob)), errno, what);
    t.equal(btfWarning(blob.bytes(), null)?.errno, errno, `${what}, for a log that has it`);
  }
});

onService("BPF_MAP_CREATE refuses values that the kernel would print a WARNING for", (t, subject) => {
  for (const [first, second, errno] of [
    ["bpf_spin_lock", "bpf_spin_lock", "E2BIG"],
    ["bpf_spin_lock", "bpf_res_spin_lock", "EINVAL"],
    ["bpf_timer", "bpf_timer", "E2BIG"],
    ["bpf_wq", "bpf_wq", "E2BIG"],
    ["bpf_task_work", "bpf_task_work", "E2BIG"],
    ["bpf_refcount", "bpf_refcount", "E2BIG"],
    ["bpf_res_spin_lock", "bpf_res_spin_lock", null],
    ["bpf_res_spin_lock", "bpf_spin_lock", null],
    ["bpf_timer", "bpf_wq", null],
  ] as const) {
    const { blob, ids } = special();
    const both = apart(blob, ids[first], ids[second], 16);
    const variables = [both, both].map((type, at) => [blob.add(BTF_KIND.VAR, `v${at}`, type, 0, [1]), at * 32, 32]);
    const section = blob.add(BTF_KIND.DATASEC, ".bss", 64, 2, variables.flat());
    const fd = subject.bpf({ cmd: "BPF_BTF_LOAD", attr: load(blob) }).ret;
    const map = { map_type: "BPF_MAP_TYPE_ARRAY", key_size: 4, max_entries: 1, btf_fd: fd };
    const values = { value_size: 32, btf_key_type_id: 1, btf_value_type_id: both };
    t.equal(ask(subject, "BPF_MAP_CREATE", { ...map, ...values }), errno, `${first} and ${second}`);
    t.equal(btfWarning(blob.bytes(), both)?.errno ?? null, errno, "and for a log that has it");
    t.ok(
      errno === null || ask(subject, "BPF_MAP_CREATE", { ...map, value_size: 64, btf_value_type_id: section }) !== null,
      "in a section",
    );
  }
});

t.test("a map of an older log that has such values keeps its special fields", (t) => {
  const { blob, ids } = special();
  const both = apart(blob, ids.bpf_timer, ids.bpf_timer, 16);
  const btf = Btf.parse(blob.bytes()) as Btf;
  t.same(specialFields(btf, both), [
    { kind: "bpf_timer", offset: 0, size: 16 },
    { kind: "bpf_timer", offset: 16, size: 16 },
  ]);
  t.end();
});

/** One type behind the others: a struct's members, as which types, how far behind the one before, and in how large an array. */
const BUILT = fc.array(
  fc.array(
    fc.record({
      type: fc.nat({ max: 30 }),
      gap: fc.constantFrom(0, 0, 0, 4, 8, -4, 1),
      array: fc.constantFrom(0, 0, 0, 1, 2),
    }),
    { maxLength: 5 },
  ),
  { minLength: 1, maxLength: 6 },
);
const SPOILT = fc.option(fc.constantFrom(...NAMES), { freq: 6 });

/** The types of a random blob, with their sizes. */
function random(structs: Built, spoilt: Name | null) {
  const blob = new BtfBlob();
  const sizes: number[] = [0];
  const sized = (id: number, size: number): number => {
    sizes[id] = size;
    return id;
  };
  sized(blob.int("u32", 4), 4);
  sized(blob.int("u64", 8), 8);
  for (const name of NAMES) {
    const size = SIZES[name] + (name === spoilt ? 8 : 0);
    sized(blob.struct(name, size), size);
  }
  const values: number[] = [];
  for (const [at, members] of structs.entries()) {
    let end = 0;
    let last = 0;
    const fields = members.map(({ type, gap, array }, member): [string, number, number] => {
      let id = 1 + (type % (sizes.length - 1));
      if (array > 0) id = sized(blob.add(BTF_KIND.ARRAY, "", 0, 0, [id, 1, array]), (sizes[id] as number) * array);
      const offset = Math.max(last, gap === 1 ? end + 1 : Math.ceil(end / 8) * 8 + gap);
      last = offset;
      end = Math.max(end, offset + (sizes[id] as number));
      return [`m${member}`, id, offset];
    });
    values.push(sized(blob.struct(`s${at}`, end + 1, fields), end + 1));
  }
  return { blob, sizes, values };
}
type Built = readonly (readonly { readonly type: number; readonly gap: number; readonly array: number }[])[];

t.test(
  "random BTF is loaded, and maps made with it, as the live kernel does, which prints no WARNING",
  { skip },
  (t) => {
    const read = warningsSince();
    const [service, kernel] = [new Service(), new Kernel(HOST.possibleCpus)];
    let [compared, kept] = [0, 0];
    try {
      for (const [structs, spoilt] of fc.sample(fc.tuple(BUILT, SPOILT), { seed: SEED, numRuns: RUNS })) {
        const { blob, sizes, values } = random(structs, spoilt);
        const attr = load(blob);
        const loaded = service.bpf({ cmd: "BPF_BTF_LOAD", attr });
        if (btfWarning(blob.bytes(), null) !== null) {
          kept++;
          t.not(loaded.errno, null, "the ledger refuses what the kernel is not given");
          continue;
        }
        const real = kernel.bpf({ cmd: "BPF_BTF_LOAD", attr });
        t.equal(loaded.errno, real.errno, attr.btf);
        compared++;
        if (loaded.errno !== null || real.errno !== null) continue;
        for (const id of values) {
          const warned = btfWarning(blob.bytes(), id);
          const create = (subject: Subject, btf_fd: number): unknown =>
            ask(subject, "BPF_MAP_CREATE", {
              map_type: "BPF_MAP_TYPE_HASH",
              key_size: 4,
              value_size: sizes[id] as number,
              max_entries: 1,
              btf_fd,
              btf_key_type_id: 1,
              btf_value_type_id: id,
            });
          const ours = create(service, loaded.ret);
          if (warned === null) t.equal(ours, create(kernel, real.ret), `${attr.btf}, type ${id}`);
          else t.equal(ours, warned.errno);
        }
      }
      t.ok(compared > RUNS / 10 && kept > 0, `${compared} blobs compared, ${kept} kept from the kernel`);
      for (const warning of read()) t.fail(warning);
    } finally {
      service.end();
      kernel.end();
    }
    t.end();
  },
);

t.test("a replay to the kernel leaves such BTF out, also where an earlier release took it", { skip }, async (t) => {
  const { blob, ids } = special();
  const both = apart(blob, ids.bpf_spin_lock, ids.bpf_spin_lock, 4);
  const recording = new Service();
  const fd = recording.bpf({ cmd: "BPF_BTF_LOAD", attr: load(blob) }).ret;
  const values = { value_size: 8, btf_fd: fd, btf_key_type_id: 1, btf_value_type_id: both };
  const map = { map_type: "BPF_MAP_TYPE_ARRAY", key_size: 4, max_entries: 1 };
  recording.bpf({ cmd: "BPF_MAP_CREATE", attr: { ...map, ...values } });
  const bad = special();
  bad.blob.struct("s", 8, [
    ["a", bad.ids.bpf_refcount, 0],
    ["b", bad.ids.bpf_refcount, 4],
  ]);
  recording.bpf({ cmd: "BPF_BTF_LOAD", attr: load(bad.blob) });
  const read = warningsSince();
  const directory = new ReplayDirectory();
  t.teardown(() => rmSync(directory.path, { recursive: true, force: true }));
  const target = new KernelTarget(openBpf() as Bpf, HOST.possibleCpus, directory);
  const { summary } = await replayedTo(target, recording.log.rows, { ids: new Ids({ oneTable: true }) });
  target.close();
  recording.end();
  t.match(summary.left_out, [
    { cmd: "BPF_MAP_CREATE", why: /WARNING/, count: 1 },
    { cmd: "BPF_BTF_LOAD", why: /WARNING/, count: 1 },
  ]);
  t.same(read(), []);
});
