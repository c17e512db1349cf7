import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import t, { type Test } from "tap";
import { BPF_ATTACH_TYPE, BPF_F, BPF_MAP_TYPE, BPF_PROG_TYPE } from "../../src/abi/bpf.ts";
import type { MirrorSource } from "../../src/engine/ports.ts";
import type { MapRecord } from "../../src/maps/map.ts";
import type { ObjectRecord, ProgFacts } from "../../src/maps/object.ts";
import { ObjectTable } from "../../src/mirror/object_table.ts";
import { DEFAULT_PLACES, openRealObject } from "../../src/mirror/real_objects.ts";
import type { Bpf } from "../../src/native/bpf.ts";
import { openBpf } from "../../src/native/probe.ts";
import { BPFFS, unfitForKernel } from "../support/bpffs.ts";
import { hex, type Json, Ledger } from "../support/ledger.ts";
import { array, driven, hash, kernelMirror, scanned, source, u32 } from "../support/mirror.ts";
import { OWN_NAME } from "../support/own_name.ts";

const { BPF_MAP_TYPE_PROG_ARRAY, BPF_MAP_TYPE_DEVMAP_HASH, BPF_MAP_TYPE_CPUMAP } = BPF_MAP_TYPE;
const { BPF_XDP_DEVMAP, BPF_XDP_CPUMAP } = BPF_ATTACH_TYPE;
const XDP = BPF_PROG_TYPE.BPF_PROG_TYPE_XDP;
const NO_ELEMENT = -2;
/** r0 = 0; exit */
const RETURN_0 = Buffer.from("b7000000000000009500000000000000", "hex");

type ProgRecord = ProgFacts & { readonly id: number };

const reason = unfitForKernel();
if (reason !== null) {
  t.pass("bpf(2)", { skip: reason });
} else {
  run(openBpf() as Bpf);
}

function run(bpf: Bpf): void {
  const base = `${BPFFS}/mlprogs${OWN_NAME}`;
  mkdirSync(base);
  t.teardown(() => rmSync(base, { recursive: true }));

  /** A program of some other process's, which stays loaded for the test, and its record as object 1. */
  function program(t: Test, expectedAttachType = 0): { fd: number; record: ProgRecord } {
    const opened = openRealObject(bpf, { kind: "prog", progType: XDP, expectedAttachType });
    if (!("facts" in opened) || opened.facts.kind !== "prog")
      throw new Error(`loading a program: ${JSON.stringify(opened)}`);
    t.teardown(() => bpf.close(opened.fd));
    return { fd: opened.fd, record: { id: 1, ...opened.facts } };
  }

  /** Records of other programs with the id of this one, by the fact that differs. */
  function namesakes(record: ProgRecord): readonly (readonly [name: string, record: ObjectRecord])[] {
    const { tag: _tag, loadTime: _loadTime, boot: _boot, ...older } = record;
    return [
      ["another tag", { ...record, tag: "0011223344556677" }],
      ["another load time", { ...record, loadTime: "1" }],
      ["another boot", { ...record, boot: "00000000-0000-0000-0000-000000000000" }],
      ["no tag, no load time and no boot, as in an older event", older],
    ];
  }

  t.test("a program's facts are what the kernel says of it, in this boot", async (t) => {
    const { fd, record } = program(t);
    const info = readFileSync(`/proc/self/fdinfo/${fd}`, "utf8");
    t.equal(record.tag, /^prog_tag:\t(\w+)$/m.exec(info)?.[1]);
    const upSeconds = Number(readFileSync("/proc/uptime", "utf8").split(" ")[0]);
    t.ok(Math.abs(Number(record.loadTime) / 1e9 - upSeconds) < 60, `${record.loadTime} is just now`);
    t.equal(record.boot, readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim());
  });

  t.test("signals, which interrupt the verifier, keep no program from being loaded", async (t) => {
    process.on("SIGUSR2", () => {});
    const signals = spawn("sh", ["-c", `echo; while kill -USR2 ${process.pid} 2>&-; do :; done`]);
    t.teardown(() => signals.kill("SIGKILL"));
    await once(signals.stdout, "data");
    const answers = Array.from({ length: 5000 }, () => {
      const ret = bpf.loadProgram(XDP, 0, RETURN_0);
      if (ret >= 0) bpf.close(ret);
      return Math.min(ret, 0);
    });
    t.same(
      answers.filter((ret) => ret < 0),
      [],
    );
  });

  t.test("after a restart the program itself is taken up, and none that merely has its id", async (t) => {
    const { record } = program(t);
    const others = namesakes(record).map(([name, other], at) => ({ name, other: { ...other, id: at + 2 } }));
    const objects = new ObjectTable(bpf, DEFAULT_PLACES);
    t.teardown(() => objects.close());
    objects.takeUp([record, ...others.map(({ other }) => other)]);
    t.match(objects.facts(1), { progId: record.progId, tag: record.tag });
    for (const { name, other } of others) t.equal(objects.fd(other.id), undefined, name);
    t.same(objects.ended(), [], "elements stay in the ledger");
  });

  const loopback = u32(1);
  const queue = u32(192);
  const devices = { ...hash, type: BPF_MAP_TYPE_DEVMAP_HASH, mapFlags: BPF_F.BPF_F_RDONLY_PROG };
  const rows: readonly [name: string, map: MapRecord, before: Buffer, attachType: number][] = [
    ["PROG_ARRAY", { ...array, type: BPF_MAP_TYPE_PROG_ARRAY, valueSize: 4 }, Buffer.alloc(0), 0],
    ["DEVMAP_HASH", devices, loopback, BPF_XDP_DEVMAP],
    ["CPUMAP", { ...array, type: BPF_MAP_TYPE_CPUMAP }, queue, BPF_XDP_CPUMAP],
  ];
  for (const [name, map, before, attachType] of rows)
    t.test(`${name}: the kernel's slot stays as it is if the ledger's program is another, or unknown`, async (t) => {
      const { record } = program(t, attachType);
      const root = `${base}/${name.toLowerCase()}`;
      const wanted: MirrorSource = source(map, [{ key: u32(0), value: Buffer.concat([before, u32(1)]) }]);
      /** A start that finds this record of the program in the ledger. */
      const started = (of: ObjectRecord) => {
        const mirror = kernelMirror(t, root);
        mirror.takeUpObjects([of]);
        const refused = driven(mirror).takeUp([wanted], []);
        return { mirror, refused };
      };
      const slot = (): Buffer | number => {
        const fd = bpf.get(`${root}/by_id/${map.id}`);
        const value = Buffer.alloc(map.valueSize);
        const ret = bpf.lookup(fd, u32(0), value);
        bpf.close(fd);
        return ret < 0 ? ret : value;
      };
      const filled = Buffer.concat([before, u32(record.progId)]);
      const first = started(record);
      t.same(first.refused, []);
      t.same(slot(), filled);
      first.mirror.close();
      for (const [what, other] of namesakes(record)) {
        const { mirror, refused } = started(other);
        t.match(refused, [{ errno: "EBADF", detail: /object 1 exists in the ledger only/ }], what);
        t.match(mirror.status(map.id), { state: "failed" });
        const { found } = scanned(mirror, wanted);
        t.match(found, [{ key: u32(0), ledger: null, kernel: filled }]);
        mirror.write(wanted, [u32(0)]);
        driven(mirror).resync(wanted);
        t.same(slot(), filled, "neither emptied nor written over");
        mirror.close();
      }
      const again = started(record);
      t.same(again.refused, []);
      t.same(scanned(again.mirror, wanted), { found: [], untold: null });
      again.mirror.close();
      rmSync(`${root}/by_id/${map.id}`);
      const { mirror, refused } = started(namesakes(record)[2]?.[1] as ObjectRecord);
      t.match(refused, [{ errno: "EBADF" }]);
      t.equal(slot(), NO_ELEMENT, "the program that has the id after a reboot does not get into the slot");
      mirror.close();
    });

  t.test("a program in a PROG_ARRAY is the same one after a restart of the service", async (t) => {
    const ledger = new Ledger(t, "programs");
    await ledger.start();
    const { record } = program(t);
    const session = await ledger.must("POST", "/sessions", { ttl_seconds: 3600 });
    const fds = `/sessions/${session.id}/fds`;
    const shape = { map_type: "BPF_MAP_TYPE_PROG_ARRAY", key_size: 4, value_size: 4, max_entries: 2 };
    const { map_id: map, fd } = await ledger.must("POST", `/sessions/${session.id}/maps`, shape);
    const opened = await ledger.must("POST", fds, { kind: "prog", id: record.progId });
    await ledger.must("PUT", `${fds}/${fd}/elements/${hex(u32(1))}`, { value: hex(u32(opened.fd as number)) });
    const told = { prog_id: record.progId, tag: record.tag, load_time: record.loadTime };
    const check = async (): Promise<void> => {
      const { descriptor } = await ledger.must("GET", `${fds}/${opened.fd}`);
      t.match(descriptor, { object: told });
      t.match(await ledger.must("GET", `/maps/${map}/elements/${hex(u32(1))}`), { value: hex(u32(record.progId)) });
      const { mirror } = (await ledger.must("GET", `/maps/${map}`)) as { mirror: Json };
      t.match(mirror, { state: "on" });
      const kernel = bpf.get(mirror.pinned as string);
      const value = Buffer.alloc(4);
      t.equal(bpf.lookup(kernel, u32(1), value), 0);
      t.same(value, u32(record.progId));
      bpf.close(kernel);
      t.match(await ledger.must("GET", `/maps/${map}/drift`), { missing: 0, changed: 0, extra: 0 });
    };
    await check();
    const object = async (): Promise<unknown> =>
      ((await ledger.must("GET", `${fds}/${opened.fd}`)).descriptor as { object: Json }).object.id;
    const before = await object();
    await ledger.stop();
    await ledger.start();
    await check();
    t.equal(await object(), before);
    const again = await ledger.must("POST", fds, { kind: "prog", id: record.progId });
    const { descriptor } = (await ledger.must("GET", `${fds}/${again.fd}`)) as { descriptor: { object: Json } };
    t.equal(descriptor.object.id, before, "opened again, it is the same object");
    t.same(await ledger.events("MIRROR_REFUSED"), []);
  });
}
