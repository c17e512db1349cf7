import t from "tap";
import { Service } from "../../conformance/service.ts";
import { ERRNO } from "../../src/abi/errno.ts";
import { CMD } from "../../src/abi/service.ts";
import type { Request } from "../../src/engine/request.ts";
import { BTF_KIND } from "../../src/maps/btf_types.ts";
import { create, u32, update } from "../maps/ladder.ts";
import { createAttr } from "../support/commands.ts";
import { memoryEngine } from "../support/memory_engine.ts";
import { BtfBlob, loadBtf } from "./btf_blob.ts";

/** Earlier releases took BTF that the kernel refuses: what their logs say of it is still so. */

const INT = 1;
const LOCKED = 3;

/** A struct with a lock, and what is checked today: a section's size, names, linkages, members. */
function blob({ size, name, linkage, last }: { size: number; name: string; linkage: number; last: number }): Buffer {
  const blob = new BtfBlob();
  blob.int("u32", 4);
  const lock = blob.struct("bpf_spin_lock", 4, [["val", INT, 0]]);
  blob.struct("locked", 8, [
    ["a", INT, 0],
    ["lock", lock, 4],
  ]);
  const variable = blob.add(BTF_KIND.VAR, name, INT, 0, [linkage]);
  blob.add(BTF_KIND.DATASEC, ".bss", size, 1, [variable, 0, 4]);
  const prototype = blob.add(BTF_KIND.FUNC_PROTO, "", 0);
  blob.add(BTF_KIND.FUNC, "f", prototype, linkage);
  blob.add(BTF_KIND.PTR, "", last);
  return blob.bytes();
}
const TAKEN = blob({ size: 4, name: "a_b", linkage: 1, last: INT });
const REFUSED = blob({ size: 0, name: "a b", linkage: 2, last: 99 });

const HASH = { map_type: "BPF_MAP_TYPE_HASH", key_size: 4, value_size: 8, max_entries: 4 };
const TYPES = { btf_key_type_id: INT, btf_value_type_id: LOCKED };

/** A log in which that blob is loaded which is refused today, and what has become of it. */
function older() {
  const service = new Service();
  const fd = loadBtf(service, TAKEN);
  const map_fd = create(service, { ...HASH, btf_fd: fd, ...TYPES });
  update(service, map_fd, u32(1), "ff".repeat(8));
  const { log } = service;
  const row = log.rows.find(({ cmd }) => cmd === CMD.BPF_BTF_LOAD);
  if (row === undefined) throw new Error("no event of the load");
  log.rows[log.rows.indexOf(row)] = { ...row, value: REFUSED };
  return { service, log, fd, map_fd };
}

t.test("an older log with BTF that is refused today adds up to what it did", async (t) => {
  const { service } = older();
  const { state, fold } = service.cells();
  const [was, is] = [TAKEN, REFUSED].map((bytes) => Buffer.from(bytes.toString("hex")).toString("hex"));
  const renamed = Object.entries(state).map(([key, cell]) => [key, cell.replaceAll(was as string, is as string)]);
  t.not(JSON.stringify(fold), JSON.stringify(state));
  t.same(fold, Object.fromEntries(renamed), "but for the blob");
});

t.test("a service goes on with it: its maps are as they were, and others are made with it", async (t) => {
  const { log, fd, map_fd } = older();
  const engine = memoryEngine({ log });
  await engine.recover(() => {});
  const session = 1;
  const run = (command: object) => {
    const [reply] = engine.run([{ session, caller: "conformance", ...command } as Request]);
    if (reply === undefined || "failure" in reply) throw new Error(`running a command: ${reply?.detail}`);
    return reply.outcome;
  };
  const element = { target: { by: "fd", fd: map_fd }, key: Buffer.from(u32(1), "hex"), value: null, flags: 0n };
  const found = run({ cmd: CMD.BPF_MAP_LOOKUP_ELEM, ...element }).value;
  t.equal(found?.toString("hex"), "ffffffff00000000", "the lock reads as 0");
  const types = { btfFd: fd, btfKeyTypeId: INT, btfValueTypeId: LOCKED };
  const attr = createAttr({ mapType: 1, keySize: 4, valueSize: 8, maxEntries: 4, ...types });
  t.match(run({ cmd: CMD.BPF_MAP_CREATE, attr }), { errno: 0 });
  const load = { cmd: CMD.BPF_BTF_LOAD, value: REFUSED, attr: { btfSize: REFUSED.length } };
  t.match(run(load), { errno: ERRNO.EINVAL }, "but it is not loaded again");
  t.match(run({ ...load, value: TAKEN, attr: { btfSize: TAKEN.length } }), { errno: 0 });
});
