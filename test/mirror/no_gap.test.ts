import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import t, { type Test } from "tap";
import type { Bpf } from "../../src/native/bpf.ts";
import { openBpf } from "../../src/native/probe.ts";
import { BPFFS, unfitForKernel } from "../support/bpffs.ts";
import { u64 } from "../support/mirror.ts";
import { OWN_NAME } from "../support/own_name.ts";
import { spawnService, startService } from "../support/service_process.ts";
import {
  faultsOf,
  isRecorded,
  kernelIdOf,
  makeVersioned,
  meddle,
  recordedVersion,
  sentinelOf,
  type VersionedMap,
  writeVersions,
} from "../support/versioned_maps.ts";
import { type Seen, Witness } from "../support/witness.ts";

/** Where a service is: its settings, its data, and its directory of bpffs. */
interface Place {
  readonly environment: Readonly<Record<string, string>>;
  readonly data: string;
  readonly bpffs: string;
}

/** How the service ends, under writes, and begins again. */
interface Round {
  readonly name: string;
  readonly signal: "SIGTERM" | "SIGKILL";
  /** While it is down, its kernel maps are changed. */
  readonly meddled: boolean;
  readonly args?: readonly string[];
  readonly between?: (place: Place) => void | Promise<void>;
}

const KILLED = { signal: "SIGKILL", meddled: true } as const;
const ROUNDS: readonly Round[] = [
  { name: "a stop", signal: "SIGTERM", meddled: false },
  { name: "kill -9", signal: "SIGKILL", meddled: false },
  { name: "kill -9, also while it starts", ...KILLED, between: killStarts },
  { name: "kill -9 and --rebuild", ...KILLED, args: ["--rebuild"] },
  { name: "the state's folder deleted", ...KILLED, between: ({ data }) => rmSync(join(data, "state"), FOLDER) },
  {
    name: "an upgrade whose state has another layout",
    signal: "SIGTERM",
    meddled: true,
    between: (place) => mark(place, { layout: 0 }),
  },
];
const FOLDER = { recursive: true, force: true };
const WRITING_MS = 300;
/** A start is killed when it has said that so many kernel maps are done. */
const KILLED_AT_MAPS = [2];

const reason = unfitForKernel();
if (reason !== null) t.pass("bpf(2)", { skip: reason });
else run(openBpf() as Bpf);

function run(bpf: Bpf): void {
  function through<T>(path: string, use: (fd: number) => T): T {
    const fd = bpf.get(path);
    if (fd < 0) throw new Error(`opening ${path}: ${fd}`);
    try {
      return use(fd);
    } finally {
      bpf.close(fd);
    }
  }

  /** A program on the maps, which runs until the test is over. */
  function watch(t: Test, { bpffs }: Place, maps: readonly VersionedMap[]): Witness {
    const fds = maps.map(({ id }) => bpf.get(`${bpffs}/by_id/${id}`));
    const sentinels = maps.map((map, at) => sentinelOf(map, fds[at] as number));
    const pins = maps.flatMap(({ id, type, kernelId }) =>
      [`by_id/${id}`, type].map((name) => ({ path: `${bpffs}/${name}`, kernelId })),
    );
    const witness = new Witness(bpf, sentinels, pins);
    t.teardown(() => witness.stop());
    for (const fd of fds) bpf.close(fd);
    return witness;
  }

  /** What is answered is seen, and what is seen was sent; nothing was away meanwhile. */
  async function check(t: Test, witness: Witness, maps: readonly VersionedMap[], when: string): Promise<Seen[]> {
    const seen = await witness.settled();
    for (const [at, { type, answered, sent }] of maps.entries()) {
      const { absent, back, last } = seen[at] as Seen;
      const isOne = last >= answered && last <= sent;
      t.ok(absent === 0 && back === 0 && isOne, `${when}: ${type}`, { ...seen[at], answered, sent });
    }
    t.equal(witness.pins.missed, 0, `${when}: every pin was its map's, whenever one looked`);
    return seen;
  }

  t.test(
    "a program that runs finds every map, and none that is older, while the service ends and begins",
    async (t) => {
      const place = placeOf(t, "gap");
      let service = await startService(place.environment);
      t.teardown(() => service.end("SIGKILL"));
      const maps = await makeVersioned(service.url);
      const pinOf = ({ id }: VersionedMap): string => `${place.bpffs}/by_id/${id}`;
      const witness = watch(t, place, maps);
      let hasMeddled = false;
      for (const { name, signal, meddled, args, between } of ROUNDS) {
        hasMeddled ||= meddled;
        const writers = maps.map((map) => writeVersions(service.url, map));
        await sleep(WRITING_MS);
        await service.end(signal);
        await Promise.all(writers);
        await check(t, witness, maps, `${name}, while it is down`);
        if (meddled) for (const map of maps) through(pinOf(map), (fd) => meddle(bpf, fd, map));
        await between?.(place);
        service = await startService(place.environment, args);
        const seen = await check(t, witness, maps, `${name}, when it is ready`);
        for (const [at, map] of maps.entries()) {
          t.equal(seen[at]?.last, await recordedVersion(service.url, map), `${map.type} has what is recorded`);
          t.equal(await kernelIdOf(service.url, map), map.kernelId, "it is the same map");
          const faults = through(pinOf(map), (fd) => faultsOf(bpf, fd, map));
          if (map.type === "BPF_MAP_TYPE_LRU_HASH" && hasMeddled) {
            t.strictSame(
              faults,
              { lacking: 1, changed: false, stray: false },
              "which elements it has is the kernel's choice",
            );
            t.equal(await isRecorded(service.url, map, map.fillers[0]), false, "the ledger has let it go, too");
          } else t.strictSame(faults, { lacking: 0, changed: false, stray: false }, "it was repaired");
        }
      }
      t.equal(await service.end("SIGTERM"), 0);
      t.comment(
        `the program ran ${witness.seen()[0]?.runs} times, the pins were looked at ${witness.pins.looked} times`,
      );

      const [array, hash, trie, lru] = maps as [VersionedMap, VersionedMap, VersionedMap, VersionedMap];
      through(pinOf(array), (fd) => bpf.update(fd, array.sentinel, u64(1)));
      for (const map of [hash, trie, lru]) through(pinOf(map), (fd) => bpf.delete(fd, map.sentinel));
      const [ofArray, ofHash, ofTrie, ofLru] = (await witness.settled()) as [Seen, Seen, Seen, Seen];
      const gaps = [ofArray.back, ofHash.absent, ofTrie.back, ofLru.absent];
      t.notOk(gaps.includes(0), "a gap does not escape the program", { gaps });
    },
  );

  t.test("after a reboot everything is made again before /readyz says yes", async (t) => {
    const place = placeOf(t, "reboot");
    const first = await startService(place.environment);
    const maps = await makeVersioned(first.url);
    await first.end("SIGKILL");
    rmSync(place.bpffs, FOLDER);
    mark(place, { boot: "an earlier one" });

    const port = await freePort();
    const child = spawnService({ ...place.environment, MAPLEDGER_PORT: String(port) });
    t.teardown(() => child.kill("SIGKILL"));
    child.stdout.resume();
    const refused = await untilReady(`http://127.0.0.1:${port}/readyz`);
    // What is not there yet shall not come while one looks.
    child.kill("SIGSTOP");
    t.comment(`/readyz said no ${refused} times`);
    for (const map of maps)
      for (const name of [`by_id/${map.id}`, map.type]) {
        const faults = through(`${place.bpffs}/${name}`, (fd) => faultsOf(bpf, fd, map));
        t.strictSame(faults, { lacking: 0, changed: false, stray: false }, `${name} is there with all its elements`);
      }
  });
}

/** Directories of a test's own, gone after it. */
function placeOf(t: Test, name: string): Place {
  const data = mkdtempSync(join(tmpdir(), `mapledger-${name}-`));
  const bpffs = `${BPFFS}/mapledger_${name}_${OWN_NAME}`;
  t.teardown(() => {
    rmSync(data, FOLDER);
    rmSync(bpffs, FOLDER);
  });
  return { environment: { MAPLEDGER_DATA: data, MAPLEDGER_MIRROR: "required", MAPLEDGER_BPFFS: bpffs }, data, bpffs };
}

async function killStarts({ environment }: Place): Promise<void> {
  for (const maps of KILLED_AT_MAPS) {
    const child = spawnService(environment);
    const exited = once(child, "exit");
    for await (const line of createInterface({ input: child.stdout }))
      if (line.includes(`recovering: ${maps} of`)) child.kill("SIGKILL");
    await exited;
  }
}

/** Changes what the state says about itself. */
function mark({ data }: Place, change: object): void {
  const marker = join(data, "state", "marker.json");
  writeFileSync(marker, JSON.stringify({ ...JSON.parse(readFileSync(marker, "utf8")), ...change }));
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}

/** How often it said 503 before it said 200. */
async function untilReady(url: string): Promise<number> {
  for (let refused = 0; ; ) {
    const status = await fetch(url).then(
      (response) => response.status,
      () => null,
    );
    if (status === 200) return refused;
    if (status === 503) refused++;
    await sleep(1);
  }
}
