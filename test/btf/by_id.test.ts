/** BTF by its id, and its info, on the service and on the live kernel. */

import type { Answer, Subject } from "../../conformance/subject.ts";
import { BPF_F, BTF_INFO, BTF_INFO_BYTES } from "../../src/abi/bpf.ts";
import { ID_MAX } from "../../src/abi/limits.ts";
import { settles, succeed } from "../maps/ladder.ts";
import { onBoth } from "../maps/subjects.ts";
import { BtfBlob, loadBtf } from "./btf_blob.ts";

/** Any number but 0 stands for a pointer: the subject gives the room. */
const POINTER = 0x1000n;

function ask(subject: Subject, cmd: string, attr: Record<string, unknown>): Answer {
  return subject.bpf({ cmd, attr });
}

function blob(): Buffer {
  const types = new BtfBlob();
  types.int("u32", 4);
  return types.bytes();
}

interface Given {
  readonly btf?: bigint;
  readonly size?: number;
  readonly name?: bigint;
  readonly nameLen?: number;
  readonly kernel?: number;
}

function infoOf({ btf = 0n, size = 0, name = 0n, nameLen = 0, kernel = 0 }: Given, bytes = BTF_INFO_BYTES): string {
  const info = Buffer.alloc(BTF_INFO_BYTES);
  info.writeBigUInt64LE(btf, BTF_INFO.btf);
  info.writeUInt32LE(size, BTF_INFO.btf_size);
  info.writeBigUInt64LE(name, BTF_INFO.name);
  info.writeUInt32LE(nameLen, BTF_INFO.name_len);
  info.writeUInt32LE(kernel, BTF_INFO.kernel_btf);
  return Buffer.concat([info, Buffer.alloc(Math.max(bytes - BTF_INFO_BYTES, 0))]).toString("hex", 0, bytes);
}

function getInfo(subject: Subject, fd: number, given: Given = {}, bytes = BTF_INFO_BYTES) {
  const attr = { bpf_fd: fd, info_len: bytes, info: infoOf(given, bytes) };
  return ask(subject, "BPF_OBJ_GET_INFO_BY_FD", attr);
}

function idOf(subject: Subject, fd: number): number {
  return Buffer.from(succeed(getInfo(subject, fd)).attr.info as string, "hex").readUInt32LE(BTF_INFO.id);
}

onBoth("BPF_OBJ_GET_INFO_BY_FD of BTF answers size and id, in as many bytes as were given", (t, subject) => {
  const bytes = blob();
  const fd = loadBtf(subject, bytes);
  const id = idOf(subject, fd);
  for (const length of [0, 8, 11, 12, 16, 24, 28, 31, 32, 33, 40, 4096]) {
    const { attr } = succeed(getInfo(subject, fd, { kernel: 7 }, length));
    const expected = Buffer.alloc(BTF_INFO_BYTES);
    expected.writeUInt32LE(bytes.length, BTF_INFO.btf_size);
    expected.writeUInt32LE(id, BTF_INFO.id);
    const used = Math.min(length, BTF_INFO_BYTES);
    t.same(attr, { info: expected.toString("hex", 0, used), info_len: used }, `${length} bytes`);
  }
});

onBoth("BPF_OBJ_GET_INFO_BY_FD of BTF copies it to the pointer, up to btf_size, and its empty name", (t, subject) => {
  const bytes = blob();
  const fd = loadBtf(subject, bytes);
  for (const size of [0, 1, 10, bytes.length, bytes.length + 20]) {
    const { attr } = succeed(getInfo(subject, fd, { btf: POINTER, size }));
    t.equal(attr.btf, bytes.toString("hex", 0, size), `${size} bytes`);
    const info = Buffer.from(attr.info as string, "hex");
    t.equal(info.readUInt32LE(BTF_INFO.btf_size), bytes.length, "the whole size is told");
    t.equal(info.readBigUInt64LE(BTF_INFO.btf), POINTER, "the pointer stays");
  }
  t.equal(succeed(getInfo(subject, fd, { btf: POINTER, size: 8 }, 8)).attr.btf, "", "btf_size is not in the buffer");
  for (const nameLen of [1, 16]) {
    const { attr } = succeed(getInfo(subject, fd, { name: POINTER, nameLen }));
    t.equal(attr.name, "");
    t.equal(Buffer.from(attr.info as string, "hex").readUInt32LE(BTF_INFO.name_len), 0);
  }
});

onBoth("BPF_OBJ_GET_INFO_BY_FD of BTF refuses in the kernel's order", (t, subject) => {
  const fd = loadBtf(subject, blob());
  const rows: readonly [what: string, attr: Record<string, unknown>, errno: string][] = [
    ["no descriptor", { bpf_fd: -1, info_len: 5000 }, "EBADFD"],
    ["a buffer of more than a page", { bpf_fd: fd, info_len: 4097, info: infoOf({ size: 9 }, 4097) }, "E2BIG"],
    ["a byte after the struct", { bpf_fd: fd, info_len: 33, info: `${infoOf({ size: 9 })}01` }, "E2BIG"],
    ["fewer bytes than info_len", { bpf_fd: fd, info_len: 32, info: infoOf({ size: 9 }, 31) }, "EFAULT"],
    ["no room for btf_size bytes", { bpf_fd: fd, info_len: 32, info: infoOf({ size: 9, nameLen: 1 }) }, "EFAULT"],
    ["a name_len without a name", { bpf_fd: fd, info_len: 32, info: infoOf({ nameLen: 1 }) }, "EINVAL"],
    ["a name without a name_len", { bpf_fd: fd, info_len: 32, info: infoOf({ name: POINTER }) }, "EINVAL"],
  ];
  for (const [what, attr, errno] of rows) t.equal(ask(subject, "BPF_OBJ_GET_INFO_BY_FD", attr).errno, errno, what);
});

onBoth("BPF_BTF_GET_FD_BY_ID opens the same BTF, as long as there is a descriptor or a map of it", (t, subject) => {
  const fd = loadBtf(subject, blob());
  const other = loadBtf(subject, blob());
  const id = idOf(subject, fd);
  t.not(idOf(subject, other), id, "the same bytes loaded again are another BTF");
  const again = succeed(ask(subject, "BPF_BTF_GET_FD_BY_ID", { btf_id: id })).ret;
  t.equal(idOf(subject, again), id);
  t.not(again, fd);
  subject.close(fd);
  t.equal(idOf(subject, again), id, "it lives on");
  const map = succeed(
    ask(subject, "BPF_MAP_CREATE", {
      map_type: 2,
      key_size: 4,
      value_size: 4,
      max_entries: 1,
      btf_fd: again,
      btf_key_type_id: 1,
      btf_value_type_id: 1,
    }),
  ).ret;
  subject.close(again);
  const ofMap = succeed(ask(subject, "BPF_BTF_GET_FD_BY_ID", { start_id: id })).ret;
  t.equal(idOf(subject, ofMap), id, "the map holds it");
  subject.close(ofMap);
  subject.close(map);
  const opened = (): string | null => {
    const { ret, errno } = ask(subject, "BPF_BTF_GET_FD_BY_ID", { btf_id: id });
    if (errno === null) subject.close(ret);
    return errno;
  };
  settles(t, subject, opened, "ENOENT", "nothing holds it");
});

onBoth("BPF_BTF_GET_FD_BY_ID refuses in the kernel's order", (t, subject) => {
  const fd = loadBtf(subject, blob());
  const id = idOf(subject, fd);
  const { BPF_F_RDONLY, BPF_F_WRONLY, BPF_F_TOKEN_FD } = BPF_F;
  const rows: readonly [what: string, attr: Record<string, unknown>, errno: string | null][] = [
    ["BPF_F_RDONLY", { btf_id: 0, open_flags: BPF_F_RDONLY }, "EINVAL"],
    ["BPF_F_WRONLY", { btf_id: 0, open_flags: BPF_F_WRONLY }, "EINVAL"],
    ["flags beside a token", { btf_id: 0, open_flags: BPF_F_TOKEN_FD | 1, fd_by_id_token_fd: -1 }, "EINVAL"],
    ["a token that is not open", { btf_id: 0, open_flags: BPF_F_TOKEN_FD, fd_by_id_token_fd: -1 }, "EBADF"],
    ["BTF in place of a token", { btf_id: 0, open_flags: BPF_F_TOKEN_FD, fd_by_id_token_fd: fd }, "EINVAL"],
    ["id 0", { btf_id: 0 }, "ENOENT"],
    ["an id that is not in use", { btf_id: ID_MAX }, "ENOENT"],
    ["an id that none can be", { btf_id: 2 ** 32 - 1 }, "ENOENT"],
    ["a token that no flag names", { btf_id: id, fd_by_id_token_fd: -1 }, null],
    ["next_id, which it does not read", { btf_id: id, next_id: 7 }, null],
  ];
  for (const [what, attr, errno] of rows) t.equal(ask(subject, "BPF_BTF_GET_FD_BY_ID", attr).errno, errno, what);
});

onBoth("BPF_BTF_GET_NEXT_ID finds BTF in the order of ids", (t, subject) => {
  const loaded = [1, 2, 3].map(() => idOf(subject, loadBtf(subject, blob())));
  const next = (startId: number) => ask(subject, "BPF_BTF_GET_NEXT_ID", { start_id: startId });
  const found: number[] = [];
  for (let at = 0; ; ) {
    const { errno, attr } = next(at);
    if (errno !== null) {
      t.equal(errno, "ENOENT", "the end");
      break;
    }
    t.ok((attr.next_id as number) > at, "ids ascend");
    at = attr.next_id as number;
    found.push(at);
  }
  t.same(
    found.filter((id) => loaded.includes(id)),
    loaded,
  );
  t.equal(next(ID_MAX).errno, "ENOENT");
  for (const startId of [ID_MAX + 1, 2 ** 32 - 1]) t.equal(next(startId).errno, "EINVAL", `${startId}`);
  t.equal(ask(subject, "BPF_BTF_GET_NEXT_ID", { start_id: 0, open_flags: 1 }).errno, "EINVAL");
  t.equal(ask(subject, "BPF_BTF_GET_NEXT_ID", { start_id: 0, fd_by_id_token_fd: 1 }).errno, "EINVAL");
});

onBoth("a descriptor of BTF is not a map, and cannot be pinned", (t, subject) => {
  const fd = loadBtf(subject, blob());
  t.equal(ask(subject, "BPF_MAP_LOOKUP_ELEM", { map_fd: fd, key: "00000000" }).errno, "EINVAL");
  const pathname = `${subject.directory}/btf`;
  t.equal(ask(subject, "BPF_OBJ_PIN", { bpf_fd: fd, pathname }).errno, "EINVAL");
});
