import { mkdirSync, rmSync } from "node:fs";
import t, { type Test } from "tap";
import type { Bpf } from "../../src/native/bpf.ts";
import { openBpf } from "../../src/native/probe.ts";
import { BPFFS, unfitForKernel } from "../support/bpffs.ts";
import { hex, type Json, Ledger, until } from "../support/ledger.ts";
import { hash, u32, u64 } from "../support/mirror.ts";
import { OWN_NAME } from "../support/own_name.ts";

type Adopted = Json & { readonly id: number; readonly mirror: Json };

function run(bpf: Bpf): void {
  const base = `${BPFFS}/mlapi${OWN_NAME}`;
  mkdirSync(base);
  t.teardown(() => rmSync(base, { recursive: true }));

  /** A map of some other program's with the elements 1 and 2, pinned; it stays open for the test. */
  function strange(t: Test, name: string): { fd: number; id: number; pin: string } {
    const fd = bpf.create({ ...hash, name }, { innerMapFd: 0, btfFd: 0, btfKeyTypeId: 0, btfValueTypeId: 0 });
    if (fd < 0) throw new Error(`creating a map: ${fd}`);
    t.teardown(() => bpf.close(fd));
    for (const key of [1, 2]) bpf.update(fd, u32(key), u64(key));
    const info = bpf.infoByFd(fd);
    const pin = `${base}/${name}`;
    rmSync(pin, { force: true });
    if (typeof info === "number" || bpf.pin(fd, pin) < 0) throw new Error(`pinning at ${pin}`);
    return { fd, id: info.id, pin };
  }

  /** Of the kernel map that is pinned at a path. */
  function inKernel(path: string, ...keys: number[]): (number | null)[] {
    const fd = bpf.get(path);
    if (fd < 0) throw new Error(`opening ${path}: ${fd}`);
    const value = Buffer.alloc(8);
    const found = keys.map((key) => (bpf.lookup(fd, u32(key), value) < 0 ? null : Number(value.readBigUInt64LE(0))));
    bpf.close(fd);
    return found;
  }

  function meddle(path: string, ...elements: [key: number, value: number][]): void {
    const fd = bpf.get(path);
    for (const [key, value] of elements) bpf.update(fd, u32(key), u64(value));
    bpf.close(fd);
  }

  async function started(t: Test, name: string): Promise<Ledger> {
    const ledger = new Ledger(t, name);
    await ledger.start();
    return ledger;
  }

  async function adopt(ledger: Ledger, body: object): Promise<Adopted> {
    return (await ledger.must("POST", "/maps/adopt", body)).map as Adopted;
  }

  /** Of all tests that neither stop it nor ask what else it has. */
  const ledger = new Ledger(t, "api");
  t.before(() => ledger.start());

  t.test("resync does what the policy says, and tells what differed", async (t) => {
    const own = await ledger.map({ map_name: "own" });
    await ledger.put(own, 1, 1);
    const byId = `${ledger.root}/by_id/${own}`;
    meddle(byId, [1, 10], [2, 20]);
    const repaired = await ledger.must("POST", `/maps/${own}/mirror/resync`);
    t.same(repaired.differed, { missing: 0, changed: 1, extra: 1, both_changed: 0, evicted: 0 });
    t.match(repaired.mirror, { state: "on", equal: "yes" });
    t.same(inKernel(byId, 1, 2), [1, null]);
    const { pin } = strange(t, "theirs");
    const { id } = await adopt(ledger, { pinned: pin });
    meddle(pin, [1, 10]);
    const reported = await ledger.must("POST", `/maps/${id}/mirror/resync`);
    t.match(reported, { differed: { changed: 1 }, mirror: { state: "on", equal: "no" } });
    t.same(inKernel(pin, 1), [10], "it is left as it is");
    t.match((await ledger.must("GET", "/mirror")).maps, { on: 2, unequal: 1 });
    t.match(await ledger.must("GET", `/maps/${id}/drift`), { changed: 1, both_changed: 0, evicted: 0 });
    const queue = await ledger.map({ map_type: "BPF_MAP_TYPE_QUEUE", key_size: 0 });
    const untold = await ledger.must("POST", `/maps/${queue}/mirror/resync`);
    t.match(untold, { differed: null, mirror: { state: "on", equal: "unknown" } });
  });

  t.test("an adopted map begins with the policy report, or with the one that is asked for", async (t) => {
    const plain = strange(t, "plain");
    const first = await adopt(ledger, { pinned: plain.pin, pathname: "/sys/fs/bpf/plain" });
    t.same(first.drift, { policy: "report", interval_seconds: 0 });
    t.same(first.adopted, { kernel_id: plain.id, pin: plain.pin, on_replace: "follow" });
    t.match(first, { released: false, mirror: { state: "on", kernel_id: plain.id, equal: "yes", held: "yes" } });
    const asked = strange(t, "asked");
    const policy = { policy: "import", interval_seconds: 0.5 };
    const pathname = "/sys/fs/bpf/asked";
    const second = await adopt(ledger, { pinned: asked.pin, pathname, ...policy, on_replace: "report" });
    t.same(second.drift, policy);
    t.same(second.adopted, { kernel_id: asked.id, pin: asked.pin, on_replace: "report" });
    const byId = strange(t, "by_its_id");
    const third = await adopt(ledger, { kernel_id: byId.id, policy: "repair" });
    t.same(third.drift, { policy: "repair", interval_seconds: 0 });
    t.same(third.adopted, { kernel_id: byId.id, pin: null, on_replace: null });
    const own = await ledger.map({ map_name: "own" });
    t.match(await ledger.must("GET", `/maps/${own}`), { adopted: null, released: false, drift: null });
    meddle(asked.pin, [7, 70]);
    await until("it is imported", async () => (await ledger.elements(second.id))[7] === 70);
  });

  t.test("decide takes one side for some elements or for all", async (t) => {
    const { pin } = strange(t, "decided");
    const { id } = await adopt(ledger, { pinned: pin });
    const decide = `/maps/${id}/mirror/decide`;
    meddle(pin, [1, 10], [2, 20], [3, 30]);
    const some = await ledger.must("POST", decide, { take: "kernel", keys: [hex(u32(1)), `0x${hex(u32(3))}`] });
    t.match(some, { seq: Number, mirror: { state: "on" } });
    t.same(await ledger.elements(id), { 1: 10, 2: 2, 3: 30 });
    await ledger.must("POST", decide, { take: "ledger" });
    t.same(inKernel(pin, 1, 2, 3), [10, 2, 30]);
    const told = await ledger.events("MIRROR_DECIDE");
    t.match(told, [
      { seq: some.seq, map: id, attr: { take: "kernel", keys: ["01000000", "03000000"] } },
      { attr: { take: "ledger", keys: null } },
    ]);
    t.match(await ledger.must("GET", `/maps/${id}`), { mirror: { equal: "yes" } });
    const queue = await ledger.map({ map_type: "BPF_MAP_TYPE_QUEUE", key_size: 0 });
    const refused = await ledger.ask("POST", `/maps/${queue}/mirror/decide`, { take: "ledger" });
    t.match(refused, { status: 405, json: { errno: "EOPNOTSUPP", detail: /nothing can be compared/ } });
    t.equal((await ledger.events("MIRROR_DECIDE")).length, told.length);
  });

  t.test("recreate makes another kernel map, and the present one lives on for whoever has it", async (t) => {
    const { fd, id: kernelId, pin } = strange(t, "recreated");
    const { id } = await adopt(ledger, { pinned: pin });
    const { seq, mirror } = (await ledger.must("POST", `/maps/${id}/mirror/recreate`)) as { seq: number; mirror: Json };
    t.match(mirror, { state: "on", equal: "yes" });
    t.not(mirror.kernel_id, kernelId);
    t.match(await ledger.must("GET", `/maps/${id}`), { adopted: null, released: false, drift: null });
    await ledger.put(id, 1, 11);
    t.same(inKernel(`${ledger.root}/by_id/${id}`, 1, 2), [11, 2]);
    t.same(inKernel(pin, 1, 2), [1, 2]);
    t.equal(bpf.lookup(fd, u32(1), Buffer.alloc(8)), 0);
    t.match(await ledger.events("MIRROR_RECREATE"), [{ seq, map: id, attr: { was: kernelId } }]);
  });

  t.test("release ends an adoption, and leaves the kernel map as it is", async (t) => {
    const { pin } = strange(t, "released");
    const { id } = await adopt(ledger, { pinned: pin });
    const released = await ledger.must("POST", `/maps/${id}/mirror/release`);
    t.match(released, { seq: Number, mirror: { state: "off", detail: /its adoption was ended/ } });
    t.match(await ledger.must("GET", `/maps/${id}`), { adopted: null, released: true });
    await ledger.put(id, 1, 11);
    t.same(inKernel(pin, 1, 2), [1, 2]);
    const again = await ledger.ask("POST", `/maps/${id}/mirror/release`);
    t.match(again, { status: 400, json: { errno: "EINVAL", detail: /was not adopted/ } });
    const decided = await ledger.ask("POST", `/maps/${id}/mirror/decide`, { take: "ledger" });
    t.match(decided, { status: 405, json: { detail: /there is no kernel map to decide about/ } });
    t.match((await ledger.must("POST", `/maps/${id}/mirror/recreate`)).mirror, { state: "on" });
    t.match(await ledger.must("GET", `/maps/${id}`), { released: false });
  });

  t.test("repin puts a pin back, and the object that was there aside", async (t) => {
    const own = await ledger.map({ map_name: "own" });
    await ledger.put(own, 1, 1);
    const pathname = "/sys/fs/bpf/own";
    await ledger.must("POST", `/maps/${own}/pin`, { pathname });
    const path = `${ledger.root}/own`;
    const { fd } = strange(t, "intruder");
    rmSync(path);
    if (bpf.pin(fd, path) < 0) throw new Error(`pinning at ${path}`);
    const mirrorOf = async (): Promise<Json> => (await ledger.must("GET", `/maps/${own}`)).mirror as Json;
    await until("it is noticed", async () => String((await mirrorOf()).detail).includes(path));
    t.match((await ledger.must("GET", "/mirror")).foreign, [path]);
    const repinned = await ledger.must("POST", `/maps/${own}/mirror/repin`, { pathname });
    t.same(inKernel(path, 1, 2), [1, null]);
    t.same(inKernel(repinned.aside as string, 1, 2), [1, 2]);
    t.match(await ledger.events("MIRROR_REPIN"), [{ seq: repinned.seq, map: own, attr: { aside: repinned.aside } }]);
    t.equal((await ledger.must("POST", `/maps/${own}/mirror/repin`, { pathname })).aside, null, "it is there");
    const nowhere = await ledger.ask("POST", `/maps/${own}/mirror/repin`, { pathname: "/sys/fs/bpf/other" });
    t.match(nowhere, { status: 404, json: { errno: "ENOENT", detail: /is not pinned at/ } });
  });

  t.test(
    "a directory of another ledger's is taken over, and every map is undecided until somebody decides",
    async (t) => {
      const theirs = await started(t, "take_over");
      const map = await theirs.map({ map_name: "m" });
      await theirs.must("POST", `/maps/${map}/pin`, { pathname: "/sys/fs/bpf/theirs" });
      await theirs.put(map, 1, 1);
      const running = await theirs.ask("POST", "/mirror/take-over");
      t.match(running, { status: 400, json: { errno: "EINVAL", detail: /follow this log already/ } });
      await theirs.stop();
      const ours = new Ledger(t, "take_over");
      await ours.start([], { MAPLEDGER_MIRROR: "auto" });
      const before = await ours.must("GET", "/mirror");
      t.match(before, { state: "off", directory: theirs.root, owner: String, detail: String, pins: [] });
      t.ok((before.foreign as string[]).includes(`${theirs.root}/by_id/${map}`), "the other ledger's pins");
      t.same(await ours.get("/readyz"), {
        status: "ready",
        mirror: { state: "off", detail: before.detail },
        degraded: [],
      });
      const own = await ours.map({ map_name: "m" });
      await ours.put(own, 1, 2);
      const { seq } = await ours.must("POST", "/mirror/take-over");
      await until("the mirror is on", async () => (await ours.must("GET", "/mirror")).state === "on");
      t.same(await ours.get("/readyz"), {
        status: "ready",
        mirror: { state: "on", detail: null },
        degraded: [],
      });
      const undecided = { policy: "report", interval_seconds: 0, undecided: true };
      t.same((await ours.must("GET", `/maps/${own}`)).drift, undecided);
      t.match(await ours.events("MIRROR_TAKE_OVER"), [{ seq, attr: { directory: ours.root, owner: before.owner } }]);
      await until("it is compared", async () => (await ours.events("MIRROR_DRIFT")).length === 1);
      t.same(inKernel(`${ours.root}/by_id/${own}`, 1), [1], "nothing is written");
      await ours.must("POST", `/maps/${own}/mirror/decide`, { take: "ledger" });
      t.equal((await ours.must("GET", `/maps/${own}`)).drift, null);
      t.same(inKernel(`${ours.root}/by_id/${own}`, 1), [2]);
    },
  );

  t.test("a map without a kernel map is told of once, at the start and later, and counted", async (t) => {
    const ledger = await started(t, "notice");
    const session = await ledger.must("POST", "/sessions", { ttl_seconds: 3600 });
    const exclusive = {
      map_type: "BPF_MAP_TYPE_HASH",
      key_size: 4,
      value_size: 8,
      max_entries: 4,
      map_name: "exclusive",
    };
    const hash = { excl_prog_hash: "00".repeat(32), excl_prog_hash_size: 32 };
    const created = await ledger.must("POST", `/sessions/${session.id}/maps`, { ...exclusive, ...hash });
    await ledger.must("POST", `/maps/${created.map_id}/pin`, { pathname: "/sys/fs/bpf/exclusive" });
    const told = (): unknown[] =>
      ledger.said.filter((line) => String(line).startsWith(`the kernel map of map ${created.map_id} (exclusive)`));
    await until("it is told", async () => told().length === 1);
    t.match(told()[0], /its state is off: a map with excl_prog_hash is not mirrored/);
    const { pin } = strange(t, "watched");
    const { id } = await adopt(ledger, { pinned: pin, on_replace: "report" });
    rmSync(pin);
    await until("it is lost", async () => ledger.said.some((line) => String(line).includes(`map ${id} (watched)`)));
    const { mirror } = (await ledger.must("GET", `/maps/${id}`)) as { mirror: Json };
    t.match(mirror, { state: "lost", kernel_id: Number, detail: String });
    t.match((await ledger.must("GET", "/mirror")).maps, { on: 0, lost: 1, off: 1 });
    const metrics = (await ledger.get("/metrics")) as string;
    t.match(metrics, /^mapledger_mirror_maps\{state="lost"\} 1$/m);
    t.match(metrics, /^mapledger_mirror_on 1$/m);
    t.equal(told().length, 1, "once");
    await ledger.stop();
    await ledger.start();
    t.equal(told().length, 1, "the next start tells of it before it serves");
  });
}

const reason = unfitForKernel();
if (reason !== null) t.pass("bpf(2)", { skip: reason });
else run(openBpf() as Bpf);
