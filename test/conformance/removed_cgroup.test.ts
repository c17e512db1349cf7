import t from "tap";
import { Kernel } from "../../conformance/kernel.ts";
import { u32Hex } from "../../conformance/requests.ts";
import { HOST, Service } from "../../conformance/service.ts";
import { type StreamType, typeNumber } from "../../conformance/shapes.ts";
import { BTF_BLOB } from "../../conformance/stream_btf.ts";
import type { Subject } from "../../conformance/subject.ts";
import { unfitForKernel } from "../support/bpffs.ts";

/** What no transcript can say: a cgroup goes while descriptors of it are open. */
const SUBJECTS: Readonly<Record<string, () => Subject>> = {
  "the service": () => new Service(),
  "the live kernel": () => new Kernel(HOST.possibleCpus),
};
const VALUE = "0102030405060708";
const unfit = unfitForKernel();

for (const [name, make] of Object.entries(SUBJECTS))
  t.test(`a removed cgroup: ${name}`, { skip: name === "the live kernel" ? (unfit ?? false) : false }, async (t) => {
    const subject = make();
    const btf_fd = subject.bpf({ cmd: "BPF_BTF_LOAD", attr: { btf: BTF_BLOB, btf_size: BTF_BLOB.length / 2 } }).ret;
    const storage = (type: StreamType): number => {
      const sizes = { key_size: 4, value_size: 8, max_entries: 0, map_flags: 1 };
      const btf = { btf_fd, btf_key_type_id: 1, btf_value_type_id: 2 };
      return subject.bpf({ cmd: "BPF_MAP_CREATE", attr: { map_type: typeNumber(type), ...sizes, ...btf } }).ret;
    };
    const ofCgroup = storage("CGRP_STORAGE");
    const ofInode = storage("INODE_STORAGE");
    const shape = { map_type: typeNumber("CGROUP_ARRAY"), key_size: 4, value_size: 4, max_entries: 2 };
    const array = subject.bpf({ cmd: "BPF_MAP_CREATE", attr: shape }).ret;
    const cgroup = subject.open({ kind: "cgroup" }).ret;
    const update = (map_fd: number, key: string, value: string): string | null =>
      subject.bpf({ cmd: "BPF_MAP_UPDATE_ELEM", attr: { map_fd, key, value } }).errno;
    const lookup = (map_fd: number): string | null =>
      subject.bpf({ cmd: "BPF_MAP_LOOKUP_ELEM", attr: { map_fd, key: u32Hex(cgroup) } }).errno;
    t.equal(update(ofCgroup, u32Hex(cgroup), VALUE), null);
    t.equal(update(ofInode, u32Hex(cgroup), VALUE), null);
    t.equal(update(array, "00000000", u32Hex(cgroup)), null);

    subject.removeCgroup(cgroup);
    t.equal(lookup(ofCgroup), "ENOENT", "BPF_MAP_TYPE_CGRP_STORAGE has nothing of it");
    t.equal(update(ofCgroup, u32Hex(cgroup), VALUE), "ENOENT", "and takes nothing");
    t.equal(lookup(ofInode), null, "BPF_MAP_TYPE_INODE_STORAGE keeps what belongs to an inode that is open");
    t.equal(update(array, "01000000", u32Hex(cgroup)), "ENOENT", "BPF_MAP_TYPE_CGROUP_ARRAY does not take it");
    const { errno } = subject.bpf({ cmd: "BPF_MAP_DELETE_ELEM", attr: { map_fd: array, key: "00000000" } });
    t.equal(errno, null, "but has it where it was");
    subject.end();
  });
