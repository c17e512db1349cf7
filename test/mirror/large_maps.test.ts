import { existsSync } from "node:fs";
import t from "tap";
import type { Created, Wanted } from "../../src/mirror/make.ts";
import { type MapMaker, makeFor, takesLong } from "../../src/mirror/map_maker.ts";
import type { Bpf } from "../../src/native/bpf.ts";
import { openBpf } from "../../src/native/probe.ts";
import { unfitForKernel } from "../support/bpffs.ts";
import { Ledger } from "../support/ledger.ts";
import { array, hash, host, kernelMirror, put, source } from "../support/mirror.ts";
import { bpffs, valueAt } from "../support/pinning.ts";

/** Makes maps when the test says so. */
class HeldMaker implements MapMaker {
  readonly #bpf: Bpf;
  readonly asked: {
    readonly wanted: Wanted;
    readonly done: (made: Created) => void;
    readonly fail: (error: Error) => void;
  }[] = [];
  closed = false;

  constructor(bpf: Bpf) {
    this.#bpf = bpf;
  }

  make(wanted: Wanted): Promise<Created> {
    return new Promise((done, fail) => this.asked.push({ wanted, done, fail }));
  }

  /** Makes the one that was asked for first. Answers its descriptor. */
  go(): number {
    const { wanted, done } = this.asked.shift() as (typeof this.asked)[number];
    const made = makeFor(this.#bpf, { ledger: 2, machine: 2 }, wanted) as Created;
    done(made);
    return made.fd;
  }

  async close(): Promise<void> {
    this.closed = true;
  }
}

function run(bpf: Bpf): void {
  const large = { ...hash, maxEntries: 100_000 };

  t.test("what the kernel makes at once is not put off", (t) => {
    t.equal(takesLong(hash, host), false);
    t.equal(takesLong(large, host), true);
    t.equal(takesLong({ ...array, maxEntries: 2_000_000 }, host), true);
    t.equal(
      takesLong({ ...hash, btf: { btfId: 1, keyTypeId: 1, valueTypeId: 2 } }, host),
      true,
      "BTF takes as long as it takes",
    );
    t.end();
  });

  t.test("what is written and pinned while a map is being made is there when it is taken up", async (t) => {
    const { root } = bpffs(t);
    const maker = new HeldMaker(bpf);
    const mirror = kernelMirror(t, root, { maker });
    mirror.reached(1);
    t.same(mirror.apply([{ kind: "create", btf: null, map: large }], 2), []);
    t.match(mirror.status(large.id), { state: "waiting", detail: "its kernel map is being made" });
    t.same(mirror.apply([{ kind: "elements", map: large, changes: [put(1, 10)] }], 3), []);
    t.same(mirror.apply([{ kind: "pin", map: large, pathname: "/sys/fs/bpf/early" }], 4), []);
    const made = mirror.making(large.id);
    t.ok(made instanceof Promise);
    maker.go();
    await made;
    t.equal(mirror.making(large.id), null);
    const then = source(large, [put(1, 10)], "/sys/fs/bpf/early");
    t.same(mirror.open(then), { opening: "made", refusals: [] });
    t.match(mirror.status(large.id), { state: "on" });
    t.equal(valueAt(bpf, `${root}/early`, 1), 10);
    t.same(mirror.apply([{ kind: "elements", map: large, changes: [put(1, 11)] }], 5), []);
    t.equal(valueAt(bpf, `${root}/early`, 1), 11);
    mirror.close();
    t.ok(maker.closed);
  });

  t.test("one that is freed before it is made, or before it is taken up, is closed", async (t) => {
    const { root } = bpffs(t);
    const maker = new HeldMaker(bpf);
    const mirror = kernelMirror(t, root, { maker });
    mirror.reached(1);
    for (const isMade of [false, true]) {
      mirror.apply([{ kind: "create", btf: null, map: large }], 2);
      const made = mirror.making(large.id);
      let fd = isMade ? maker.go() : -1;
      if (isMade) await made;
      mirror.apply([{ kind: "free", map: large }], 3);
      if (!isMade) {
        fd = maker.go();
        await made;
      }
      t.equal(existsSync(`/proc/self/fd/${fd}`), false);
      t.equal(mirror.making(large.id), null);
    }
  });

  t.test("a maker that fails is a refusal, and it is tried again", async (t) => {
    const { root } = bpffs(t);
    const maker = new HeldMaker(bpf);
    let nowMs = 0;
    const mirror = kernelMirror(t, root, { maker, nowMs: () => nowMs });
    mirror.reached(1);
    mirror.apply([{ kind: "create", btf: null, map: large }], 2);
    const made = mirror.making(large.id);
    maker.asked.shift()?.fail(new Error("its thread has stopped"));
    await made;
    const from = source(large, [put(1, 10)]);
    t.match(mirror.open(from), { opening: "none", refusals: [{ errno: "EAGAIN", detail: "its thread has stopped" }] });
    nowMs += 10_000;
    t.same(mirror.retry(() => from).reopen, [large.id]);
    t.match(mirror.open(from), { opening: "none", refusals: [] });
    const again = mirror.making(large.id);
    maker.go();
    await again;
    t.match(mirror.open(from), { opening: "made" });
  });

  t.test("the creation of a large map is answered when programs find it", async (t) => {
    const ledger = new Ledger(t, "large");
    await ledger.start();
    const session = await ledger.must("POST", "/sessions", { ttl_seconds: 3600 });
    const attr = { map_type: "BPF_MAP_TYPE_HASH", key_size: 4, value_size: 8, max_entries: 100_000 };
    const created = await Promise.all(
      [1, 2, 3].map((at) => ledger.must("POST", `/sessions/${session.id}/maps`, { ...attr, map_name: `large${at}` })),
    );
    for (const { map_id: id } of created as { map_id: number }[]) {
      const { mirror } = (await ledger.must("GET", `/maps/${id}`)) as { mirror: { state: string; pinned: string } };
      t.equal(mirror.state, "on");
      await ledger.put(id, 1, 42);
      t.equal(valueAt(bpf, mirror.pinned, 1), 42);
    }
    await ledger.stop();
  });
}

const reason = unfitForKernel();
if (reason !== null) t.pass("bpf(2)", { skip: reason });
else run(openBpf() as Bpf);
