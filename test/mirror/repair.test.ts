import { mkdirSync, rmSync } from "node:fs";
import t, { type Test } from "tap";
import { BPF_F, BPF_MAP_TYPE } from "../../src/abi/bpf.ts";
import { ERRNO } from "../../src/abi/errno.ts";
import type { ElementChange, MirrorSource } from "../../src/engine/ports.ts";
import type { MapRecord } from "../../src/maps/map.ts";
import type { Bpf } from "../../src/native/bpf.ts";
import { openBpf } from "../../src/native/probe.ts";
import { BPFFS, unfitForKernel } from "../support/bpffs.ts";
import {
  type Driven,
  driven,
  gone,
  hash,
  kernelMirror,
  lagging,
  put,
  scanned,
  source,
  trie,
  u32,
  u64,
} from "../support/mirror.ts";
import { OWN_NAME } from "../support/own_name.ts";

const queue: MapRecord = {
  ...hash,
  type: BPF_MAP_TYPE.BPF_MAP_TYPE_QUEUE,
  keySize: 0,
  maxEntries: 3,
  name: "jobs",
};
const stack: MapRecord = { ...queue, type: BPF_MAP_TYPE.BPF_MAP_TYPE_STACK };

const small: MapRecord = { ...hash, maxEntries: 2 };

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
  const base = `${BPFFS}/mlrepair${OWN_NAME}`;
  mkdirSync(base);
  t.teardown(() => rmSync(base, { recursive: true }));
  let directories = 0;

  function directory(): string {
    return `${base}/d${++directories}`;
  }

  function open(test: Test, root: string): Driven {
    return driven(kernelMirror(test, root));
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

  function valueAt(root: string, key: number): Buffer | null {
    const value = Buffer.alloc(8);
    return through(root, hash.id, (fd) => (bpf.lookup(fd, u32(key), value) === 0 ? value : null));
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

  for (const [what, meddled, changed, elements, left] of [
    ["nothing", [], [], [1, 2], [1, 2]],
    ["nothing, while a program popped and pushed", [77], [], [1, 2], [2, 77]],
    ["pushes", [77], [pushed(3)], [1, 2, 3], [2, 77, 3]],
    ["pops, and pushes", [], [popped(1), pushed(3)], [2, 3], [2, 3]],
    ["pops, of what a program popped as well", [77], [popped(1), popped(2)], [], []],
    ["what is not known", [77], null, [2, 3], [2, 77]],
  ] as const) {
    t.test(`of what the ledger did to a queue, and nothing else, a start makes: ${what}`, async (t) => {
      const root = directory();
      const first = open(t, root);
      first.takeUp([], []);
      first.apply([
        { kind: "create", btf: null, map: queue },
        { kind: "elements", map: queue, changes: [pushed(1), pushed(2)] },
      ]);
      first.close();
      through(root, queue.id, (fd) => {
        for (const value of meddled) {
          bpf.take(fd, null, Buffer.alloc(8));
          bpf.update(fd, null, u64(value));
        }
      });
      const mirror = open(t, root);
      // What was pushed was not there then, what was popped was.
      const window = changed?.map(({ key, value }) => lagging(key, value === null ? u64(Number(key[7])) : null));
      t.same(mirror.takeUp([source(queue, elements.map(pushed))], [], window ?? null), []);
      t.match(mirror.status(queue.id), { state: "on", equal: "unknown" });
      t.same(drained(root), left);
    });
  }

  t.test("a stack gets what was pushed on top, and loses what was popped from there", async (t) => {
    const root = directory();
    const first = open(t, root);
    first.apply([
      { kind: "create", btf: null, map: stack },
      { kind: "elements", map: stack, changes: [pushed(1), pushed(2)] },
    ]);
    first.close();
    const mirror = open(t, root);
    const window = [lagging(place(2), u64(2)), lagging(place(3), null)];
    const again = { key: place(2), value: u64(22) };
    t.same(mirror.takeUp([source(stack, [pushed(1), again, pushed(3)])], [], window), []);
    t.same(drained(root), [3, 22, 1]);
  });

  t.test("values behind one that was refused wait for it, so that none stands in its place", async (t) => {
    const root = directory();
    let nowMs = 0;
    let refuses = false;
    const own = openBpf() as Bpf;
    const { update } = own;
    own.update = (...args) => (refuses && args[1] === null ? -ERRNO.ENOMEM : update.apply(own, args));
    const mirror = driven(kernelMirror(t, root, { bpf: own, nowMs: () => nowMs }));
    mirror.apply([{ kind: "create", btf: null, map: queue }]);
    const change = (...changes: ElementChange[]) => mirror.apply([{ kind: "elements", map: queue, changes }]);
    refuses = true;
    t.match(change(pushed(1), pushed(2)), [{ operation: "BPF_MAP_UPDATE_ELEM", errno: "ENOMEM" }]);
    refuses = false;
    t.same(change(popped(1), pushed(3)), []);
    t.match(mirror.status(queue.id), { state: "failed", errno: "ENOMEM" });
    nowMs = 1000;
    t.match(mirror.retry(source(queue, [pushed(2), pushed(3)])), { repaired: [queue.id], refusals: [] });
    t.match(mirror.status(queue.id), { state: "on", equal: "unknown" });
    t.same(drained(root), [2, 3]);
  });

  t.test("of what a start makes of a queue's past, only what was refused is made again", async (t) => {
    const root = directory();
    const first = open(t, root);
    first.apply([
      { kind: "create", btf: null, map: queue },
      { kind: "elements", map: queue, changes: [pushed(1), pushed(2)] },
    ]);
    first.close();
    let nowMs = 0;
    let refuses = true;
    const own = openBpf() as Bpf;
    const { update } = own;
    own.update = (...args) =>
      refuses && args[1] === null && args[2].equals(u64(4)) ? -ERRNO.ENOMEM : update.apply(own, args);
    const mirror = driven(kernelMirror(t, root, { bpf: own, nowMs: () => nowMs }));
    const from = source(queue, [pushed(2), pushed(3), pushed(4)]);
    const window = [lagging(place(1), u64(1)), lagging(place(3), null), lagging(place(4), null)];
    t.match(mirror.takeUp([from], [], window), [{ errno: "ENOMEM" }]);
    refuses = false;
    nowMs = 1000;
    t.match(mirror.retry(from), { repaired: [queue.id], refusals: [] });
    t.same(drained(root), [2, 3, 4]);
  });

  t.test("of a stack that has refused to, what went and what came is made in its order", async (t) => {
    const root = directory();
    let nowMs = 0;
    let refuses = false;
    const own = openBpf() as Bpf;
    const { take } = own;
    own.take = (...args) => (refuses ? -ERRNO.ENOMEM : take.apply(own, args));
    const mirror = driven(kernelMirror(t, root, { bpf: own, nowMs: () => nowMs }));
    const change = (...changes: ElementChange[]) => mirror.apply([{ kind: "elements", map: stack, changes }]);
    mirror.apply([{ kind: "create", btf: null, map: stack }]);
    change(pushed(1), pushed(2));
    refuses = true;
    t.match(change(popped(2)), [{ operation: "BPF_MAP_LOOKUP_AND_DELETE_ELEM", errno: "ENOMEM" }]);
    const again = { key: place(2), value: u64(22) };
    t.same(change(again, pushed(3), popped(3)), []);
    refuses = false;
    nowMs = 1000;
    t.match(mirror.retry(source(stack, [pushed(1), again])), { repaired: [stack.id], refusals: [] });
    t.same(drained(root), [22, 1]);
  });

  t.test("more refused values than are tried at once stay in their order", async (t) => {
    const root = directory();
    let nowMs = 0;
    let refuses = true;
    const own = openBpf() as Bpf;
    const { update } = own;
    own.update = (...args) => (refuses && args[1] === null ? -ERRNO.ENOMEM : update.apply(own, args));
    const mirror = driven(kernelMirror(t, root, { bpf: own, nowMs: () => nowMs }));
    const long = { ...queue, maxEntries: 3000 };
    const all = Array.from({ length: 3000 }, (_, at) => pushed(at + 1));
    mirror.apply([{ kind: "create", btf: null, map: long }]);
    mirror.apply([{ kind: "elements", map: long, changes: all }]);
    nowMs = 1000;
    t.match(mirror.retry(source(long, all)), { repaired: [], refusals: [] });
    refuses = false;
    nowMs = 10_000;
    t.same(mirror.retry(source(long, all)).repaired, [long.id]);
    t.same(
      drained(root),
      all.map((_, at) => at + 1),
    );
  });

  t.test("a roomy LRU map has room for what the kernel keeps free, and lets nothing go by itself", async (t) => {
    const root = directory();
    const mirror = open(t, root);
    for (const [id, type, mapFlags] of [
      [7, BPF_MAP_TYPE.BPF_MAP_TYPE_LRU_HASH, 0],
      [8, BPF_MAP_TYPE.BPF_MAP_TYPE_LRU_HASH, BPF_F.BPF_F_NO_COMMON_LRU],
    ] as const) {
      const lru: MapRecord = { ...hash, id, type, mapFlags, maxEntries: 10_000, mirrorShape: "roomy" };
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
    const mirror = driven(kernelMirror(t, directory(), { machineCpus: 64 }));
    const map = { ...hash, type: BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_HASH };
    t.same(mirror.apply([{ kind: "create", btf: null, map }]), []);
    t.same(mirror.status(map.id), {
      state: "off",
      detail: "values of 2 CPUs are not mirrored: the kernel's would be of 64",
    });
  });

  t.test("what has failed is tried again, ever less often, and told once", async (t) => {
    const root = directory();
    let nowMs = 0;
    let refuses = false;
    let asked = 0;
    const own = openBpf() as Bpf;
    const { create } = own;
    own.create = (...args) => {
      asked++;
      return refuses ? -ERRNO.ENOMEM : create.apply(own, args);
    };
    const kernel = kernelMirror(t, root, { bpf: own, nowMs: () => nowMs });
    const mirror = driven(kernel);
    mirror.takeUp([], []);
    refuses = true;
    t.match(mirror.apply([{ kind: "create", btf: null, map: hash }]), [
      { operation: "BPF_MAP_CREATE", errno: "ENOMEM" },
    ]);
    const from = source(hash, [put(1, 1)]);
    const tries: number[] = [];
    for (asked = 0; nowMs < 1_000_000; nowMs += 100) {
      const { repaired, refusals, drifted, reopen } = mirror.retry(from);
      if (repaired.length + refusals.length + drifted.length > 0) t.fail("nothing is repaired, or told again");
      for (const _ of reopen) t.same(kernel.open(from), { opening: "none", refusals: [] });
      if (asked > 0) tries.push(nowMs);
      asked = 0;
    }
    t.same(tries.slice(0, 5), [1000, 3000, 7000, 15_000, 31_000]);
    const apart = tries.map((at, index) => at - (tries[index - 1] ?? 0));
    t.equal(Math.max(...apart), 300_000, "five minutes at most");
    refuses = false;
    nowMs += 300_000;
    t.same(mirror.retry(from).reopen, [hash.id]);
    t.same(kernel.open(source(hash, [put(1, 2)])), { opening: "made", refusals: [] });
    kernel.takenUp(hash.id, "yes");
    t.match(kernel.status(hash.id), { state: "on", equal: "yes" });
    t.same(valueAt(root, 1), u64(2), "with what the map has by then");
  });

  /** A map with room for two elements, which a program's have taken, and that was refused what `changes` are. */
  function refused(test: Test, root: string, ...changes: ElementChange[]): { retry: Driven["retry"]; mirror: Driven } {
    let nowMs = 0;
    const mirror = driven(kernelMirror(test, root, { nowMs: () => nowMs }));
    mirror.takeUp([], []);
    mirror.apply([{ kind: "create", btf: null, map: small }]);
    through(root, small.id, (fd) => {
      for (const key of [51, 52]) bpf.update(fd, u32(key), u64(0));
    });
    test.match(mirror.apply([{ kind: "elements", map: small, changes }]), [{ errno: "E2BIG" }]);
    const retry: Driven["retry"] = (from) => {
      nowMs += 1_000_000;
      return mirror.retry(from);
    };
    return { retry, mirror };
  }

  t.test("a write that was refused is made once it can be, and no other", async (t) => {
    const root = directory();
    const { retry, mirror } = refused(t, root, put(1, 1));
    const from = source(small, [put(1, 1), put(2, 2)]);
    t.match(retry(from), { repaired: [], refusals: [], drifted: [], reopen: [] }, "there is no room yet");
    t.match(mirror.status(small.id), { state: "failed", errno: "E2BIG" });
    through(root, small.id, (fd) => {
      bpf.delete(fd, u32(51));
      bpf.update(fd, u32(52), u64(9));
    });
    t.match(retry(from), { repaired: [small.id], refusals: [], drifted: [] });
    t.match(mirror.status(small.id), { state: "on" });
    t.same(
      [1, 2, 51, 52].map((key) => valueAt(root, key)),
      [u64(1), null, null, u64(9)],
    );
    t.same(retry(from).repaired, [], "once");
  });

  t.test("an element that a program wrote after its write was refused is the program's", async (t) => {
    const root = directory();
    const { retry, mirror } = refused(t, root, put(1, 1), put(2, 2));
    through(root, small.id, (fd) => {
      for (const key of [51, 52]) bpf.delete(fd, u32(key));
      bpf.update(fd, u32(1), u64(99));
    });
    const from = source(small, [put(1, 1), put(2, 2)]);
    t.match(retry(from), { repaired: [], refusals: [], drifted: [{ map: small.id, keys: [u32(1)] }] });
    t.same(
      [1, 2].map((key) => valueAt(root, key)),
      [u64(99), u64(2)],
    );
    t.match(mirror.status(small.id), { state: "on" });
    t.same(retry(from).drifted, [], "it is told once");
    t.same(valueAt(root, 1), u64(99));
  });

  t.test("a refused write is done with if a program wrote the same, or the ledger something else since", async (t) => {
    const root = directory();
    const { retry, mirror } = refused(t, root, put(1, 1), put(2, 2));
    through(root, small.id, (fd) => {
      for (const key of [51, 52]) bpf.delete(fd, u32(key));
      bpf.update(fd, u32(1), u64(1));
    });
    t.same(mirror.apply([{ kind: "elements", map: small, changes: [gone(2)] }]), []);
    t.match(retry(source(small, [put(1, 1)])), { repaired: [small.id], refusals: [], drifted: [] });
    t.same(
      [1, 2].map((key) => valueAt(root, key)),
      [u64(1), null],
    );
  });

  t.test("many refused writes are made in pieces", async (t) => {
    const root = directory();
    let nowMs = 0;
    const kernel = kernelMirror(t, root, { nowMs: () => nowMs });
    const mirror = driven(kernel);
    const entries = 10_000;
    const map = { ...hash, maxEntries: entries };
    const elements = Array.from({ length: entries }, (_, at) => put(at, at));
    const from = source(map, elements);
    mirror.takeUp([], []);
    mirror.apply([{ kind: "create", btf: null, map }]);
    const strays = Array.from({ length: entries }, (_, at) => u32(1_000_000 + at));
    through(root, map.id, (fd) => {
      for (const key of strays) bpf.update(fd, key, u64(0));
    });
    t.match(mirror.apply([{ kind: "elements", map, changes: elements }]), [{ errno: "E2BIG" }]);
    through(root, map.id, (fd) => {
      for (const key of strays) bpf.delete(fd, key);
    });
    nowMs = 1000;
    let pieces = 1;
    let last = mirror.retry(from);
    for (; last.repaired.length === 0 && pieces < 100; last = mirror.retry(from)) pieces++;
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
    t.same(mirror.recreate(sources[1] as MirrorSource), []);
    t.equal(shown(), before.kernelId, "until it is compared");
    t.match(mirror.settle(sources[0] as MirrorSource, "repair"), [{ attr: { changed: 1, missing: 0, extra: 0 } }]);
    const after = mirror.status(hash.id) as { kernelId: number };
    t.not(after.kernelId, before.kernelId);
    t.equal(shown(), after.kernelId);
  });

  t.test("a large trie is compared in pieces, and what a shorter prefix covers is missed all the same", async (t) => {
    const kernel = kernelMirror(t, directory());
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
    const pieces = [...kernel.scan(from, "ledger")];
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
    t.same(kernel.write(from, missing), []);
    t.same(scanned(kernel, from).found, []);
    for (const { key } of from.elements()) bpf.delete(fd, key);
    t.equal(scanned(kernel, from).found.length, 9001, "none is there");
  });

  t.test("what differs is told: changed, missing, and there without the map", async (t) => {
    const root = directory();
    const kernel = kernelMirror(t, root);
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
    const found = scanned(kernel, source(hash, elements)).found.map(({ key }) => key);
    t.same(kernel.write(source(hash, elements), found), []);
    t.same(differences(), []);
  });
}

const reason = unfitForKernel();
if (reason !== null) t.pass("bpf(2)", { skip: reason });
else run(openBpf() as Bpf);
