import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, unlinkSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import t, { type Test } from "tap";
import { BPF_MAP_TYPE } from "../../src/abi/bpf.ts";
import type { Bpf } from "../../src/native/bpf.ts";
import { openBpf } from "../../src/native/probe.ts";
import { unfitForKernel } from "../support/bpffs.ts";
import { mapledger } from "../support/cli.ts";
import { leaveAsEarlier } from "../support/earlier_release.ts";
import { KernelSide, type Numbers } from "../support/kernel_side.ts";
import { type Json, Ledger, until } from "../support/ledger.ts";
import { u32 } from "../support/mirror.ts";
import { privateBpffs } from "../support/private_bpffs.ts";

/** What becomes of kernel maps in each situation, by each policy: who wins, which event tells of it, what a program finds. */

const POLICIES = ["import", "report", "repair"] as const;
type Policy = (typeof POLICIES)[number];

interface Map {
  readonly id: number;
  readonly path: string;
  readonly kernelId: number | null;
}
type Maps = Readonly<Record<Policy, Map>>;

/** What the ledger has, what strangers made of it, and what they did: one is missing, one changed, one extra. */
const RECORDED: Numbers = { 1: 1, 2: 2, 3: 3 };
const STRANGE: Numbers = { 2: 20, 3: 3, 4: 40 };
const COUNTS = { missing: 1, changed: 1, extra: 1 };
/** What both sides have in the end. */
const OUTCOMES: Readonly<Record<Policy, { readonly kernel: Numbers; readonly ledger: Numbers }>> = {
  import: { kernel: STRANGE, ledger: STRANGE },
  report: { kernel: STRANGE, ledger: RECORDED },
  repair: { kernel: RECORDED, ledger: RECORDED },
};
const SHAPE = { keySize: 4, valueSize: 8, maxEntries: 64, mapFlags: 0, name: "flows", mapExtra: 0n, numaNode: 0 };

function run(bpf: Bpf): void {
  const kernel = new KernelSide(bpf);

  /** A service with a map for each policy, with the same elements. */
  async function begun(t: Test, name: string, seconds = 0): Promise<[Ledger, Maps]> {
    const ledger = new Ledger(t, name, `${privateBpffs(t)}/mapledger`);
    await ledger.start();
    return [ledger, await mapsIn(ledger, seconds)];
  }

  async function mapsIn(ledger: Ledger, seconds = 0, type = "BPF_MAP_TYPE_HASH"): Promise<Maps> {
    const maps = {} as Record<Policy, Map>;
    for (const policy of POLICIES) {
      const id = await ledger.map({ map_type: type, map_name: policy });
      const path = KernelSide.of(ledger, id);
      for (const [key, value] of Object.entries(RECORDED)) await ledger.put(id, Number(key), value);
      await ledger.must("PUT", `/maps/${id}/mirror`, { policy, interval_seconds: seconds });
      maps[policy] = { id, path, kernelId: kernel.idAt(path) };
    }
    return maps;
  }

  function meddle({ path }: Map): void {
    kernel.delete(path, 1);
    kernel.put(path, { 2: 20, 4: 40 });
  }

  /** One test for each policy: both sides, the event, and the kernel map, which is the same one. */
  async function judge(t: Test, ledger: Ledger, maps: Maps, at: string | null): Promise<void> {
    for (const policy of POLICIES)
      await t.test(`policy ${policy}`, async (t) => {
        const { id, path, kernelId } = maps[policy];
        const outcome = OUTCOMES[policy];
        t.same(kernel.elements(path), outcome.kernel, "a program finds this");
        t.same(await ledger.elements(id), outcome.ledger, "the ledger has this");
        t.equal(kernel.idAt(path), kernelId, "it is the same kernel map");
        const told = await eventsOf(ledger, "MIRROR_DRIFT", id);
        if (policy === "import" && at === null) t.same(told, [], "imports tell of themselves");
        else t.match(told, [{ attr: { policy, ...COUNTS, ...(at === null ? {} : { at }) } }], "once");
        t.match(await mirrorOf(ledger, id), { state: "on" });
      });
  }

  async function eventsOf(ledger: Ledger, cmd: string, ...maps: readonly number[]): Promise<Json[]> {
    return (await ledger.events(cmd)).filter(({ map }) => maps.includes(map as number));
  }

  async function mirrorOf(ledger: Ledger, map: number): Promise<Json> {
    return (await ledger.must("GET", `/maps/${map}`)).mirror as Json;
  }

  /** An owner makes a map and pins it, over what is pinned there. */
  function deploy(path: string, elements: Numbers, shape: Partial<typeof SHAPE> = {}): void {
    const fd = bpf.create({ ...SHAPE, ...shape, type: BPF_MAP_TYPE.BPF_MAP_TYPE_HASH });
    if (existsSync(path)) unlinkSync(path);
    const ret = bpf.pin(fd, path);
    bpf.close(fd);
    if (ret < 0) throw new Error(`pinning ${path}: ${ret}`);
    kernel.put(path, elements);
  }

  /** A service, and a directory where owners pin what it adopts: none of these tests stops it. */
  let owned: Promise<{ ledger: Ledger; theirs: string }> | null = null;

  async function withOwners(): Promise<{ ledger: Ledger; theirs: string }> {
    const point = privateBpffs(t);
    const ledger = new Ledger(t, "owners", `${point}/mapledger`);
    await ledger.start();
    const theirs = `${point}/theirs`;
    mkdirSync(theirs);
    return { ledger, theirs };
  }

  async function adopted(name: string): Promise<{ ledger: Ledger; id: number; pin: string }> {
    owned ??= withOwners();
    const { ledger, theirs } = await owned;
    const pin = `${theirs}/${name}`;
    deploy(pin, RECORDED);
    const { map } = await ledger.must("POST", "/maps/adopt", { pinned: pin });
    return { ledger, id: (map as { id: number }).id, pin };
  }

  t.test(
    "the first start makes kernel maps, and a program finds all that was written, also when it has gone",
    async (t) => {
      const [ledger, maps] = await begun(t, "first");
      for (const { id, path } of Object.values(maps)) {
        t.same(kernel.elements(path), RECORDED);
        t.match(await mirrorOf(ledger, id), { state: "on", pinned: path });
      }
      t.same(await ledger.events("MIRROR_DRIFT"), []);
      await ledger.stop();
      for (const { path, kernelId } of Object.values(maps)) {
        t.equal(kernel.idAt(path), kernelId);
        t.same(kernel.elements(path), RECORDED);
      }
    },
  );

  t.test("stop and start", async (t) => {
    const [ledger, maps] = await begun(t, "SIGTERM");
    const lru = await mapsIn(ledger, 0, "BPF_MAP_TYPE_LRU_HASH");
    await ledger.stop();
    for (const map of [...Object.values(maps), ...Object.values(lru)]) meddle(map);
    await ledger.start();
    await judge(t, ledger, maps, "start");
    // What an LRU map has let go is gone by every policy that ends in equality.
    t.same(kernel.elements(lru.repair.path), { 2: 2, 3: 3 });
    t.same(kernel.elements(lru.report.path), STRANGE);
    t.same(kernel.elements(lru.import.path), STRANGE);
    t.same(await ledger.elements(lru.repair.id), { 2: 2, 3: 3 });
    const counts = { missing: 0, changed: 1, extra: 1, evicted: 1 };
    const told = await eventsOf(ledger, "MIRROR_DRIFT", ...Object.values(lru).map(({ id }) => id));
    t.equal(told.length, POLICIES.length);
    for (const { attr } of told) t.match(attr, counts);
  });

  t.test("kill -9 and start", async (t) => {
    const [ledger, maps] = await begun(t, "SIGKILL");
    await ledger.end("SIGKILL");
    for (const map of Object.values(maps)) meddle(map);
    await ledger.start();
    await judge(t, ledger, maps, "start");
  });

  t.test("an upgrade from a release without marks", async (t) => {
    const [ledger, maps] = await begun(t, "upgrade");
    const log = await ledger.must("GET", "/log");
    await ledger.stop();
    leaveAsEarlier(bpf, ledger.root, ledger.data, log.id as string, log.last_seq as number);
    for (const map of Object.values(maps)) meddle(map);
    await ledger.start();
    await judge(t, ledger, maps, "start");
    await ledger.stop();
    await ledger.start();
    t.equal((await ledger.events("MIRROR_DRIFT")).length, 4, "the next start finds what report has left, once more");
  });

  t.test("a reboot: own maps are made anew whatever the policy, an adopted one waits for its owner", async (t) => {
    const [ledger, maps] = await begun(t, "reboot");
    const point = ledger.root.slice(0, -"/mapledger".length);
    deploy(`${point}/flows`, RECORDED);
    const { map } = await ledger.must("POST", "/maps/adopt", { pinned: `${point}/flows` });
    const { id } = map as { id: number };
    await ledger.must("PUT", `/maps/${id}/mirror`, { policy: "import", interval_seconds: 0 });
    await ledger.end("SIGKILL");
    execFileSync("umount", ["-l", point]);
    execFileSync("mount", ["-t", "bpf", "bpf", point]);
    const marker = `${ledger.data}/state/marker.json`;
    if (existsSync(marker))
      writeFileSync(marker, JSON.stringify({ ...JSON.parse(readFileSync(marker, "utf8")), boot: "an earlier one" }));
    await ledger.start();
    for (const { path, kernelId } of Object.values(maps)) {
      t.same(kernel.elements(path), RECORDED);
      t.not(kernel.idAt(path), kernelId, "it is another kernel map");
    }
    t.match(await mirrorOf(ledger, id), { state: "waiting" });
    t.notOk(existsSync(KernelSide.of(ledger, id)), "none is made in its place");
    t.same(await ledger.events("MIRROR_DRIFT"), []);
    deploy(`${point}/flows`, { 7: 7 });
    await until("it follows its pin", async () => (await mirrorOf(ledger, id)).state === "on");
    await until("it is imported", async () => (await ledger.elements(id))[7] === 7);
    t.same(kernel.elements(`${point}/flows`), { 7: 7 }, "its owner's elements stay");
    t.match((await ledger.events("MIRROR_FOLLOW"))[0], { map: id });
  });

  t.test("a backup restored beside the running service, and in its place, leaves kernel maps alone", async (t) => {
    const [ledger, maps] = await begun(t, "backup");
    const backup = `${ledger.data}.backup`;
    const beside = new Ledger(t, "beside", ledger.root);
    t.teardown(() => rmSync(backup, { recursive: true, force: true }));
    rmSync(beside.data, { recursive: true });
    t.equal((await mapledger("backup", backup, "--data", ledger.data)).code, 0);
    t.equal((await mapledger("restore-backup", backup, "--data", beside.data)).code, 0);
    for (const { id } of Object.values(maps)) await ledger.put(id, 9, 9);
    const now = { ...RECORDED, 9: 9 };

    await beside.start([], { MAPLEDGER_MIRROR: "auto" });
    for (const { id, path } of Object.values(maps)) {
      t.match(await mirrorOf(beside, id), { state: "off", detail: /is held by/ });
      await beside.put(id, 1, 100);
      t.same(kernel.elements(path), now, "nothing is written by the one beside");
      t.match(await mirrorOf(ledger, id), { state: "on" });
    }
    await beside.stop();

    await ledger.stop();
    const away = `${ledger.data}.away`;
    renameSync(ledger.data, away);
    renameSync(beside.data, ledger.data);
    await ledger.start([], { MAPLEDGER_MIRROR: "auto" });
    for (const { id, path } of Object.values(maps)) {
      t.match(await mirrorOf(ledger, id), { state: "off", detail: /take-over/ });
      await ledger.put(id, 1, 200);
      t.same(kernel.elements(path), now, "nothing is written by the one in its place");
    }
    await ledger.stop();
    await t.rejects(ledger.start(), /the mirror is required/);
    renameSync(ledger.data, beside.data);
    renameSync(away, ledger.data);
    await ledger.start();
    for (const { id, path } of Object.values(maps)) {
      t.match(await mirrorOf(ledger, id), { state: "on" });
      t.same(kernel.elements(path), now);
    }
  });

  t.test("an owner deploys a map of the same shape again: the map follows its pin", async (t) => {
    const { ledger, id, pin } = await adopted("redeploy");
    const before = (await mirrorOf(ledger, id)).kernel_id;
    const old = bpf.get(pin);
    kernel.put(pin, { 3: 33 });
    deploy(pin, { 5: 5 });
    await until("it follows", async () => (await mirrorOf(ledger, id)).kernel_id === kernel.idAt(pin));
    await until("it is imported", async () => (await ledger.elements(id))[5] === 5);
    t.same(await ledger.elements(id), { 5: 5 });
    t.same(kernel.elements(pin), { 5: 5 }, "nothing is written to the owner's new map");
    const [follow] = await eventsOf(ledger, "MIRROR_FOLLOW", id);
    t.match(follow, { map: id, attr: { kernel_id: kernel.idAt(pin), was: before } });
    t.match(await ledger.elements(id, (follow?.seq as number) - 1), { 3: 33 }, "what the old one came to is recorded");
    const value = Buffer.alloc(8);
    t.equal(bpf.lookup(old, u32(3), value), 0, "the old one stays as it was, for whoever holds it");
    t.equal(Number(value.readBigUInt64LE(0)), 33);
    bpf.close(old);
  });

  t.test("an owner deploys a map of another shape: another map takes the pathname", async (t) => {
    const { ledger, id, pin } = await adopted("reshaped");
    deploy(pin, { 5: 5 }, { maxEntries: 128 });
    const byPath = async (): Promise<Json | undefined> =>
      ((await ledger.must("GET", "/maps?limit=100")).maps as Json[]).find(
        ({ pinned, id: other }) => (pinned as string[]).includes("/sys/fs/bpf/theirs/reshaped") && other !== id,
      );
    await until("another map is there", async () => (await byPath()) !== undefined);
    const next = (await byPath()) as Json;
    t.match(next, { max_entries: 128 });
    t.same(await ledger.elements(next.id as number), { 5: 5 });
    t.same(kernel.elements(pin), { 5: 5 }, "nothing is written to it");
  });

  t.test("an owner removes the pin, and pins later: the map is lost, and follows then", async (t) => {
    const { ledger, id, pin } = await adopted("unlinked");
    unlinkSync(pin);
    await until("it is lost", async () => (await mirrorOf(ledger, id)).state === "lost");
    // Whichever is looked at first: the pin, or who holds the kernel map.
    const what = /^(pin gone|held by nobody else)$/;
    t.match(await eventsOf(ledger, "MIRROR_FOUND", id), [{ attr: { what } }]);
    await sleep(100);
    deploy(pin, { 6: 6 });
    await until("it follows", async () => (await mirrorOf(ledger, id)).state === "on");
    await until("it is imported", async () => (await ledger.elements(id))[6] === 6);
    t.same(kernel.elements(pin), { 6: 6 });
  });

  t.test(
    "bpffs is unmounted and mounted anew below the running service: the same kernel maps are pinned again",
    async (t) => {
      const [ledger, maps] = await begun(t, "remount");
      const point = ledger.root.slice(0, -"/mapledger".length);
      const held = Object.values(maps).map(({ path }) => bpf.get(path));
      execFileSync("umount", ["-l", point]);
      await until("it is off", async () => (await mirrorOf(ledger, maps.repair.id)).state === "off");
      for (const { id } of Object.values(maps)) await ledger.put(id, 9, 9);
      for (const fd of held) {
        const ret = bpf.delete(fd, u32(1));
        if (ret < 0) throw new Error(`deleting: ${ret}`);
      }
      execFileSync("mount", ["-t", "bpf", "bpf", point]);
      await until("it is on", async () => (await mirrorOf(ledger, maps.repair.id)).state === "on");
      const { 1: _, ...left } = RECORDED;
      await until("they have what the ledger did meanwhile", async () =>
        Object.values(maps).every(({ path }) => kernel.idAt(path) !== null && kernel.elements(path)[9] === 9),
      );
      await until("it is repaired", async () => kernel.elements(maps.repair.path)[1] === 1);
      for (const { path, kernelId } of Object.values(maps)) t.equal(kernel.idAt(path), kernelId);
      t.same(kernel.elements(maps.import.path), { ...left, 9: 9 }, "import: what was deleted stays deleted");
      t.same(kernel.elements(maps.report.path), { ...left, 9: 9 }, "report: too");
      t.same(await ledger.elements(maps.import.id), { ...left, 9: 9 });
      t.same(await ledger.elements(maps.report.id), { ...RECORDED, 9: 9 });
      const whats = (await ledger.events("MIRROR_FOUND")).map(({ attr }) => (attr as Json).what);
      t.same(
        whats.filter((what) => what === "off" || what === "on"),
        ["off", "on"],
      );
      for (const fd of held) bpf.close(fd);
    },
  );

  t.test("bpffs is mounted after the service has started: kernel maps are made then", async (t) => {
    const point = privateBpffs(t);
    execFileSync("umount", [point]);
    const ledger = new Ledger(t, "late", `${point}/mapledger`);
    await ledger.start([], { MAPLEDGER_MIRROR: "auto" });
    const id = await ledger.map({});
    await ledger.put(id, 1, 1);
    t.match(await mirrorOf(ledger, id), { state: "off", detail: /no bpffs is mounted/ });
    execFileSync("mount", ["-t", "bpf", "bpf", point]);
    await until("it is on", async () => (await mirrorOf(ledger, id)).state === "on");
    t.same(kernel.elements(KernelSide.of(ledger, id)), { 1: 1 });
    t.match(await ledger.events("MIRROR_FOUND"), [{ attr: { what: "on" } }]);
    await ledger.put(id, 2, 2);
    t.same(kernel.elements(KernelSide.of(ledger, id)), { 1: 1, 2: 2 }, "and follow");
  });

  t.test("drift while the service runs", async (t) => {
    const [ledger, maps] = await begun(t, "running", 0.1);
    for (const map of Object.values(maps)) {
      const fd = bpf.get(map.path);
      meddle(map);
      bpf.close(fd);
    }
    await until("all is settled", async () => {
      const repaired = JSON.stringify(kernel.elements(maps.repair.path)) === JSON.stringify(RECORDED);
      const imported = JSON.stringify(await ledger.elements(maps.import.id)) === JSON.stringify(STRANGE);
      return repaired && imported && (await ledger.events("MIRROR_DRIFT")).length >= 2;
    });
    t.same(kernel.elements(maps.report.path), STRANGE);
    t.same(kernel.elements(maps.import.path), STRANGE);
    t.same(await ledger.elements(maps.report.id), RECORDED);
    t.same(await ledger.elements(maps.repair.id), RECORDED);
  });
}

const reason = unfitForKernel();
if (reason !== null) t.pass("bpf(2)", { skip: reason });
else run(openBpf() as Bpf);
