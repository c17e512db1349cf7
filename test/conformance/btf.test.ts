import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import t from "tap";
import { BtfJudge, judgeRandomBtf } from "../../conformance/btf_judge.ts";
import { BTF_KIND } from "../../src/maps/btf_types.ts";
import { BtfBlob } from "../btf/btf_blob.ts";
import { unfitForKernel } from "../support/bpffs.ts";
import { SEED } from "../support/seed.ts";
import { warningsSince } from "../support/warnings.ts";

/** BTF that the service and the live kernel judge alike. `npm run conformance -- --btf 100000` has more of it. */

const skip = unfitForKernel() ?? false;
/** So many that are taken, and as many that are refused. */
const BLOBS = 2000;
const OWN = "/sys/kernel/btf/vmlinux";
const skipOwn = skip || (!existsSync(OWN) && `there is no ${OWN}`);
const OBJECT = join(import.meta.dirname, "../fixtures/pinned_maps.bpf.o");

t.test("random BTF, sound and malformed, is judged as the live kernel judges it", { skip }, async (t) => {
  t.comment(`SEED=${SEED}`);
  const read = warningsSince();
  const answers = judgeRandomBtf(BLOBS, SEED);
  t.ok((answers.taken ?? 0) >= BLOBS, JSON.stringify(answers));
  for (const errno of ["EINVAL", "E2BIG", "EEXIST", "EFAULT", "ENOENT", "kept"]) t.ok((answers[errno] ?? 0) > 0, errno);
  t.same(read(), [], "and prints no WARNING");
});

t.test("the BTF that clang leaves in an object file is judged as the live kernel judges it", { skip }, async (t) => {
  t.equal(new BtfJudge().judge(section(readFileSync(OBJECT), ".BTF")), "EINVAL", "its sections have no sizes yet");
});

t.test("the kernel's own BTF is taken", { skip: skipOwn }, async (t) => {
  t.equal(new BtfJudge().judge(readFileSync(OWN)), "taken");
});

t.test("kernel pointers are to what the live kernel can destroy", { skip: skipOwn }, async (t) => {
  for (const [name, answer] of [
    ["task_struct", "taken"],
    ["cgroup", "taken"],
    ["bpf_cpumask", "taken"],
    ["file", "ENOENT"],
    ["nobody_has_it", "taken"],
  ] as const) {
    const blob = new BtfBlob();
    const tag = blob.add(BTF_KIND.TYPE_TAG, "kptr", blob.struct(name, 0));
    blob.struct("value", 8, [["pointer", blob.add(BTF_KIND.PTR, "", tag), 0]]);
    t.equal(new BtfJudge().judge(blob.bytes()), answer, name);
  }
});

/** Of an ELF file of 64 bits, little-endian. */
function section(elf: Buffer, name: string): Buffer {
  const [table, bytes, count, names] = [
    Number(elf.readBigUInt64LE(40)),
    ...[58, 60, 62].map((at) => elf.readUInt16LE(at)),
  ];
  const headers = Array.from({ length: count as number }, (_, at) => elf.subarray(table + at * (bytes as number)));
  const contents = (header: Buffer): Buffer => {
    const start = Number(header.readBigUInt64LE(24));
    return elf.subarray(start, start + Number(header.readBigUInt64LE(32)));
  };
  const strings = contents(headers[names as number] as Buffer);
  const found = headers.find((header) => strings.subarray(header.readUInt32LE(0)).toString().startsWith(`${name}\0`));
  if (found === undefined) throw new Error(`no section ${name}`);
  return contents(found);
}
