import { rmSync } from "node:fs";
import { test } from "tap";
import { HOST, Service as Recording } from "../../conformance/service.ts";
import { BTF_INFO_BYTES } from "../../src/abi/bpf.ts";
import { readHost } from "../../src/host.ts";
import { ANSWER_BYTES } from "../../src/log/kept_answer.ts";
import { KernelTarget } from "../../src/mirror/kernel_target.ts";
import { ReplayDirectory } from "../../src/mirror/replay_directory.ts";
import type { Bpf } from "../../src/native/bpf.ts";
import { openBpf } from "../../src/native/probe.ts";
import { Ids } from "../../src/replay/ids.ts";
import { BtfBlob } from "../btf/btf_blob.ts";
import { Service } from "../http/service.ts";
import { unfitForKernel } from "../support/bpffs.ts";
import { replayed, replayedTo } from "./support.ts";

const { possibleCpus } = readHost();

function blobOf(structs: number): Buffer {
  const blob = new BtfBlob();
  const u32 = blob.int("u32", 4);
  for (let at = 0; at < structs; at++) blob.struct(`struct_${at}`, 4, [["a", u32, 0]]);
  return blob.bytes();
}

/** A pointer, the number of bytes at it, and zeros. */
function infoFor(bytes: number, pointer = 1): string {
  const info = Buffer.alloc(BTF_INFO_BYTES);
  info.writeUInt32LE(pointer, 0);
  info.writeUInt32LE(bytes, 8);
  return info.toString("hex");
}

/** BTF that is found, opened, read, in whole and in part, and closed. */
function recorded(): Recording {
  const recording = new Recording({}, { ...HOST, possibleCpus });
  const ask = (cmd: string, attr: object) => recording.bpf({ cmd, attr: attr as Record<string, unknown> });
  const [small, large] = [blobOf(1), blobOf(200)].map((blob) =>
    ask("BPF_BTF_LOAD", { btf: blob.toString("hex"), btf_size: blob.length }),
  );
  const next = ask("BPF_BTF_GET_NEXT_ID", { start_id: 0 }).attr.next_id as number;
  const last = ask("BPF_BTF_GET_NEXT_ID", { start_id: next }).attr.next_id as number;
  ask("BPF_BTF_GET_NEXT_ID", { start_id: last });
  const opened = ask("BPF_BTF_GET_FD_BY_ID", { btf_id: last }).ret;
  for (const bpf_fd of [small?.ret, large?.ret, opened])
    for (const bytes of [0, 10, 20_000]) ask("BPF_OBJ_GET_INFO_BY_FD", { bpf_fd, info_len: 32, info: infoFor(bytes) });
  ask("BPF_OBJ_GET_INFO_BY_FD", { bpf_fd: opened, info_len: 32 });
  ask("BPF_OBJ_GET_INFO_BY_FD", { bpf_fd: opened, info_len: 32, info: infoFor(10, 0) });
  ask("BPF_BTF_GET_FD_BY_ID", { btf_id: last, open_flags: 8 });
  const types = { btf_fd: opened, btf_key_type_id: 1, btf_value_type_id: 2 };
  ask("BPF_MAP_CREATE", { map_type: 1, key_size: 4, value_size: 4, max_entries: 1, ...types });
  recording.close(small?.ret as number);
  ask("BPF_BTF_GET_FD_BY_ID", { btf_id: next });
  return recording;
}

test("commands on BTF replay into a mapledger that has given other ids", async (t) => {
  const { rows } = recorded().log;
  const there = await Service.start(t);
  const session = await there.session();
  const attr = { btf: blobOf(3).toString("hex"), btf_size: blobOf(3).length };
  for (let at = 0; at < 2; at++) {
    const { ret } = (await there.send("POST", `${session}/bpf`, { cmd: "BPF_BTF_LOAD", attr })).json();
    await there.send("DELETE", `${session}/fds/${ret}`);
  }
  const { differences, summary } = await replayed(rows, there.app);
  t.strictSame(differences, []);
  t.strictSame(summary.left_out, []);
});

test("an event of BTF's info keeps the beginning of large BTF, and its length", async (t) => {
  const { rows } = recorded().log;
  const infos = rows.filter(({ cmd, key }) => cmd === 15 && key !== null);
  const large = infos.filter(({ out }) => out?.includes('"answer"') === true);
  t.equal(large.length, 2, "the second blob was read twice");
  for (const { key, value, out } of large) {
    t.equal((key?.length ?? 0) + (value?.length ?? 0), ANSWER_BYTES);
    t.equal(JSON.parse(out as string).answer.key.bytes, blobOf(200).length);
  }
});

test("commands on BTF replay into the kernel", { skip: unfitForKernel() ?? false }, async (t) => {
  const directory = new ReplayDirectory();
  const target = new KernelTarget(openBpf() as Bpf, possibleCpus, directory);
  try {
    const { rows } = recorded().log;
    const { differences, summary } = await replayedTo(target, rows, { ids: new Ids({ oneTable: true }) });
    t.strictSame(differences, []);
    t.strictSame(
      new Set(
        Object.values(summary.left_out).map((one) => JSON.stringify(one).includes("a kernel has other BTF, too")),
      ),
      new Set([true]),
    );
  } finally {
    target.close();
    rmSync(directory.path, { recursive: true, force: true });
  }
});
