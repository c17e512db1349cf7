import t, { type Test } from "tap";
import type { Bpf } from "../../src/native/bpf.ts";
import { openBpf } from "../../src/native/probe.ts";
import { unfitForKernel } from "../support/bpffs.ts";
import { KernelSide } from "../support/kernel_side.ts";
import { Ledger, until } from "../support/ledger.ts";

/** What the ledger did while its kernel maps did not follow, told apart from what programs did meanwhile. */
function run(bpf: Bpf): void {
  const kernel = new KernelSide(bpf);

  async function begun(t: Test, name: string, policy: string, seconds = 0): Promise<[Ledger, number, string]> {
    const ledger = new Ledger(t, name);
    await ledger.start();
    const map = await ledger.map({});
    await ledger.must("PUT", `/maps/${map}/mirror`, { policy, interval_seconds: seconds });
    return [ledger, map, KernelSide.of(ledger, map)];
  }

  t.test("a ledger without events notes how far its kernel maps have come, too", async (t) => {
    const [ledger, map] = await begun(t, "fresh", "report");
    await ledger.put(map, 1, 1);
    const seq = kernel.through(`${ledger.root}/carried`, (fd) => {
      const value = Buffer.alloc(48);
      return bpf.lookup(fd, Buffer.alloc(4), value) === 0 ? Number(value.readBigUInt64LE(0)) : null;
    });
    t.equal(seq, await ledger.lastSeq());
  });

  t.test("--rebuild does not write back what a program has deleted", async (t) => {
    const [ledger, map, path] = await begun(t, "rebuilt", "report");
    for (const key of [1, 2, 3]) await ledger.put(map, key, key);
    await ledger.stop();
    kernel.delete(path, 2);
    kernel.put(path, { 3: 30 });
    await ledger.start(["--rebuild"]);
    t.same(kernel.elements(path), { 1: 1, 3: 30 });
    const [told] = await ledger.events("MIRROR_DRIFT");
    t.match(told, { map, attr: { policy: "report", at: "start", missing: 1, changed: 1, extra: 0 } });
    t.notMatch(told, { attr: { both_changed: 1 } });
  });

  t.test("what was imported is no change of the ledger's that the kernel map lacks", async (t) => {
    const [ledger, map, path] = await begun(t, "aba", "import", 0.1);
    await ledger.put(map, 1, 1);
    kernel.put(path, { 1: 2, 7: 7 });
    await until("it is imported", async () => {
      const { 1: one, 7: seven } = await ledger.elements(map);
      return one === 2 && seven === 7;
    });
    await ledger.stop();
    kernel.put(path, { 1: 1 });
    kernel.delete(path, 7);
    await ledger.start();
    t.same(kernel.elements(path), { 1: 1 });
    t.same(await ledger.elements(map), { 1: 1 });
  });
}

const reason = unfitForKernel();
if (reason !== null) t.pass("bpf(2)", { skip: reason });
else run(openBpf() as Bpf);
