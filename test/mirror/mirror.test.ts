import { mkdirSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import t, { type Test } from "tap";
import { BPF_CMD, BPF_F, BPF_MAP_TYPE } from "../../src/abi/bpf.ts";
import { ERRNO } from "../../src/abi/errno.ts";
import type { ElementChange, MirrorChange, MirrorSource } from "../../src/engine/ports.ts";
import type { MapRecord } from "../../src/maps/map.ts";
import { disabledMirror, type MirrorOptions, openMirror } from "../../src/mirror/mirror.ts";
import { Bpf } from "../../src/native/bpf.ts";
import { openBpf, probe } from "../../src/native/probe.ts";
import { BPFFS, unfitForKernel } from "../support/bpffs.ts";
import { fdinfo } from "../support/fdinfo.ts";
import {
  array,
  type Driven,
  driven,
  gone,
  hash,
  host,
  kernelMirror,
  logEnd,
  put,
  source,
  trie,
  u32,
  u64,
} from "../support/mirror.ts";
import { OWN_NAME } from "../support/own_name.ts";
import { random, SEED } from "../support/seed.ts";

const { BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_QUEUE, BPF_MAP_TYPE_STRUCT_OPS } = BPF_MAP_TYPE;
const { BPF_F_NO_PREALLOC, BPF_F_ZERO_SEED } = BPF_F;

/** What a mirror keeps for itself in its directory. */
const OWN = ["by_id", "carried", "owner", "refused"];

/** A trie's key: 10.1.2.3/8 is prefix(8, 10, 1, 2, 3). */
function prefix(bits: number, ...data: number[]): Buffer {
  return Buffer.concat([u32(bits), Buffer.from(data)]);
}

const reason = unfitForKernel();
if (reason !== null) {
  t.pass("bpf(2)", { skip: reason });
} else {
  run(openBpf() as Bpf);
}

function run(bpf: Bpf): void {
  const base = `${BPFFS}/mltest${OWN_NAME}`;
  mkdirSync(base);
  t.teardown(() => rmSync(base, { recursive: true }));
  let directories = 0;

  /** A directory of bpffs that no other test uses. */
  function directory(): string {
    return `${base}/d${++directories}`;
  }

  function open(test: Test, root: string): Driven {
    return driven(kernelMirror(test, root));
  }

  /** Another process's fd of what is pinned. */
  function opened<T>(path: string, use: (fd: number) => T): T {
    const fd = bpf.get(path);
    if (fd < 0) throw new Error(`opening ${path}: ${fd}`);
    try {
      return use(fd);
    } finally {
      bpf.close(fd);
    }
  }

  /** What the kernel has at a pin, as hex, in the order of the keys: read key by key, unlike the mirror does. */
  function contents(path: string): Record<string, string> {
    return opened(path, (fd) => {
      const info = bpf.infoByFd(fd);
      if (typeof info === "number") throw new Error(`info of ${path}: ${info}`);
      const value = Buffer.alloc(info.valueSize);
      const found: [string, string][] = [];
      let key: Buffer | null = null;
      for (;;) {
        const next: Buffer = Buffer.alloc(info.keySize);
        if (bpf.nextKey(fd, key, next) < 0) break;
        if (bpf.lookup(fd, next, value) === 0) found.push([next.toString("hex"), value.toString("hex")]);
        key = next;
      }
      return Object.fromEntries(found.sort(([a], [b]) => (a < b ? -1 : 1)));
    });
  }

  function expected(changes: readonly ElementChange[]): Record<string, string> {
    const pairs = changes.map(({ key, value }) => [key.toString("hex"), value?.toString("hex") ?? ""] as const);
    return Object.fromEntries(pairs.sort(([a], [b]) => (a < b ? -1 : 1)));
  }

  function idAt(path: string): number {
    return opened(path, (fd) => fdinfo(fd)?.mapId ?? 0);
  }

  function isFrozen(path: string): boolean {
    return opened(path, (fd) => fdinfo(fd)?.frozen === true);
  }

  /** What a BPF program, or anyone else, does to a map behind the mirror's back. */
  function meddle(path: string, changes: readonly ElementChange[]): void {
    opened(path, (fd) => {
      for (const { key, value } of changes) {
        const ret = value === null ? bpf.delete(fd, key) : bpf.update(fd, key, value);
        if (ret < 0) throw new Error(`meddling with ${path}: ${ret}`);
      }
    });
  }

  const optionsFor = (bpffs: string): MirrorOptions => {
    return { mode: "auto", bpffs, data: tmpdir(), openRoots: "", host, machineCpus: 2, maker: () => null };
  };

  t.test("openMirror says why the mirror is off", (t) => {
    const options = optionsFor(directory());
    const never = openMirror({ ...options, mode: "off" });
    t.equal(never.follows, false);
    const detail = "the mirror is switched off by its setting";
    t.equal(never.begin(logEnd()), detail);
    const off = driven(never);
    t.equal(off.off, detail);
    t.same(off.takeUp([source(hash, [put(1, 1)])], []), []);
    t.same(off.apply([{ kind: "create", btf: null, map: hash }]), []);
    t.same(off.resync(source(hash, [])), []);
    t.same(off.status(hash.id), { state: "off", detail });
    off.close();

    const begun = (bpffs: string) => {
      const mirror = openMirror({ ...options, bpffs });
      t.equal(mirror.follows, true);
      t.equal(mirror.off, "the mirror has not begun");
      const why = mirror.begin(logEnd());
      t.equal(mirror.off, why);
      mirror.close();
      return why;
    };
    t.equal(
      begun("/tmp/mapledger/maps"),
      "no bpffs is mounted at /tmp/mapledger/maps: mount -t bpf bpf /tmp/mapledger/maps",
    );
    t.match(begun(`${base}/a.b`), `bpffs refuses names with a dot (EPERM), and ${base}/a.b has a.b`);
    t.equal(begun(directory()), null);
    t.equal(disabledMirror("why").off, "why");
    t.end();
  });

  t.test("openMirror is off without the privilege, and on once there is one", (t) => {
    const mirror = openMirror(optionsFor(directory()));
    t.teardown(() => mirror.close());
    process.seteuid?.(65534);
    try {
      t.match(probe(), "bpf(2) is refused: EPERM: it needs CAP_BPF");
      t.match(mirror.begin(logEnd()), "EPERM");
      t.match(mirror.status(7), { state: "off", detail: /EPERM/ });
    } finally {
      process.seteuid?.(0);
    }
    t.equal(probe(), null);
    t.equal(mirror.begin(logEnd()), null);
    t.equal(mirror.off, null);
    t.end();
  });

  t.test("a directory is one mirror's at a time, and one log's", (t) => {
    const root = directory();
    const first = kernelMirror(t, root);
    t.equal(first.off, null);
    const second = kernelMirror(t, root);
    t.match(second.off, `${root} is held by process ${process.pid}`);
    t.equal(second.owner, null, "it is the same log's");
    driven(second).apply([{ kind: "create", btf: null, map: hash }]);
    t.same(readdirSync(join(root, "by_id")), [], "nothing is written without the directory");
    first.close();
    t.equal(second.begin(logEnd()), null, "it is found again");
    second.close();
    const other = kernelMirror(t, root);
    other.close();
    const id = "00000000-0000-4000-8000-00000000000f";
    t.match(other.begin(logEnd(0, id)), /^.*: the kernel maps follow the log 0{8}-.* take-over/);
    t.match(other.owner, /^log 00000000-0000-4000-8000-000000000001 in /);
    t.equal(
      other.takeOver(logEnd(0, id), () => "the log is full"),
      "the log is full",
    );
    t.not(other.off, null);
    t.equal(
      other.takeOver(logEnd(0, id), () => null),
      null,
    );
    t.equal(other.off, null);
    t.equal(other.owner, null);
    const foreign = directory();
    mkdirSync(join(foreign, "by_id"), { recursive: true });
    t.match(kernelMirror(t, foreign).off, `its pins are not known to be mapledger's`);
    t.same(readdirSync(foreign), ["by_id"]);
    t.end();
  });

  t.test("a log that ends before what kernel maps have, or has another event there, is not followed", (t) => {
    const root = directory();
    const first = kernelMirror(t, root);
    const mirror = driven(first);
    mirror.takeUp([], []);
    mirror.apply([{ kind: "create", btf: null, map: hash }]);
    mirror.apply([{ kind: "elements", map: hash, changes: [put(1, 1)] }]);
    first.identify(logEnd(2));
    mirror.apply([{ kind: "elements", map: hash, changes: [put(2, 2)] }]);
    t.equal(first.carried, 3);
    mirror.close();
    const next = kernelMirror(t, root);
    next.close();
    t.match(next.begin(logEnd(2)), /have come to event 3, and this log ends at event 2/);
    const other = next.begin({ ...logEnd(9), hashOf: () => Buffer.alloc(32, 9) });
    t.match(other, /of another history: its event 2 differs from this log's/);
    t.equal(next.begin(logEnd(3)), null);
    t.equal(next.place(7), 3);
    t.end();
  });

  t.test("create, update and delete reach the kernel map that is pinned by id", (t) => {
    const root = directory();
    const mirror = open(t, root);
    const byId = join(root, "by_id/7");
    t.match(mirror.status(7), { state: "off" });
    t.same(mirror.apply([{ kind: "create", btf: null, map: hash }]), []);
    t.match(mirror.status(7), { state: "on", kernelId: idAt(byId), pinned: byId });
    t.match(
      opened(byId, (fd) => bpf.infoByFd(fd)),
      { type: BPF_MAP_TYPE_HASH, keySize: 4, valueSize: 8, maxEntries: 64, mapFlags: 0, name: "routes" },
    );
    t.same(mirror.apply([{ kind: "elements", map: hash, changes: [put(1, 10)] }]), []);
    t.same(contents(byId), expected([put(1, 10)]));
    const mixed = [put(2, 20), put(3, 30), gone(1), gone(2), put(4, 40), gone(3), put(1, 11), put(1, 12)];
    t.same(mirror.apply([{ kind: "elements", map: hash, changes: mixed }]), []);
    t.same(contents(byId), expected([put(1, 12), put(4, 40)]));
    t.same(mirror.apply([{ kind: "elements", map: hash, changes: [gone(1)] }]), []);
    t.same(contents(byId), expected([put(4, 40)]));
    t.end();
  });

  t.test("deleting what a program has deleted is no refusal", (t) => {
    const root = directory();
    const mirror = open(t, root);
    const all = [put(1, 1), put(2, 2), put(3, 3), put(4, 4)];
    mirror.apply([
      { kind: "create", btf: null, map: hash },
      { kind: "elements", map: hash, changes: all },
    ]);
    meddle(join(root, "by_id/7"), [gone(2), gone(4)]);
    t.same(mirror.apply([{ kind: "elements", map: hash, changes: [gone(4)] }]), []);
    t.same(mirror.apply([{ kind: "elements", map: hash, changes: [gone(1), gone(2), gone(3)] }]), []);
    t.same(contents(join(root, "by_id/7")), {});
    t.match(mirror.status(7), { state: "on" });
    t.end();
  });

  t.test("apply keeps the order of changes, so that a full map has room where the state had it", (t) => {
    const root = directory();
    const mirror = open(t, root);
    const small = { ...hash, maxEntries: 2 };
    const changes = [put(1, 1), put(2, 2), gone(1), put(3, 3), gone(2), put(1, 9)];
    const refusals = mirror.apply([
      { kind: "create", btf: null, map: small },
      { kind: "elements", map: small, changes },
    ]);
    t.same(refusals, []);
    t.same(contents(join(root, "by_id/7")), expected([put(1, 9), put(3, 3)]));
    t.end();
  });

  t.test("10,000 elements are written, replaced and deleted in batches", (t) => {
    const root = directory();
    const mirror = open(t, root);
    const large = { ...hash, maxEntries: 10_000 };
    const keys = Array.from({ length: 10_000 }, (_, key) => key);
    mirror.apply([{ kind: "create", btf: null, map: large }]);
    t.same(mirror.apply([{ kind: "elements", map: large, changes: keys.map((key) => put(key, key)) }]), []);
    t.same(contents(join(root, "by_id/7")), expected(keys.map((key) => put(key, key))));
    t.same(mirror.apply([{ kind: "elements", map: large, changes: keys.map((key) => put(key, 1)) }]), []);
    t.same(contents(join(root, "by_id/7")), expected(keys.map((key) => put(key, 1))));
    t.same(mirror.apply([{ kind: "elements", map: large, changes: keys.slice(1).map(gone) }]), []);
    t.same(contents(join(root, "by_id/7")), expected([put(0, 1)]));
    t.end();
  });

  t.test("values larger than the slots are carried, singly and in batches", (t) => {
    const root = directory();
    const mirror = open(t, root);
    const wide = { ...hash, valueSize: 100_000 };
    const change = (key: number) => ({ key: u32(key), value: Buffer.alloc(100_000, key) });
    mirror.apply([{ kind: "create", btf: null, map: wide }]);
    t.same(mirror.apply([{ kind: "elements", map: wide, changes: [change(1)] }]), []);
    const many = Array.from({ length: 60 }, (_, key) => change(key + 2));
    t.same(mirror.apply([{ kind: "elements", map: wide, changes: many }]), []);
    t.same(contents(join(root, "by_id/7")), expected([change(1), ...many]));
    t.end();
  });

  t.test("BPF_MAP_TYPE_ARRAY is mirrored, and its unwritten indices are zeros", (t) => {
    const root = directory();
    const first = open(t, root);
    first.apply([
      { kind: "create", btf: null, map: array },
      { kind: "elements", map: array, changes: [put(1, 10), put(4, 40)] },
    ]);
    first.close();
    meddle(join(root, "by_id/8"), [put(0, 5), put(1, 11), put(3, 33)]);
    const mirror = open(t, root);
    const id = idAt(join(root, "by_id/8"));
    t.same(mirror.takeUp([source(array, [put(1, 10), put(4, 40)])], []), []);
    t.same(
      contents(join(root, "by_id/8")),
      expected([put(0, 0), put(1, 10), put(2, 0), put(3, 0), put(4, 40)]),
      "strays are zeros again",
    );
    t.match(mirror.status(8), { state: "on", kernelId: id }, "in place");
    t.end();
  });

  t.test("BPF_MAP_TYPE_LPM_TRIE is mirrored, bits behind the prefix included", (t) => {
    const root = directory();
    const first = open(t, root);
    const elements = [
      { key: prefix(0, 0, 0, 0, 0), value: u64(1) },
      { key: prefix(8, 10, 0, 0, 0), value: u64(2) },
      { key: prefix(9, 10, 128, 7, 0), value: u64(3) },
      { key: prefix(24, 10, 1, 2, 0), value: u64(4) },
      { key: prefix(32, 10, 1, 2, 3), value: u64(5) },
    ];
    t.same(
      first.apply([
        { kind: "create", btf: null, map: trie },
        { kind: "elements", map: trie, changes: elements },
        { kind: "elements", map: trie, changes: elements.slice(3).map(({ key }) => ({ key, value: null })) },
        { kind: "elements", map: trie, changes: elements.slice(3) },
      ]),
      [],
    );
    t.same(contents(join(root, "by_id/9")), expected(elements));
    first.close();
    meddle(join(root, "by_id/9"), [
      { key: prefix(8, 10, 9, 9, 9), value: u64(2) },
      { key: prefix(9, 10, 255, 0, 0), value: u64(33) },
      { key: prefix(16, 10, 2, 0, 0), value: u64(6) },
    ]);
    const mirror = open(t, root);
    const id = idAt(join(root, "by_id/9"));
    t.same(mirror.takeUp([source(trie, elements)], []), []);
    t.same(contents(join(root, "by_id/9")), expected(elements));
    t.match(mirror.status(9), { state: "on", kernelId: id });
    t.end();
  });

  t.test("types without a row, and exclusive maps, are off", (t) => {
    const mirror = open(t, directory());
    const ops = { ...hash, type: BPF_MAP_TYPE_STRUCT_OPS };
    const exclusive = { ...hash, id: 70, exclusive: true };
    t.same(
      mirror.apply([
        { kind: "create", btf: null, map: ops },
        { kind: "create", btf: null, map: exclusive },
        { kind: "elements", map: ops, changes: [put(1, 1)] },
        { kind: "freeze", map: ops },
        { kind: "pin", map: ops, pathname: "/sys/fs/bpf/q" },
        { kind: "unpin", pathname: "/sys/fs/bpf/q" },
      ]),
      [],
    );
    t.match(mirror.status(7), { state: "off", detail: /^a struct_ops is not mirrored/ });
    t.match(mirror.status(70), { state: "off", detail: "a map with excl_prog_hash is not mirrored" });
    t.same(mirror.resync(source(ops, [])), []);
    t.match(mirror.status(7), { state: "off" });
    t.same(mirror.apply([{ kind: "free", map: ops }]), []);
    t.end();
  });

  t.test("freeze reaches the kernel map", (t) => {
    const root = directory();
    const mirror = open(t, root);
    mirror.apply([
      { kind: "create", btf: null, map: hash },
      { kind: "elements", map: hash, changes: [put(1, 1)] },
    ]);
    t.equal(isFrozen(join(root, "by_id/7")), false);
    t.same(mirror.apply([{ kind: "freeze", map: { ...hash, frozen: true } }]), []);
    t.equal(isFrozen(join(root, "by_id/7")), true);
    t.end();
  });

  t.test("free takes the pin and the kernel map away", (t) => {
    const root = directory();
    const mirror = open(t, root);
    mirror.apply([{ kind: "create", btf: null, map: hash }]);
    const id = idAt(join(root, "by_id/7"));
    t.same(mirror.apply([{ kind: "free", map: hash }]), []);
    t.same(readdirSync(join(root, "by_id")), []);
    t.equal(bpf.mapFdById(id), -ERRNO.ENOENT);
    t.match(mirror.status(7), { state: "off" });
    t.end();
  });

  t.test("pins and directories are mirrored below the directory of bpffs", (t) => {
    const root = directory();
    const mirror = open(t, root);
    t.same(
      mirror.apply([
        { kind: "create", btf: null, map: hash },
        { kind: "pin", map: hash, pathname: "/sys/fs/bpf/flat" },
        { kind: "mkdir", pathname: "/sys/fs/bpf/tc" },
        { kind: "mkdir", pathname: "/sys/fs/bpf/tc/globals" },
        { kind: "pin", map: hash, pathname: "/sys/fs/bpf/tc/globals/routes" },
      ]),
      [],
    );
    const id = idAt(join(root, "by_id/7"));
    t.equal(idAt(join(root, "flat")), id);
    t.equal(idAt(join(root, "tc/globals/routes")), id);
    const again = [
      { kind: "pin", map: hash, pathname: "/sys/fs/bpf/flat" },
      { kind: "mkdir", pathname: "/sys/fs/bpf/tc" },
    ] as const;
    t.same(mirror.apply(again), [], "what is there already is as good");
    const absent = [
      { kind: "unpin", pathname: "/sys/fs/bpf/flat" },
      { kind: "unpin", pathname: "/sys/fs/bpf/tc/globals/routes" },
      { kind: "rmdir", pathname: "/sys/fs/bpf/tc/globals" },
      { kind: "rmdir", pathname: "/sys/fs/bpf/tc" },
    ] as const;
    t.same(mirror.apply(absent), []);
    t.same(readdirSync(root).sort(), OWN);
    t.same(mirror.apply(absent), [], "what is gone already is as good");
    t.end();
  });

  t.test("pins and directories that the kernel refuses are told, and the map goes on", (t) => {
    const root = directory();
    const mirror = open(t, root);
    mirror.apply([
      { kind: "create", btf: null, map: hash },
      { kind: "create", btf: null, map: { ...hash, id: 71 } },
    ]);
    mkdirSync(join(root, "busy/by"), { recursive: true });
    const pin = (pathname: string) => mirror.apply([{ kind: "pin", map: hash, pathname }])[0];
    const attempted = (what: string) => ({ mapId: 7, operation: "BPF_OBJ_PIN", detail: what });
    t.match(pin("/sys/fs/bpf/busy"), attempted(`pinning at ${root}/busy: EEXIST`));
    t.match(mirror.status(7), { state: "failed", errno: "EEXIST", operation: "BPF_OBJ_PIN" });
    t.match(pin("/sys/fs/bpf/no/such"), attempted(`pinning at ${root}/no/such: ENOENT`));
    t.match(pin("/sys/fs/bpf/owner"), attempted("pinning at /sys/fs/bpf/owner: EEXIST"));
    t.match(pin("/sys/fs/bpf/../x"), attempted("pinning at /sys/fs/bpf/../x: EPERM"));
    t.equal(pin("/etc/passwd"), undefined, "the same errno again is not told again");
    t.match(pin("/sys/fs/bpf/by_id/71"), attempted("pinning at /sys/fs/bpf/by_id/71: EEXIST"));
    t.match(
      mirror.apply([
        { kind: "mkdir", pathname: "/sys/fs/bpf/by_id" },
        { kind: "rmdir", pathname: "/sys/fs/bpf/busy" },
        { kind: "unpin", pathname: "/sys/fs/bpf/busy" },
      ]),
      [{ mapId: 0, operation: "mkdir", errno: "EEXIST" }],
    );
    t.same(readdirSync(join(root, "busy")), ["by"], "what others have made there is neither told nor removed");
    mirror.apply([{ kind: "elements", map: hash, changes: [put(1, 1)] }]);
    t.same(contents(join(root, "by_id/7")), expected([put(1, 1)]));
    t.same(mirror.resync(source(hash, [put(1, 1)], "/sys/fs/bpf/busy", "/sys/fs/bpf/no/such")), []);
    t.match(mirror.status(7), { state: "on" });
    t.equal(idAt(join(root, "no/such")), idAt(join(root, "by_id/7")));
    t.same(readdirSync(join(root, "busy")), ["by"]);
    t.end();
  });

  t.test("adopt takes up what an earlier start has left", (t) => {
    const root = directory();
    const elements = [put(1, 1), put(2, 2)];
    const first = open(t, root);
    first.apply([
      { kind: "create", btf: null, map: hash },
      { kind: "elements", map: hash, changes: elements },
      { kind: "mkdir", pathname: "/sys/fs/bpf/tc" },
      { kind: "pin", map: hash, pathname: "/sys/fs/bpf/tc/routes" },
    ]);
    const before = first.status(7);
    first.close();
    t.same(contents(join(root, "by_id/7")), expected(elements), "close leaves kernel maps and pins");
    const mirror = open(t, root);
    t.same(mirror.takeUp([source(hash, elements, "/sys/fs/bpf/tc/routes")], ["/sys/fs/bpf", "/sys/fs/bpf/tc"]), []);
    t.same(mirror.status(7), before, "it is the same kernel map");
    t.same(mirror.apply([{ kind: "elements", map: hash, changes: [put(3, 3), put(4, 4)] }]), []);
    t.same(contents(join(root, "tc/routes")), expected([...elements, put(3, 3), put(4, 4)]));
    t.end();
  });

  t.test("adopt repairs what differs in place, the missing before the strays", (t) => {
    const root = directory();
    const first = open(t, root);
    first.apply([{ kind: "create", btf: null, map: hash }]);
    first.close();
    meddle(join(root, "by_id/7"), [put(1, 1), put(2, 99), put(50, 50), put(51, 51)]);
    const id = idAt(join(root, "by_id/7"));

    const spied = openBpf() as Bpf;
    const calls: string[] = [];
    const { update, updateBatch } = Bpf.prototype;
    spied.update = (...args) => {
      if (args[2].length === hash.valueSize) {
        calls.push(`update ${args[1]?.readUInt32LE(0)}`);
        const there = Object.keys(contents(join(root, "by_id/7")));
        if (calls.length === 1) t.same(there.length, 4, "no stray is gone before");
      }
      return update.apply(spied, args);
    };
    spied.updateBatch = (...args) => {
      calls.push(`update a batch of ${args[3]}`);
      return updateBatch.apply(spied, args);
    };
    const mirror = driven(kernelMirror(t, root, { bpf: spied }));
    const elements = [put(1, 1), put(2, 2), put(3, 3)];
    t.same(mirror.takeUp([source(hash, elements)], []), []);
    t.same(calls, ["update 3", "update 2"]);
    t.same(contents(join(root, "by_id/7")), expected(elements));
    t.match(mirror.status(7), { state: "on", kernelId: id });
    t.same(mirror.resync(source(hash, elements)), []);
    t.equal(calls.length, 2, "what is equal is left alone");
    t.end();
  });

  t.test("adopt repairs in place where strays have filled the map", (t) => {
    const root = directory();
    const first = open(t, root);
    const small = { ...hash, maxEntries: 3 };
    first.apply([{ kind: "create", btf: null, map: small }]);
    first.close();
    meddle(join(root, "by_id/7"), [put(50, 50), put(51, 51), put(1, 99)]);
    const id = idAt(join(root, "by_id/7"));
    const mirror = open(t, root);
    t.same(mirror.takeUp([source(small, [put(1, 1), put(2, 2), put(3, 3)])], []), []);
    t.same(contents(join(root, "by_id/7")), expected([put(1, 1), put(2, 2), put(3, 3)]));
    t.match(mirror.status(7), { state: "on", kernelId: id });
    t.end();
  });

  t.test("what stays busy holds up a command, not each of its elements", (t) => {
    const spied = openBpf() as Bpf;
    let calls = 0;
    spied.updateBatch = () => -ERRNO.ENOTSUPP;
    const { update } = Bpf.prototype;
    spied.update = (...args) => {
      if (args[2].length !== hash.valueSize) return update.apply(spied, args);
      calls++;
      return -ERRNO.EBUSY;
    };
    const mirror = driven(kernelMirror(t, directory(), { bpf: spied }));
    mirror.apply([{ kind: "create", btf: null, map: hash }]);
    const changes = Array.from({ length: 50 }, (_, at) => put(at, at));
    t.match(mirror.apply([{ kind: "elements", map: hash, changes }]), [{ errno: "EBUSY" }]);
    t.equal(calls, 150, "a hundred more than there are elements");
    t.end();
  });

  t.test("adopt makes what is missing, with contents, pins and directories", (t) => {
    const root = directory();
    const mirror = open(t, root);
    const frozen = { ...array, frozen: true };
    const refusals = mirror.takeUp(
      [
        source(hash, [put(1, 1), put(2, 2)], "/sys/fs/bpf/tc/globals/routes", "/sys/fs/bpf/flat"),
        source(frozen, [put(2, 2)]),
        source({ ...hash, id: 72, type: BPF_MAP_TYPE_STRUCT_OPS }, [], "/sys/fs/bpf/ops"),
      ],
      ["/sys/fs/bpf/tc", "/sys/fs/bpf/tc/globals", "/sys/fs/bpf/empty"],
    );
    t.same(refusals, []);
    t.same(contents(join(root, "tc/globals/routes")), expected([put(1, 1), put(2, 2)]));
    t.equal(idAt(join(root, "flat")), idAt(join(root, "by_id/7")));
    t.equal(isFrozen(join(root, "by_id/8")), true);
    t.same(contents(join(root, "by_id/8"))["02000000"], "0200000000000000");
    t.same(readdirSync(root).sort(), [...OWN, "empty", "flat", "tc"].sort());
    t.end();
  });

  t.test("a kernel map of another definition is left, with its pins, until it is recreated", (t) => {
    const root = directory();
    const byId = join(root, "by_id/7");
    const definitions: [Partial<MapRecord>, string][] = [
      [{ keySize: 8 }, "key_size is 8, not 4"],
      [{ valueSize: 16 }, "value_size is 16, not 8"],
      [{ maxEntries: 65 }, "max_entries is 65, not 64"],
      [{ mapFlags: BPF_F_NO_PREALLOC }, "map_flags is 1, not 0"],
      [{ name: "other" }, "map_name is other, not routes"],
      [{ type: BPF_MAP_TYPE_ARRAY }, "map_type is 2, not 1"],
    ];
    for (const [definition, why] of definitions) {
      const first = open(t, root);
      const old = { ...hash, ...definition };
      const element = { key: Buffer.alloc(old.keySize), value: Buffer.alloc(old.valueSize, 7) };
      first.takeUp([source(old, [element], "/sys/fs/bpf/p")], []);
      const id = idAt(byId);
      const held = contents(byId);
      first.close();
      const mirror = open(t, root);
      const from = source(hash, [put(1, 1)], "/sys/fs/bpf/p");
      const detail = `what is pinned at ${byId} is not this map's: kernel map ${id}, whose ${why}; it is left as it is`;
      const refused = { operation: "BPF_OBJ_GET", errno: "EEXIST", detail };
      t.same(mirror.takeUp([from], []), [{ mapId: 7, ...refused }]);
      t.same(mirror.status(7), { state: "failed", ...refused });
      mirror.apply([{ kind: "elements", map: hash, changes: [put(2, 2)] }]);
      t.same(mirror.retry(from).repaired, []);
      t.same(mirror.resync(from), [{ mapId: 7, ...refused }], "neither does a resync");
      t.equal(idAt(byId), id, why);
      t.equal(idAt(join(root, "p")), id);
      t.same(contents(byId), held);
      t.same(mirror.recreate(from), []);
      t.not(idAt(byId), id);
      t.equal(idAt(join(root, "p")), idAt(byId));
      t.same(contents(join(root, "p")), expected([put(1, 1)]));
      t.match(mirror.status(7), { state: "on", kernelId: idAt(byId), equal: "yes" });
      t.equal(idAt(join(root, "aside/7")), id, "that was not known to be ours, so it is kept");
      rmSync(join(root, "aside"), { recursive: true });
      mirror.apply([
        { kind: "free", map: hash },
        { kind: "unpin", pathname: "/sys/fs/bpf/p" },
      ]);
      rmSync(join(root, "p"), { force: true });
      mirror.close();
    }
    t.same(readdirSync(join(root, "by_id")), []);
    t.end();
  });

  t.test("a kernel map that the mirror had open is gone when it is recreated", (t) => {
    const root = directory();
    const mirror = open(t, root);
    mirror.takeUp([source(hash, [put(1, 1)], "/sys/fs/bpf/p")], []);
    const id = idAt(join(root, "by_id/7"));
    meddle(join(root, "p"), [put(1, 9)]);
    t.same(mirror.recreate(source(hash, [put(1, 1)], "/sys/fs/bpf/p")), []);
    t.equal(bpf.mapFdById(id), -ERRNO.ENOENT);
    t.equal(idAt(join(root, "p")), idAt(join(root, "by_id/7")));
    t.same(contents(join(root, "p")), expected([put(1, 1)]));
    t.same(readdirSync(root).sort(), [...OWN, "p"].sort());
    t.end();
  });

  t.test("a frozen kernel map is taken up, and never replaced, whatever it has", (t) => {
    const root = directory();
    const byId = join(root, "by_id/7");
    const frozen = { ...hash, frozen: true };
    const elements = [put(1, 1), put(2, 2)];
    const start = (from: MirrorSource) => {
      const mirror = open(t, root);
      const refusals = mirror.takeUp([from], []);
      mirror.close();
      return refusals.map(({ operation, errno }) => `${operation} ${errno}`);
    };
    t.same(start(source(frozen, elements, "/sys/fs/bpf/p")), []);
    const id = idAt(byId);
    t.same(start(source(frozen, elements, "/sys/fs/bpf/p")), []);
    t.equal(idAt(byId), id);
    t.same(start(source(frozen, [put(1, 1), put(2, 3)], "/sys/fs/bpf/p")), ["BPF_MAP_UPDATE_ELEM EPERM"]);
    t.equal(idAt(byId), id);
    t.equal(idAt(join(root, "p")), id);
    t.same(contents(byId), expected(elements));
    const mirror = open(t, root);
    mirror.takeUp([source(hash, elements)], []);
    const detail = `kernel map ${id} was frozen by somebody else: nothing can be written to it`;
    const failed = { state: "failed", operation: "BPF_MAP_FREEZE", errno: "EPERM", detail, kernelId: id };
    t.same(mirror.status(7), failed, "the state's is not frozen");
    t.same(mirror.recreate(source(hash, elements)), []);
    t.notOk(isFrozen(byId));
    t.end();
  });

  t.test("a kernel map that should be frozen is repaired, then frozen", (t) => {
    const root = directory();
    const byId = join(root, "by_id/7");
    const first = open(t, root);
    first.takeUp([source(hash, [put(1, 2), put(3, 3)])], []);
    const id = idAt(byId);
    first.close();
    const mirror = open(t, root);
    t.same(mirror.takeUp([source({ ...hash, frozen: true }, [put(1, 1)])], []), []);
    t.equal(idAt(byId), id);
    t.same(contents(byId), expected([put(1, 1)]));
    t.ok(isFrozen(byId));
    t.match(mirror.status(7), { state: "on", equal: "yes" });
    t.end();
  });

  t.test("a kernel map with refused writes is frozen once they have been made", (t) => {
    const root = directory();
    const byId = join(root, "by_id/7");
    let nowMs = 0;
    const mirror = driven(kernelMirror(t, root, { nowMs: () => nowMs }));
    const small = { ...hash, maxEntries: 2 };
    mirror.apply([{ kind: "create", btf: null, map: small }]);
    meddle(byId, [put(51, 0), put(52, 0)]);
    const changes = [put(1, 1), put(2, 2)];
    const frozen = { ...small, frozen: true };
    t.match(
      mirror.apply([
        { kind: "elements", map: small, changes },
        { kind: "freeze", map: frozen },
      ]),
      [{ errno: "E2BIG" }],
    );
    t.notOk(isFrozen(byId));
    meddle(byId, [gone(51), gone(52)]);
    nowMs = 1000;
    t.match(mirror.retry(source(frozen, changes)), { repaired: [7], refusals: [] });
    t.match(mirror.status(7), { state: "on" }, "it was the ledger that froze it");
    t.same(contents(byId), expected(changes));
    t.ok(isFrozen(byId));
    t.end();
  });

  t.test("pins are made where nothing is, and what is there stays, whosever it is", (t) => {
    const root = directory();
    const first = open(t, root);
    const other = { ...hash, id: 73 };
    first.takeUp(
      [
        source(hash, [], "/sys/fs/bpf/a", "/sys/fs/bpf/old/deep/pin", "/sys/fs/bpf/tc/b"),
        source(other, [], "/sys/fs/bpf/wrong"),
      ],
      ["/sys/fs/bpf/file"],
    );
    const id = idAt(join(root, "by_id/7"));
    const foreign = bpf.create(hash);
    t.teardown(() => bpf.close(foreign));
    mkdirSync(join(root, "theirs"));
    bpf.pin(foreign, join(root, "theirs/pin"));
    rmSync(join(root, "tc/b"));
    bpf.pin(foreign, join(root, "tc/b"));
    first.close();
    let nowMs = 0;
    const kernel = kernelMirror(t, root, { nowMs: () => nowMs });
    const mirror = driven(kernel);
    const sources = [
      source(
        hash,
        [],
        "/sys/fs/bpf/a",
        "/sys/fs/bpf/wrong",
        "/sys/fs/bpf/file",
        "/sys/fs/bpf/tc/b",
        "/sys/fs/bpf/dir/c",
      ),
      source(other, []),
    ];
    t.same(mirror.takeUp(sources, ["/sys/fs/bpf/dir", "/sys/fs/bpf/tc"]), []);
    for (const path of ["a", "dir/c", "by_id/7", "old/deep/pin"]) t.equal(idAt(join(root, path)), id, path);
    t.equal(idAt(join(root, "wrong")), idAt(join(root, "by_id/73")));
    t.equal(idAt(join(root, "tc/b")), fdinfo(foreign)?.mapId);
    t.equal(idAt(join(root, "theirs/pin")), fdinfo(foreign)?.mapId);
    t.same(readdirSync(join(root, "file")), []);
    nowMs = 1000;
    const { found } = kernel.watch(() => sources);
    const told = ["wrong", "file", "tc/b"].map((name) => ({ mapId: 7, what: "pin replaced", path: join(root, name) }));
    t.match(found, told, "each is told");
    t.match(mirror.status(7), {
      state: "on",
      detail: new RegExp(`${root}/tc/b names kernel map ${fdinfo(foreign)?.mapId} now`),
    });
    nowMs = 2000;
    t.same(kernel.watch(() => sources).found, [], "once");
    t.end();
  });

  t.test("stale pins go if they are ours and the state has not had them since", (t) => {
    const root = directory();
    const first = open(t, root);
    const other = { ...hash, id: 73 };
    first.takeUp(
      [source(hash, [], "/sys/fs/bpf/a", "/sys/fs/bpf/b"), source(other, [], "/sys/fs/bpf/c", "/sys/fs/bpf/d")],
      [],
    );
    const stale = idAt(join(root, "by_id/73"));
    const foreign = bpf.create(hash);
    t.teardown(() => bpf.close(foreign));
    for (const name of ["b", "d"]) {
      rmSync(join(root, name));
      bpf.pin(foreign, join(root, name));
    }
    first.close();
    const kernel = kernelMirror(t, root);
    t.same(driven(kernel).takeUp([source(hash, [])], []), []);
    const pins = ["a", "b"].map((name) => ({ pathname: `/sys/fs/bpf/${name}`, map: 7 }));
    const others = ["c", "d", "gone"].map((name) => ({ pathname: `/sys/fs/bpf/${name}`, map: 73 }));
    t.same(kernel.dropStale(new Set([73, 74]), [...pins, ...others]), []);
    t.same(readdirSync(root).sort(), [...OWN, "b", "d"].sort());
    t.same(readdirSync(join(root, "by_id")), ["7"]);
    t.equal(idAt(join(root, "b")), fdinfo(foreign)?.mapId);
    t.equal(idAt(join(root, "d")), fdinfo(foreign)?.mapId);
    t.equal(bpf.mapFdById(stale), -ERRNO.ENOENT);
    t.end();
  });

  t.test("a create that the kernel refuses is told once, and resync makes the map", (t) => {
    const root = directory();
    const mirror = open(t, root);
    const impossible = { ...hash, keySize: 0 };
    const changes: MirrorChange[] = [
      { kind: "create", btf: null, map: impossible },
      { kind: "elements", map: impossible, changes: [put(1, 1)] },
      { kind: "freeze", map: impossible },
      { kind: "pin", map: impossible, pathname: "/sys/fs/bpf/p" },
    ];
    const refused = { operation: "BPF_MAP_CREATE", errno: "EINVAL", detail: "creating the kernel map: EINVAL" };
    t.same(mirror.apply(changes), [{ mapId: 7, ...refused }]);
    t.same(mirror.status(7), { state: "failed", ...refused });
    t.same(mirror.apply(changes.slice(1)), []);
    t.same(mirror.resync(source(impossible, [])), [{ mapId: 7, ...refused }], "resync tells again");
    t.match(mirror.status(7), { state: "failed" });
    t.same(mirror.resync(source(hash, [put(1, 1)], "/sys/fs/bpf/p")), []);
    t.match(mirror.status(7), { state: "on", kernelId: idAt(join(root, "p")) });
    t.same(contents(join(root, "by_id/7")), expected([put(1, 1)]));
    mirror.apply([{ kind: "create", btf: null, map: { ...impossible, id: 74 } }]);
    t.same(mirror.apply([{ kind: "free", map: { ...impossible, id: 74 } }]), [], "free of a failed map");
    t.end();
  });

  t.test("elements that a map filled by programs refuses make it fail until resync", (t) => {
    const root = directory();
    const mirror = open(t, root);
    const small = { ...hash, maxEntries: 4 };
    const write = (...changes: ElementChange[]) => mirror.apply([{ kind: "elements", map: small, changes }]);
    mirror.apply([{ kind: "create", btf: null, map: small }]);
    write(put(1, 1));
    meddle(join(root, "by_id/7"), [put(51, 0), put(52, 0), put(53, 0)]);
    const detail = "updating element 02000000 of the kernel map: E2BIG";
    const refused = { operation: "BPF_MAP_UPDATE_ELEM", errno: "E2BIG", detail };
    t.same(write(put(2, 2), put(1, 11), put(3, 3)), [{ mapId: 7, ...refused }]);
    const { kernelId } = mirror.status(7) as { kernelId: number };
    t.same(mirror.status(7), { state: "failed", ...refused, kernelId: idAt(join(root, "by_id/7")) });
    t.same(
      contents(join(root, "by_id/7"))["01000000"],
      "0b00000000000000",
      "changes behind the refused one are carried",
    );
    t.same(write(put(4, 4)), [], "more of the same is not told again");
    t.same(write(gone(1)), []);
    t.same(mirror.resync(source(small, [put(2, 2), put(3, 3), put(4, 4)])), []);
    t.match(mirror.status(7), { state: "on", kernelId });
    t.same(contents(join(root, "by_id/7")), expected([put(2, 2), put(3, 3), put(4, 4)]));
    t.end();
  });

  t.test("resync puts the pin by id right, and leaves a map that someone has frozen", (t) => {
    const root = directory();
    const mirror = open(t, root);
    mirror.takeUp([source(hash, [put(1, 1)], "/sys/fs/bpf/p")], []);
    const { kernelId } = mirror.status(7) as { kernelId: number };
    rmSync(join(root, "by_id/7"));
    t.same(mirror.resync(source(hash, [put(1, 1)], "/sys/fs/bpf/p")), []);
    t.equal(idAt(join(root, "by_id/7")), kernelId);
    opened(join(root, "p"), (fd) => bpf.freeze(fd));
    const refused = { operation: "BPF_MAP_UPDATE_ELEM", errno: "EPERM" };
    t.match(mirror.apply([{ kind: "elements", map: hash, changes: [put(2, 2), put(3, 3)] }]), [refused]);
    t.match(mirror.status(7), { state: "failed", errno: "EPERM" });
    const from = source(hash, [put(1, 1), put(2, 2), put(3, 3)], "/sys/fs/bpf/p");
    t.match(mirror.resync(from), [refused]);
    t.match(mirror.status(7), { state: "failed", errno: "EPERM", kernelId });
    t.equal(idAt(join(root, "p")), kernelId);
    t.same(contents(join(root, "p")), expected([put(1, 1)]));
    t.same(mirror.recreate(from), []);
    t.not(idAt(join(root, "p")), kernelId);
    t.equal(bpf.mapFdById(kernelId), -ERRNO.ENOENT);
    t.same(contents(join(root, "p")), expected([put(1, 1), put(2, 2), put(3, 3)]));
    t.end();
  });

  t.test("a kernel without batches is served one command an element", (t) => {
    const root = directory();
    const old = openBpf() as Bpf;
    let asked = 0;
    const unsupported = () => {
      asked++;
      return -ERRNO.ENOTSUPP;
    };
    Object.assign(old, { updateBatch: unsupported, deleteBatch: unsupported, lookupBatch: unsupported });
    const mirror = driven(kernelMirror(t, root, { bpf: old }));
    const refusals = mirror.apply([
      { kind: "create", btf: null, map: hash },
      { kind: "elements", map: hash, changes: [put(1, 1), put(2, 2), put(3, 3), gone(1), gone(3)] },
    ]);
    t.same(refusals, []);
    t.equal(asked, 1, "it is asked once");
    t.same(contents(join(root, "by_id/7")), expected([put(2, 2)]));
    meddle(join(root, "by_id/7"), [put(2, 9), put(50, 50), put(51, 51)]);
    t.same(mirror.resync(source(hash, [put(1, 1), put(2, 2)])), []);
    t.same(contents(join(root, "by_id/7")), expected([put(1, 1), put(2, 2)]));
    t.end();
  });

  t.test("buckets that are larger than the room for a batch are read all the same", (t) => {
    const root = directory();
    const mirror = open(t, root);
    const valueSize = 2 * 1024 * 1024;
    const wide = { ...hash, valueSize, maxEntries: 8, mapFlags: BPF_F_NO_PREALLOC | BPF_F_ZERO_SEED };
    const elements = Array.from({ length: 8 }, (_, key) => ({ key: u32(key), value: Buffer.alloc(valueSize, key) }));
    t.same(mirror.resync(source(wide, elements)), []);
    meddle(join(root, "by_id/7"), [{ key: u32(5), value: Buffer.alloc(valueSize, 77) }]);
    const { kernelId } = mirror.status(7) as { kernelId: number };
    t.same(mirror.resync(source(wide, elements)), []);
    t.same(contents(join(root, "by_id/7"))["05000000"]?.slice(-4), "0505");
    t.match(mirror.status(7), { state: "on", kernelId });
    t.end();
  });

  t.test("maps that are larger than a batch are read and filled in pages", (t) => {
    const root = directory();
    const mirror = open(t, root);
    const valueSize = 100_000;
    const keys = Array.from({ length: 100 }, (_, key) => key);
    for (const map of [hash, array, trie]) {
      const wide = { ...map, valueSize, maxEntries: 100 };
      const key = (of: number) => (map === trie ? prefix(32, 10, 0, 0, of) : u32(of));
      const elements = keys.map((of) => ({ key: key(of), value: Buffer.alloc(valueSize, of) }));
      t.same(mirror.resync(source(wide, elements)), []);
      const byId = join(root, "by_id", String(map.id));
      t.same(contents(byId), expected(elements));
      meddle(
        byId,
        [3, 50, 99].map((of) => ({ key: key(of), value: Buffer.alloc(valueSize, 255) })),
      );
      const before = mirror.status(map.id);
      t.same(mirror.resync(source(wide, elements)), []);
      t.same(contents(byId), expected(elements));
      t.same(mirror.status(map.id), before);
    }
    t.end();
  });

  t.test("the mirror is the state after any changes, meddling and restarts", (t) => {
    t.comment(`SEED=${SEED}`);
    const roll = random(SEED);
    const root = directory();
    let mirror = open(t, root);
    const small = { ...hash, maxEntries: 16 };
    const model = new Map<number, ElementChange>();
    const entries = () => [...model.values()];
    mirror.apply([{ kind: "create", btf: null, map: small }]);
    for (let round = 0; round < 200; round++) {
      const changes = Array.from({ length: 1 + roll(12) }, () => {
        const key = roll(16);
        const change = roll(3) === 0 ? gone(key) : put(key, roll(1000));
        if (change.value === null) model.delete(key);
        else model.set(key, change);
        return change;
      });
      if (mirror.apply([{ kind: "elements", map: small, changes }]).length > 0) return t.fail(`refused, SEED=${SEED}`);
      if (roll(10) === 0) {
        const key = roll(16);
        meddle(join(root, "by_id/7"), [put(key, 5000), gone(key), ...(model.size < 16 ? [put(100, 1)] : [])]);
        mirror.close();
        mirror = open(t, root);
        if (mirror.takeUp([source(small, entries())], []).length > 0) return t.fail(`not adopted, SEED=${SEED}`);
      }
      const found = contents(join(root, "by_id/7"));
      if (JSON.stringify(found) !== JSON.stringify(expected(entries())))
        return t.same(found, expected(entries()), `round ${round}, SEED=${SEED}`);
    }
    t.pass("200 rounds");
    t.end();
  });

  t.test("Bpf takes any command, and tells what the kernel refuses as a negative errno", (t) => {
    const attr = Buffer.alloc(72);
    [BPF_MAP_TYPE_HASH, 4, 8, 2].forEach((field, at) => {
      attr.writeUInt32LE(field, at * 4);
    });
    const fd = bpf.bpf(BPF_CMD.BPF_MAP_CREATE, attr);
    t.ok(fd > 2);
    const info = bpf.infoByFd(fd);
    t.match(info, { type: BPF_MAP_TYPE_HASH, keySize: 4, valueSize: 8, maxEntries: 2, name: "", mapExtra: 0n });
    const { id } = info as { id: number };
    t.equal(bpf.mapGetNextId(id - 1), id);
    const second = bpf.mapFdById(id);
    t.equal(bpf.update(second, u32(1), u64(1)), 0);
    const element = Buffer.alloc(32);
    const key = u32(1);
    const value = Buffer.alloc(8);
    element.writeUInt32LE(fd, 0);
    element.writeBigUInt64LE(bpf.address(key), 8);
    element.writeBigUInt64LE(bpf.address(value), 16);
    t.equal(bpf.bpf(BPF_CMD.BPF_MAP_LOOKUP_ELEM, element), 0);
    t.same(value, u64(1));
    t.equal(bpf.bpf(BPF_CMD.BPF_MAP_LOOKUP_AND_DELETE_ELEM, element), 0);
    t.equal(bpf.lookup(fd, key, value), -ERRNO.ENOENT);
    t.equal(bpf.update(fd, Buffer.alloc(5000), u64(1)), 0, "a buffer larger than the slot");
    t.equal(bpf.delete(fd, Buffer.alloc(5000)), 0);
    const keys = Buffer.concat([u32(1), u32(2), u32(3)]);
    t.equal(bpf.updateBatch(fd, keys, Buffer.alloc(24), 3), -ERRNO.E2BIG);
    t.equal(bpf.count, 2);
    t.equal(bpf.freeze(fd), 0);
    t.equal(bpf.updateBatch(fd, keys, Buffer.alloc(24), 2), -ERRNO.EPERM);
    t.equal(bpf.count, 0);
    t.equal(bpf.bpf(1000, Buffer.alloc(8)), -ERRNO.EINVAL);
    t.equal(bpf.close(fd), 0);
    t.equal(bpf.close(second), 0);
    t.equal(bpf.close(second), -ERRNO.EBADF);
    t.equal(bpf.mapFdById(id), -ERRNO.ENOENT);
    t.equal(bpf.get(dirname(base)), -ERRNO.EACCES);
    const queue = bpf.create({ ...hash, type: BPF_MAP_TYPE_QUEUE, keySize: 0 });
    t.equal(bpf.updateBatch(queue, u32(0), u64(0), 1), -ERRNO.ENOTSUPP);
    t.equal(bpf.close(queue), 0);
    t.end();
  });
}
