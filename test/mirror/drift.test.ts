import { setTimeout as sleep } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import t, { type Test } from "tap";
import type { Bpf } from "../../src/native/bpf.ts";
import { openBpf } from "../../src/native/probe.ts";
import { unfitForKernel } from "../support/bpffs.ts";
import { hex, type Json, Ledger, until } from "../support/ledger.ts";
import { u32, u64 } from "../support/mirror.ts";

const INTERVAL_SECONDS = 0.2;

function run(bpf: Bpf): void {
  /** What a program or a stranger does. */
  function meddle(ledger: Ledger, map: number, change: (fd: number) => void): void {
    const fd = bpf.get(`${ledger.root}/by_id/${map}`);
    if (fd < 0) throw new Error(`opening map ${map}: ${fd}`);
    change(fd);
    bpf.close(fd);
  }

  function inKernel(ledger: Ledger, map: number, key: number): number | null {
    let found: number | null = null;
    meddle(ledger, map, (fd) => {
      const value = Buffer.alloc(8);
      if (bpf.lookup(fd, u32(key), value) === 0) found = Number(value.readBigUInt64LE(0));
    });
    return found;
  }

  const scribble = (fd: number): void => {
    bpf.update(fd, u32(1), u64(10));
    bpf.delete(fd, u32(2));
    bpf.update(fd, u32(4), u64(40));
  };

  async function scribbled(t: Test, name: string): Promise<{ ledger: Ledger; map: number }> {
    const ledger = new Ledger(t, name);
    await ledger.start();
    const map = await ledger.map({});
    for (const key of [1, 2, 3]) await ledger.put(map, key, key);
    meddle(ledger, map, scribble);
    return { ledger, map };
  }

  t.test("a prefix that was written anew with other bits behind it is mended, or taken over", async (t) => {
    const ledger = new Ledger(t, "bits");
    await ledger.start();
    const shape = { map_type: "BPF_MAP_TYPE_LPM_TRIE", key_size: 8, map_flags: ["BPF_F_NO_PREALLOC"] };
    const [given, other] = [Buffer.from("080000000a000000", "hex"), Buffer.from("080000000a010203", "hex")];
    for (const policy of ["repair", "import"]) {
      const map = await ledger.map({ ...shape, map_name: policy });
      await ledger.must("PUT", `/maps/${map}/elements/${hex(given)}`, { value: hex(u64(1)) });
      meddle(ledger, map, (fd) => bpf.update(fd, other, u64(1)));
      const drift = await ledger.must("GET", `/maps/${map}/drift`);
      t.match(drift, { missing: 0, changed: 1, extra: 0, differences: [{ key: hex(other) }] });
      await ledger.must("PUT", `/maps/${map}/mirror`, { policy, interval_seconds: INTERVAL_SECONDS });
      await until("nothing differs", async () => (await ledger.must("GET", `/maps/${map}/drift`)).changed === 0);
      const { elements } = await ledger.must("GET", `/maps/${map}/elements`);
      const key = hex(policy === "repair" ? given : other);
      t.match(elements, [{ key, value: hex(u64(1)) }]);
      meddle(ledger, map, (fd) => {
        const shown = Buffer.alloc(given.length);
        bpf.nextKey(fd, null, shown);
        t.equal(hex(shown), key);
      });
    }
  });

  t.test("GET drift tells what others have written, and changes nothing", async (t) => {
    const { ledger, map } = await scribbled(t, "report");
    const asked = await ledger.must("GET", `/maps/${map}/drift`);
    t.match(asked, { map_id: map, missing: 1, changed: 1, extra: 1 });
    t.same((asked.differences as Json[]).map((one) => JSON.stringify(one)).sort(), [
      `{"key":"${hex(u32(1))}","ledger":"${hex(u64(1))}","kernel":"${hex(u64(10))}"}`,
      `{"key":"${hex(u32(2))}","ledger":"${hex(u64(2))}","kernel":null}`,
      `{"key":"${hex(u32(4))}","ledger":null,"kernel":"${hex(u64(40))}"}`,
    ]);
    t.match(await ledger.must("GET", `/maps/${map}/drift?limit=1`), {
      missing: 1,
      changed: 1,
      extra: 1,
      differences: [{}],
    });
    t.equal(((await ledger.must("GET", `/maps/${map}/drift?limit=1`)).differences as unknown[]).length, 1);
    t.same(await ledger.elements(map), { 1: 1, 2: 2, 3: 3 });
    t.equal(inKernel(ledger, map, 4), 40);
    await ledger.must("POST", `/maps/${map}/mirror/resync`);
    t.match(await ledger.must("GET", `/maps/${map}/drift`), { missing: 0, changed: 0, extra: 0, differences: [] });
  });

  t.test("the policy report: an event whenever it is another than before", async (t) => {
    const { ledger, map } = await scribbled(t, "told");
    const policy = { policy: "report", interval_seconds: INTERVAL_SECONDS };
    t.match(await ledger.must("PUT", `/maps/${map}/mirror`, policy), { drift: policy, seq: Number });
    t.match(await ledger.must("GET", `/maps/${map}`), { drift: policy });
    await until("it is told", async () => (await ledger.events("MIRROR_DRIFT")).length > 0);
    await sleep(5 * INTERVAL_SECONDS * 1000);
    const told = await ledger.events("MIRROR_DRIFT");
    t.equal(told.length, 1, "once");
    t.match(told[0], { map, caller: "mapledger", attr: { policy: "report", missing: 1, changed: 1, extra: 1 } });
    t.equal(inKernel(ledger, map, 4), 40, "it is left as it is");
    meddle(ledger, map, (fd) => bpf.update(fd, u32(5), u64(50)));
    await until("it is told again", async () => (await ledger.events("MIRROR_DRIFT")).length === 2);
    t.match((await ledger.events("MIRROR_DRIFT"))[1], { attr: { missing: 1, changed: 1, extra: 2 } });
  });

  t.test("the policy repair: the ledger wins", async (t) => {
    const { ledger, map } = await scribbled(t, "repair");
    await ledger.must("PUT", `/maps/${map}/mirror`, { policy: "repair", interval_seconds: INTERVAL_SECONDS });
    const values = () => [1, 2, 3, 4].map((key) => inKernel(ledger, map, key));
    const wanted = [1, 2, 3, null];
    await until("every piece is mended", async () => isDeepStrictEqual(values(), wanted));
    t.same(values(), wanted);
    await until("it is told", async () => (await ledger.events("MIRROR_DRIFT")).length === 1);
    t.match(await ledger.events("MIRROR_DRIFT"), [{ attr: { policy: "repair", missing: 1, changed: 1, extra: 1 } }]);
    t.same(await ledger.elements(map), { 1: 1, 2: 2, 3: 3 });
  });

  t.test("the policy import: the kernel wins, and what it had gets a history", async (t) => {
    const { ledger, map } = await scribbled(t, "import");
    const before = await ledger.lastSeq();
    await ledger.must("PUT", `/maps/${map}/mirror`, { policy: "import", interval_seconds: INTERVAL_SECONDS });
    await until("it is taken over", async () => isDeepStrictEqual(await ledger.elements(map), { 1: 10, 3: 3, 4: 40 }));
    t.same(await ledger.elements(map, before), { 1: 1, 2: 2, 3: 3 }, "as it was");
    const batches = [
      ...(await ledger.events("BPF_MAP_DELETE_BATCH")),
      ...(await ledger.events("BPF_MAP_UPDATE_BATCH")),
    ];
    t.equal(batches.length, 2);
    for (const batch of batches) t.match(batch, { map, caller: "mapledger", session: null, attr: { imported: true } });
    for (const value of [11, 12]) {
      meddle(ledger, map, (fd) => bpf.update(fd, u32(1), u64(value)));
      await until("it is taken over again", async () => (await ledger.elements(map))[1] === value);
    }
    const { versions } = await ledger.must("GET", `/maps/${map}/elements/${hex(u32(1))}/history`);
    const values = (versions as Json[]).map(({ value }) => value);
    t.same(values.sort(), [1, 10, 11, 12].map((value) => hex(u64(value))).sort());
    await ledger.stop();
    await ledger.start();
    t.same(await ledger.elements(map), { 1: 12, 3: 3, 4: 40 });
    meddle(ledger, map, (fd) => bpf.update(fd, u32(6), u64(60)));
    await until("the next start goes on with it", async () => (await ledger.elements(map))[6] === 60);
    t.match(await ledger.must("GET", `/maps/${map}/drift`), { missing: 0, changed: 0, extra: 0 });
  });

  t.test("counters that a program keeps in an array, frozen for user space, are taken over", async (t) => {
    const ledger = new Ledger(t, "counters");
    await ledger.start();
    const map = await ledger.map({ map_type: "BPF_MAP_TYPE_PERCPU_ARRAY", max_entries: 4 });
    await ledger.must("PUT", `/maps/${map}/mirror`, { policy: "import", interval_seconds: INTERVAL_SECONDS });
    const { value_bytes: _, ...shown } = await ledger.must("GET", `/maps/${map}/elements/00000000`);
    const value = Buffer.alloc((shown.value as string).length / 2, 7);
    meddle(ledger, map, (fd) => bpf.update(fd, u32(2), value));
    await ledger.must("POST", `/maps/${map}/freeze`);
    await until(
      "it is taken over",
      async () => (await ledger.must("GET", `/maps/${map}/elements/02000000`)).value === hex(value),
    );
    t.match(await ledger.must("GET", `/maps/${map}/drift`), { missing: 0, changed: 0, extra: 0 });
  });

  t.test("a large map is compared in pieces, while commands go on, and they are no drift", async (t) => {
    const ledger = new Ledger(t, "large");
    await ledger.start();
    const entries = 100_000;
    const map = await ledger.map({ max_entries: entries });
    const fd = `/maps/${map}`;
    for (let from = 0; from < entries; from += 10_000) {
      const elements = Array.from({ length: 10_000 }, (_, at) => ({ key: hex(u32(from + at)), value: hex(u64(1)) }));
      await ledger.must("POST", `${fd}/batch/update`, { elements });
    }
    meddle(ledger, map, (fd) => bpf.update(fd, u32(77_777), u64(2)));
    let writing = true;
    const writes = (async () => {
      for (let at = 0; writing; at++) {
        await ledger.put(map, at % 1000, at);
        if (at % 3 === 0) await ledger.ask("DELETE", `${fd}/elements/${hex(u32(1000 + (at % 1000)))}`);
      }
    })();
    for (let round = 0; round < 3; round++) {
      const { differences, ...counts } = await ledger.must("GET", `${fd}/drift`);
      t.match(counts, { missing: 0, changed: 1, extra: 0 });
      t.match(differences, [{ key: hex(u32(77_777)), kernel: hex(u64(2)) }]);
    }
    writing = false;
    await writes;
  });

  t.test("what the kernel does not tell is said", async (t) => {
    const ledger = new Ledger(t, "untold");
    await ledger.start();
    const queue = await ledger.map({ map_type: "BPF_MAP_TYPE_QUEUE", key_size: 0 });
    t.match(await ledger.ask("GET", `/maps/${queue}/drift`), {
      status: 405,
      json: { detail: /shows only the next value/ },
    });
    const refused = await ledger.ask("PUT", `/maps/${queue}/mirror`, { policy: "import", interval_seconds: 1 });
    t.match(refused, { status: 405, json: { detail: /^nothing can be imported: / } });
    t.match(await ledger.ask("GET", "/maps/99/drift"), { status: 404 });
    for (const body of [
      { policy: "ignore", interval_seconds: 1 },
      { policy: "report" },
      { policy: "report", interval_seconds: -1 },
    ])
      t.match(await ledger.ask("PUT", `/maps/${queue}/mirror`, body), { status: 400 });
    t.match(await ledger.must("PUT", `/maps/${queue}/mirror`, { policy: "report", interval_seconds: 0 }), {
      drift: {},
    });
  });
}

const reason = unfitForKernel();
if (reason !== null) t.pass("bpf(2)", { skip: reason });
else run(openBpf() as Bpf);
