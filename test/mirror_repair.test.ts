import { mkdirSync, rmSync } from "node:fs";
import t, { type Test } from "tap";
import { BPF_ELEM, BPF_F, BPF_MAP_TYPE } from "../src/abi/bpf.ts";
import { ERRNO } from "../src/abi/errno.ts";
import type { ElementChange, MirrorSource } from "../src/engine/ports.ts";
import type { MapRecord } from "../src/maps/map.ts";
import { type Bpf, openBpf } from "../src/mirror/bpf.ts";
import { claim } from "../src/mirror/bpffs.ts";
import { KernelMirror } from "../src/mirror/kernel_mirror.ts";
import { openMirror } from "../src/mirror/mirror.ts";
import { BPFFS, unfitForKernel } from "./support/bpffs.ts";
import { type Driven, driven, hash, host, put, scanned, source, trie, u32, u64 } from "./support/mirror.ts";

const queue: MapRecord = {
  ...hash,
  type: BPF_MAP_TYPE.BPF_MAP_TYPE_QUEUE,
  keySize: 0,
  maxEntries: 3,
  name: "jobs",
};
const stack: MapRecord = { ...queue, type: BPF_MAP_TYPE.BPF_MAP_TYPE_STACK };

/** A value's place in a line: u64, most significant byte first. */
function place(number: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt32BE(number, 4);
  return bytes;
}

function pushed(number: number): ElementChange {
  return { key: place(number), value: u64(number) };
}

function popped(number: number): ElementChange {
  return { key: place(number), value: null };
}

function run(bpf: Bpf): void {
  const base = `${BPFFS}/mlrepair${process.pid}`;
  mkdirSync(base);
  t.teardown(() => rmSync(base, { recursive: true }));
  let directories = 0;

  function directory(): string {
    return `${base}/d${++directories}`;
  }

  function open(test: Test, root: string): Driven {
    const mirror = openMirror({ mode: "required", bpffs: root, instance: "i1", host, machineCpus: 2 });
    test.teardown(() => mirror.close());
    return driven(mirror);
  }

  function through<T>(root: string, id: number, use: (fd: number) => T): T {
    const fd = bpf.get(`${root}/by_id/${id}`);
    if (fd < 0) throw new Error(`opening map ${id} below ${root}: ${fd}`);
    try {
      return use(fd);
    } finally {
      bpf.close(fd);
    }
  }

  /** Takes everything out. */
  function drained(root: string): number[] {
    return through(root, queue.id, (fd) => {
      const values: number[] = [];
      const value = Buffer.alloc(8);
      while (bpf.take(fd, null, value) === 0) values.push(Number(value.readBigUInt64LE(0)));
      return values;
    });
  }

  t.test("a full stack that is pushed to lets the oldest go, a pop takes the newest", async (t) => {
    const root = directory();
    const mirror = open(t, root);
    const changes = [pushed(1), pushed(2), pushed(3), popped(1), pushed(4), popped(4), popped(3), pushed(3)];
    t.same(
      mirror.apply([
        { kind: "create", btf: null, map: stack },
        { kind: "elements", map: stack, changes },
      ]),
      [],
    );
    t.same(drained(root), [3, 2]);
  });

  t.test("a queue that nothing has happened to is left as it is by the next start", async (t) => {
    const root = directory();
    const first = open(t, root);
    first.takeUp([], []);
    const changes = [pushed(1), pushed(2)];
    first.apply([
      { kind: "create", btf: null, map: queue },
      { kind: "elements", map: queue, changes },
    ]);
    first.close();
    // Behind what can be seen, so that it tells whether the start has touched it.
    through(root, queue.id, (fd) => bpf.update(fd, null, u64(77), BPF_ELEM.BPF_EXIST));
    const mirror = open(t, root);
    const from = source(queue, changes);
    t.same(mirror.takeUp([from], [], { seq: 1, changed: [] }), []);
    t.same(drained(root), [1, 2, 77]);
  });

  t.test("a queue that events behind the last carried one have changed is filled again", async (t) => {
    for (const changed of [[queue.id], null]) {
      const root = directory();
      const first = open(t, root);
      first.takeUp([], []);
      first.apply([
        { kind: "create", btf: null, map: queue },
        { kind: "elements", map: queue, changes: [pushed(1), pushed(2)] },
      ]);
      first.close();
      const mirror = open(t, root);
      t.same(mirror.takeUp([source(queue, [pushed(1), pushed(3)])], [], { seq: 2, changed }), []);
      t.same(drained(root), [1, 3]);
    }
  });

  t.test("a queue whose next value is another is filled again", async (t) => {
    const root = directory();
    const first = open(t, root);
    first.takeUp([], []);
    const changes = [pushed(1), pushed(2)];
    first.apply([
      { kind: "create", btf: null, map: queue },
      { kind: "elements", map: queue, changes },
    ]);
    first.close();
    through(root, queue.id, (fd) => bpf.take(fd, null, Buffer.alloc(8)));
    const mirror = open(t, root);
    t.same(mirror.takeUp([source(queue, changes)], [], { seq: 1, changed: [] }), []);
    t.same(drained(root), [1, 2]);
  });

  t.test("an LRU map has room for what the kernel keeps free, and lets nothing go by itself", async (t) => {
    const root = directory();
    const mirror = open(t, root);
    for (const [id, type, mapFlags] of [
      [7, BPF_MAP_TYPE.BPF_MAP_TYPE_LRU_HASH, 0],
      [8, BPF_MAP_TYPE.BPF_MAP_TYPE_LRU_HASH, BPF_F.BPF_F_NO_COMMON_LRU],
    ] as const) {
      const lru = { ...hash, id, type, mapFlags, maxEntries: 10_000 };
      const changes = Array.from({ length: lru.maxEntries }, (_, at) => put(at, at));
      t.same(
        mirror.apply([
          { kind: "create", btf: null, map: lru },
          { kind: "elements", map: lru, changes },
        ]),
        [],
      );
      // The same keys over and over: each takes a free element before it gives one back.
      for (let round = 0; round < 3; round++) mirror.apply([{ kind: "elements", map: lru, changes }]);
      t.match(mirror.status(id), { state: "on", maxEntries: 10_000 + 3 * 128 });
      let missing = 0;
      through(root, id, (fd) => {
        for (const { key } of changes) if (bpf.lookup(fd, key, Buffer.alloc(8)) !== 0) missing++;
      });
      t.equal(missing, 0);
    }
  });

  t.test("values of other CPUs than the machine has are not mirrored", async (t) => {
    const mirror = openMirror({ mode: "required", bpffs: directory(), instance: "i1", host, machineCpus: 64 });
    t.teardown(() => mirror.close());
    const map = { ...hash, type: BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_HASH };
    t.same(mirror.apply([{ kind: "create", btf: null, map }], 1), []);
    t.same(mirror.status(map.id), {
      state: "off",
      detail: "values of 2 CPUs are not mirrored: the kernel's would be of 64",
    });
  });

  t.test("what has failed is tried again, ever less often, and told once", async (t) => {
    const root = directory();
    claim(root, "i1");
    let nowMs = 0;
    let refuses = true;
    let asked = 0;
    const own = openBpf() as Bpf;
    const { create } = own;
    own.create = (...args) => {
      asked++;
      return refuses ? -ERRNO.ENOMEM : create.apply(own, args);
    };
    refuses = false;
    const kernel = new KernelMirror({ bpf: own, root, host, machineCpus: 2, nowMs: () => nowMs });
    t.teardown(() => kernel.close());
    let elements = [put(1, 1)];
    const from: MirrorSource = { ...source(hash, []), elements: () => elements as never };
    kernel.takeUp({ seq: 0, all: () => [], of: () => from, changedSince: () => null }, [], () => {});
    refuses = true;
    t.match(kernel.apply([{ kind: "create", btf: null, map: hash }], 1), [
      { operation: "BPF_MAP_CREATE", errno: "ENOMEM" },
    ]);
    const tries: number[] = [];
    for (asked = 0; nowMs < 1_000_000; nowMs += 100) {
      const { repaired, refusals } = kernel.retry();
      if (repaired.length + refusals.length > 0) t.fail("nothing is repaired, or told again");
      if (asked > 0) tries.push(nowMs);
      asked = 0;
    }
    t.same(tries.slice(0, 5), [1000, 3000, 7000, 15_000, 31_000]);
    const apart = tries.map((at, index) => at - (tries[index - 1] ?? 0));
    t.equal(Math.max(...apart), 300_000, "five minutes at most");
    refuses = false;
    elements = [put(1, 2)];
    nowMs += 300_000;
    t.match(kernel.retry(), { repaired: [hash.id], refusals: [] });
    t.match(kernel.status(hash.id), { state: "on" });
    const value = Buffer.alloc(8);
    t.equal(
      through(root, hash.id, (fd) => bpf.lookup(fd, u32(1), value)),
      0,
    );
    t.same(value, u64(2), "with what the map has by then");
  });

  t.test("a large map that has failed is made equal in pieces", async (t) => {
    const root = directory();
    claim(root, "i1");
    let nowMs = 0;
    const kernel = new KernelMirror({ bpf, root, host, machineCpus: 2, nowMs: () => nowMs });
    t.teardown(() => kernel.close());
    const entries = 10_000;
    const map = { ...hash, maxEntries: entries };
    const elements = Array.from({ length: entries }, (_, at) => put(at, at));
    const from = source(map, elements);
    kernel.takeUp({ seq: 0, all: () => [], of: () => from, changedSince: () => null }, [], () => {});
    kernel.apply([{ kind: "create", btf: null, map }], 1);
    // A program has filled it with others.
    through(root, map.id, (fd) => {
      for (let at = 0; at < entries; at++) bpf.update(fd, u32(1_000_000 + at), u64(at));
    });
    t.match(kernel.apply([{ kind: "elements", map, changes: elements }], 2), [{ errno: "E2BIG" }]);
    nowMs = 1000;
    let pieces = 0;
    let last = kernel.retry();
    for (; last.repaired.length === 0 && pieces < 100; last = kernel.retry()) pieces++;
    t.ok(pieces >= 4, `${pieces} pieces`);
    t.same(last.repaired, [map.id]);
    t.match(kernel.status(map.id), { state: "on" });
    t.same(scanned(kernel, from).found, []);
  });

  t.test("a map of maps gets the new kernel map of what it holds", async (t) => {
    const root = directory();
    const mirror = open(t, root);
    const { type, keySize, valueSize, maxEntries, mapFlags, special } = hash;
    const inner = { type, keySize, valueSize, maxEntries, mapFlags, special };
    const outer: MapRecord = {
      ...hash,
      id: 8,
      type: BPF_MAP_TYPE.BPF_MAP_TYPE_HASH_OF_MAPS,
      keySize: 4,
      valueSize: 4,
      name: "outer",
      inner,
    };
    const held = { key: u32(1), value: u32(hash.id) };
    const sources = [source(outer, [held]), source(hash, [put(1, 1)])];
    t.same(mirror.takeUp(sources, []), [], "in whatever order they come");
    const shown = (): number => {
      const value = Buffer.alloc(4);
      through(root, outer.id, (fd) => bpf.lookup(fd, u32(1), value));
      return value.readUInt32LE(0);
    };
    const before = mirror.status(hash.id) as { kernelId: number };
    t.equal(shown(), before.kernelId);
    // Frozen and another than it should be: it has to be made anew.
    through(root, hash.id, (fd) => {
      bpf.update(fd, u32(1), u64(9));
      bpf.freeze(fd);
    });
    t.same(mirror.resync(sources[1] as MirrorSource), []);
    const after = mirror.status(hash.id) as { kernelId: number };
    t.not(after.kernelId, before.kernelId);
    t.equal(shown(), after.kernelId);
  });

  t.test("a large trie is compared in pieces, and what a shorter prefix covers is missed all the same", async (t) => {
    const kernel = openMirror({ mode: "required", bpffs: directory(), instance: "i1", host, machineCpus: 2 });
    t.teardown(() => kernel.close());
    const map = { ...trie, maxEntries: 10_000 };
    const prefix = (at: number, bits: number): Buffer => {
      const key = Buffer.alloc(map.keySize);
      key.writeUInt32LE(bits, 0);
      key.writeUInt32BE(at, 4);
      return key;
    };
    const value = Buffer.alloc(map.valueSize, 1);
    const elements = Array.from({ length: 9_000 }, (_, at) => ({ key: prefix(at, 32), value }));
    const covering = { key: prefix(0, 0), value };
    const from = source(map, [...elements, covering]);
    driven(kernel).apply([
      { kind: "create", btf: null, map },
      { kind: "elements", map, changes: [...from.elements()] },
    ]);
    const pieces = [...kernel.scan(from)];
    t.ok(pieces.length >= 8, `${pieces.length} pieces`);
    t.same(pieces.flat(), []);
    const { kernelId } = kernel.status(map.id) as { kernelId: number };
    const fd = bpf.mapFdById(kernelId);
    t.teardown(() => bpf.close(fd));
    const missing = [0, 4000, 8999].map((at) => prefix(at, 32));
    for (const key of missing) bpf.delete(fd, key);
    const { found } = scanned(kernel, from);
    t.same(
      found,
      missing.map((key) => ({ key, ledger: value, kernel: null })),
    );
    t.same(kernel.mend(from, found), []);
    t.same(scanned(kernel, from).found, []);
    for (const { key } of from.elements()) bpf.delete(fd, key);
    t.equal(scanned(kernel, from).found.length, 9001, "none is there");
  });

  t.test("what differs is told: changed, missing, and there without the map", async (t) => {
    const root = directory();
    const kernel = openMirror({ mode: "required", bpffs: root, instance: "i1", host, machineCpus: 2 });
    t.teardown(() => kernel.close());
    const mirror = driven(kernel);
    const elements = [put(1, 1), put(2, 2), put(3, 3)];
    mirror.apply([
      { kind: "create", btf: null, map: hash },
      { kind: "elements", map: hash, changes: elements },
    ]);
    const differences = () => {
      const { found, untold } = scanned(kernel, source(hash, elements));
      t.equal(untold, null);
      const number = (value: Buffer | null): number | null => value?.readUInt32LE(0) ?? null;
      return found.map(({ key, ledger, kernel }) => [number(key), number(ledger), number(kernel)]).sort();
    };
    t.same(differences(), []);
    through(root, hash.id, (fd) => {
      bpf.update(fd, u32(1), u64(10));
      bpf.delete(fd, u32(2));
      bpf.update(fd, u32(4), u64(40));
    });
    t.same(differences(), [
      [1, 1, 10],
      [2, 2, null],
      [4, null, 40],
    ]);
    t.same(kernel.mend(source(hash, elements), scanned(kernel, source(hash, elements)).found), []);
    t.same(differences(), []);
  });
}

const reason = unfitForKernel();
if (reason !== null) t.pass("bpf(2)", { skip: reason });
else run(openBpf() as Bpf);
