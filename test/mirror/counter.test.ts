import { mkdirSync, rmSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import t, { type Test } from "tap";
import { BPF_MAP_TYPE } from "../../src/abi/bpf.ts";
import type { Bpf } from "../../src/native/bpf.ts";
import { openBpf } from "../../src/native/probe.ts";
import { BPFFS, unfitForKernel } from "../support/bpffs.ts";
import { Counting } from "../support/counting.ts";
import { leaveAsEarlier } from "../support/earlier_release.ts";
import { hex, Ledger, until } from "../support/ledger.ts";
import { u32, u64 } from "../support/mirror.ts";
import { OWN_NAME } from "../support/own_name.ts";

/** How the service ends, and begins again. */
interface Way {
  readonly name: string;
  readonly signal: NodeJS.Signals;
  readonly args?: readonly string[];
  readonly isUpgrade?: true;
}

const WAYS: readonly Way[] = [
  { name: "stop and start", signal: "SIGTERM" },
  { name: "kill -9", signal: "SIGKILL" },
  { name: "kill -9 and --rebuild", signal: "SIGKILL", args: ["--rebuild"] },
  { name: "an upgrade", signal: "SIGTERM", isUpgrade: true },
];
const COUNTER = u32(0);
const TYPES = ["BPF_MAP_TYPE_ARRAY", "BPF_MAP_TYPE_HASH", "BPF_MAP_TYPE_LRU_HASH"] as const;
const IMPORTED_MS = 250;

function run(bpf: Bpf): void {
  /** Kernel maps with a counter each, the ledger's own and adopted ones, that are imported at intervals. */
  async function counted(t: Test, ledger: Ledger): Promise<number[]> {
    const base = `${BPFFS}/mlcounter${OWN_NAME}`;
    mkdirSync(base);
    t.teardown(() => rmSync(base, { recursive: true }));
    const maps: number[] = [];
    for (const type of TYPES) {
      maps.push(await ledger.map({ map_type: type }));
      const shape = {
        keySize: 4,
        valueSize: 8,
        maxEntries: 64,
        mapFlags: 0,
        name: type.slice(13),
        mapExtra: 0n,
        numaNode: 0,
      };
      const fd = bpf.create({ ...shape, type: BPF_MAP_TYPE[type] });
      bpf.pin(fd, `${base}/${type}`);
      bpf.close(fd);
      const { map } = await ledger.must("POST", "/maps/adopt", { pinned: `${base}/${type}` });
      maps.push((map as { id: number }).id);
    }
    for (const map of maps) {
      await ledger.put(map, 0, 1);
      await ledger.must("PUT", `/maps/${map}/mirror`, { policy: "import", interval_seconds: 0.1 });
    }
    return maps;
  }

  /** Commands for other elements, until the service answers no more. */
  async function write(ledger: Ledger, maps: readonly number[]): Promise<void> {
    for (let at = 0; ; at++) {
      const map = maps[at % maps.length] as number;
      try {
        await ledger.ask("PUT", `/maps/${map}/elements/${hex(u32(1 + (at % 20)))}`, { value: hex(u64(at)) });
      } catch {
        return;
      }
    }
  }

  t.test(
    "a program that counts never finds that it has counted less, however the service ends and begins",
    async (t) => {
      const ledger = new Ledger(t, "counter");
      await ledger.start();
      const maps = await counted(t, ledger);
      const fds = maps.map((map) => bpf.get(`${ledger.root}/by_id/${map}`));
      const program = new Counting(
        bpf,
        fds.map((mapFd) => ({ mapFd, key: COUNTER })),
      );
      t.teardown(() => program.stop());
      const check = async (when: string): Promise<void> => {
        for (const [at, { absent, back, last }] of (await program.settled()).entries())
          t.ok(absent === 0 && back === 0, `${when}: map ${maps[at]} counts to ${last}`, { absent, back });
      };
      for (const { name, signal, args = [], isUpgrade } of WAYS) {
        const writer = write(ledger, maps);
        for (const map of maps)
          await until(`map ${map} is imported`, async () => ((await ledger.elements(map))[0] as number) > 1);
        await sleep(IMPORTED_MS);
        const log = await ledger.must("GET", "/log");
        await ledger.end(signal);
        await writer;
        await check(`${name}, while the service is down`);
        if (isUpgrade === true) leaveAsEarlier(bpf, ledger.root, ledger.data, log.id as string, log.last_seq as number);
        await ledger.start(args);
        const before = program.counted();
        await check(`${name}, when it is ready`);
        for (const [at, map] of maps.entries()) {
          const imported = (await ledger.elements(map))[0] as number;
          t.ok(imported > 1 && imported <= (program.counted()[at]?.last as number), `map ${map} has ${imported}`, {
            before: before[at]?.last,
          });
        }
      }
      const fd = fds[0] as number;
      bpf.update(fd, COUNTER, u64(1));
      const [first] = await program.settled();
      t.ok((first?.back ?? 0) > 0, "a counter that is set back does not escape the program");
      t.comment(`the program has run ${program.counted()[0]?.runs} times`);
    },
  );
}

const reason = unfitForKernel();
if (reason !== null) t.pass("bpf(2)", { skip: reason });
else run(openBpf() as Bpf);
