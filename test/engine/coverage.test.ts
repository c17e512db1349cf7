import t from "tap";
import { CMD } from "../../src/abi/service.ts";
import { covers, type MapLimits, mapLimitsOf } from "../../src/access/map_limits.ts";
import { UNLIMITED } from "../../src/access/quotas.ts";
import { parseGrants } from "../../src/access/scopes.ts";
import type { Engine } from "../../src/engine/engine.ts";
import { LargeCommands } from "../../src/engine/large_commands.ts";
import { isLarge, mayBeLarge } from "../../src/engine/pieces.ts";
import { answerQuery } from "../../src/engine/queries.ts";
import type { Ran, Reply, Request } from "../../src/engine/request.ts";
import type { EngineStats } from "../../src/engine/stats.ts";
import { MAPS_A_TURN } from "../../src/engine/turns.ts";
import { Metrics } from "../../src/http/server/metrics.ts";
import type { MapRecord } from "../../src/maps/map.ts";
import { LOOKED_AT_MAX } from "../../src/syscall/coverage.ts";
import type { TreeStatus } from "../../src/tree/ports.ts";
import { createAttr } from "../support/commands.ts";
import { memoryEngine } from "../support/memory_engine.ts";
import { MemoryLog } from "../support/memory_log.ts";
import { random, SEED } from "../support/seed.ts";

const WHO = { session: 1, caller: "root" } as const;
const LIMITS = 1;
const GLOBS = ["a*", "/sys/fs/bpf/a/*"];

/** An engine with a session and callers' globs, that counts the maps that are looked at. */
class Subject {
  readonly log = new MemoryLog();
  readonly engine: Engine = memoryEngine({ log: this.log });
  looked = 0;

  constructor() {
    const { maps } = this.engine.state;
    const from = maps.from.bind(maps);
    const count = (): number => this.looked++;
    maps.from = function* (key) {
      for (const row of from(key)) {
        count();
        yield row;
      }
    };
    this.engine.callerLimits.set([this.limits]);
    this.run({ cmd: CMD.SESSION_OPEN, ...WHO, session: 0, attr: { name: "", ttlMs: 60_000 } });
    for (const pathname of ["/sys/fs/bpf/a", "/sys/fs/bpf/o"])
      this.run({ cmd: CMD.MKDIR, ...WHO, session: 0, attr: { pathname } });
  }

  get limits() {
    const limits = mapLimitsOf(parseGrants(GLOBS.map((glob) => `read@${glob}`).join())) as MapLimits;
    return { ...limits, id: LIMITS };
  }

  run(request: Request): Ran {
    return this.engine.run([request])[0] as Ran;
  }

  create(name: string): { fd: number; id: number } {
    const attr = createAttr({ mapName: Buffer.from(name.padEnd(16, "\0")) });
    const { outcome } = this.run({ cmd: CMD.BPF_MAP_CREATE, ...WHO, attr });
    return { fd: outcome.ret, id: outcome.map };
  }

  /** So many maps more, like map 1 but for their names; beside commands, which are slow with so many descriptors. */
  many(count: number, nameOf: (at: number) => string): void {
    const { state } = this.engine;
    const like = state.map(1) ?? state.map(this.create("other").id);
    for (let at = 0; at < count; at++) {
      const id = state.lastId("map") + 1;
      state.createMap({ ...(like as MapRecord), id, name: nameOf(at) });
      state.hold(id);
    }
    state.settle();
  }

  nextId(startId: number): Request {
    return { cmd: CMD.BPF_MAP_GET_NEXT_ID, ...WHO, limits: LIMITS, attr: { startId, openFlags: 0 } };
  }

  text(stats: EngineStats): Promise<string> {
    const access = { callers: [], limits: UNLIMITED, unknown: {} };
    return new Metrics().text(
      stats,
      { waiting: 0, streams: 0, degraded: [], reached: { index: 0, history: 0 } },
      { size: 0, refusal: null } as unknown as TreeStatus,
      access,
      [],
    );
  }

  /** All ids, by walking. */
  walk(): number[] {
    const ids: number[] = [];
    for (let id = 0; ; ) {
      const { outcome } = this.run(this.nextId(id));
      if (outcome.errno !== 0) return ids;
      id = outcome.map;
      ids.push(id);
    }
  }

  /** The same from each map's name and pins. */
  covered(): number[] {
    const { state } = this.engine;
    const all = [...state.maps.from("")].map(([, map]) => map);
    const pins = [...state.bpffs.pinned()];
    const pinsOf = (id: number) => pins.filter(({ map }) => map === id).map(({ pathname }) => pathname);
    return all.filter(({ id, name }) => covers(GLOBS, { name, pins: pinsOf(id) })).map(({ id }) => id);
  }
}

t.test("a walk of ids by globs looks at each map once, however often it is asked, and at what comes", async (t) => {
  const subject = new Subject();
  const others = 3 * LOOKED_AT_MAX;
  subject.many(others - 1, (at) => (at === 4 ? "ann" : "other"));
  subject.looked = 0;
  t.same(subject.walk(), [6]);
  // Each answer looks twice besides: whether the next id of all is the one.
  t.ok(subject.looked <= others + 4, `${subject.looked} of ${others} maps`);
  subject.looked = 0;
  t.same(subject.walk(), [6]);
  t.ok(subject.looked <= 4, `${subject.looked} once they are known`);
  const { fd } = subject.create("other");
  subject.create("another");
  subject.looked = 0;
  t.same(subject.walk(), [6, others + 2]);
  t.ok(subject.looked <= 8, `${subject.looked} of two more`);
  subject.run({
    cmd: CMD.BPF_OBJ_PIN,
    ...WHO,
    target: { by: "fd", fd },
    attr: { pathname: "/sys/fs/bpf/a/x", fileFlags: 0, pathFd: 0 },
  });
  subject.looked = 0;
  t.same(subject.walk(), [6, others + 1, others + 2]);
  t.ok(subject.looked <= 8, `${subject.looked} when one is pinned`);
});

t.test("before a walk that has far to go, maps are looked at a piece a turn", async (t) => {
  const subject = new Subject();
  const { engine } = subject;
  subject.many(3 * LOOKED_AT_MAX - 1, (at) => (at % LOOKED_AT_MAX === 1 ? "ann" : "other"));
  const pieces = new LargeCommands({ sources: engine.sources.reads, run: (piece) => subject.run(piece) });
  const ask = (startId: number): Reply | null => {
    const request = subject.nextId(startId);
    if (!mayBeLarge(request) || !isLarge(engine.sources.reads, request)) return subject.run(request);
    let answer: Reply | null = null;
    pieces.add(request, (reply) => {
      answer = reply;
    });
    while (pieces.count > 0) {
      subject.looked = 0;
      pieces.step();
      t.ok(subject.looked <= LOOKED_AT_MAX + 2, `${subject.looked} in one turn`);
    }
    return answer;
  };
  t.match(ask(0), { outcome: { map: 3 } });
  t.match(ask(2 * LOOKED_AT_MAX + 3), { outcome: { ret: -1 } });
  t.match(ask(3), { outcome: { map: LOOKED_AT_MAX + 3 } });
  t.equal(isLarge(engine.sources.reads, subject.nextId(0) as never), false, "nothing is left to look at");
});

t.test("lists of what globs cover are looked for a piece a turn", async (t) => {
  const subject = new Subject();
  const { engine } = subject;
  const { fd } = subject.create("other");
  const pin = (pathname: string) =>
    subject.run({
      cmd: CMD.BPF_OBJ_PIN,
      ...WHO,
      target: { by: "fd", fd },
      attr: { pathname, fileFlags: 0, pathFd: 0 },
    });
  const { fd: ann } = subject.create("ann");
  for (let at = 0; at < 2 * LOOKED_AT_MAX; at++) pin(`/sys/fs/bpf/o/${at}`);
  subject.many(2 * LOOKED_AT_MAX, () => "other");
  subject.run({
    cmd: CMD.BPF_OBJ_PIN,
    ...WHO,
    target: { by: "fd", fd: ann },
    attr: { pathname: "/sys/fs/bpf/z", fileFlags: 0, pathFd: 0 },
  });
  let turns = 0;
  let isOver = false;
  const count = (): void => {
    turns++;
    if (!isOver) setImmediate(count);
  };
  const ask = async (name: "maps" | "pins", after: never) => {
    turns = 0;
    isOver = false;
    setImmediate(count);
    const answer = await answerQuery(engine.sources, name, { after, limit: 10, limits: LIMITS });
    isOver = true;
    return answer;
  };
  t.match(await ask("pins", "" as never), [{ pathname: "/sys/fs/bpf/z", map: 2 }]);
  t.ok(turns >= 2, `${turns} turns`);
  t.match(await ask("maps", 0 as never), [{ id: 2 }]);
  t.ok(turns >= 2, `${turns} turns`);
});

t.test(
  "the metrics' figures count maps a piece a turn, however many ask, and say how many have no series",
  async (t) => {
    const subject = new Subject();
    subject.many(3 * MAPS_A_TURN - 1, () => "other");
    const perTurn: number[] = [];
    let isOver = false;
    const count = (): void => {
      perTurn.push(subject.looked);
      subject.looked = 0;
      if (!isOver) setImmediate(count);
    };
    subject.looked = 0;
    setImmediate(count);
    const asked = Array.from({ length: 4 }, () => answerQuery(subject.engine.sources, "stats", {}));
    const [stats] = (await Promise.all(asked)) as [EngineStats, ...EngineStats[]];
    isOver = true;
    t.match(stats, { mapCount: 3 * MAPS_A_TURN, mirrorMaps: { off: 3 * MAPS_A_TURN } });
    t.equal(stats.maps.length, 1000);
    t.equal(stats.maps.at(-1)?.id, 1000, "the first by id");
    t.ok(
      perTurn.every((looked) => looked <= MAPS_A_TURN + 1),
      `${perTurn} maps a turn`,
    );
    t.match(await subject.text(stats), new RegExp(`^mapledger_maps_without_series ${3 * MAPS_A_TURN - 1000}$`, "m"));
  },
);

t.test(
  "the pins of a map are matched once, and then those that come and go, however often globs are asked",
  async (t) => {
    const COUNT = 500;
    const subject = new Subject();
    const { engine } = subject;
    const { state } = engine;
    const { fd, id } = subject.create("other");
    const pin = (pathname: string) =>
      subject.run({
        cmd: CMD.BPF_OBJ_PIN,
        ...WHO,
        target: { by: "fd", fd },
        attr: { pathname, fileFlags: 0, pathFd: 0 },
      });
    const read = () =>
      subject.run({
        cmd: CMD.BPF_MAP_LOOKUP_ELEM,
        ...WHO,
        limits: LIMITS,
        target: { by: "id", id },
        key: Buffer.alloc(4),
        value: null,
        flags: 0n,
      });
    for (let at = 0; at < COUNT; at++) pin(`/sys/fs/bpf/o/${at}`);
    let matched = 0;
    const pinsOf = state.bpffs.pinsOf.bind(state.bpffs);
    state.bpffs.pinsOf = (map) => {
      const pins = pinsOf(map);
      const walk = function* () {
        for (const pathname of pins) {
          matched++;
          yield pathname;
        }
      };
      return { size: pins.size, has: pins.has.bind(pins), [Symbol.iterator]: walk } as unknown as ReadonlySet<string>;
    };
    const page = { after: "" as never, limit: COUNT, limits: LIMITS };
    t.same(await answerQuery(engine.sources, "pins", page), []);
    t.match(read(), { failure: "scope missing" });
    t.equal(matched, COUNT);
    pin("/sys/fs/bpf/a/x");
    t.match(await answerQuery(engine.sources, "pins", page), { length: COUNT });
    t.match(read(), { outcome: { map: id } });
    subject.run({ cmd: CMD.UNLINK, ...WHO, session: 0, attr: { pathname: "/sys/fs/bpf/a/x" } });
    t.match(read(), { failure: "scope missing" });
    t.equal(matched, COUNT);
  },
);

t.test("what walks find is what names and pins say, whatever comes, goes and is taken back", async (t) => {
  const subject = new Subject();
  const { engine, log } = subject;
  const chance = random(SEED);
  const fds: number[] = [];
  const paths = Array.from({ length: 12 }, (_, at) => `/sys/fs/bpf/${at % 2 === 0 ? "a" : "o"}/${at}`);
  const pin = (fd: number): Request => {
    const pathname = paths[chance(paths.length)] as string;
    return { cmd: CMD.BPF_OBJ_PIN, ...WHO, target: { by: "fd", fd }, attr: { pathname, fileFlags: 0, pathFd: 0 } };
  };
  const unlink = (): Request => ({
    cmd: CMD.UNLINK,
    ...WHO,
    session: 0,
    attr: { pathname: paths[chance(paths.length)] as string },
  });
  const create = (): Request => ({
    cmd: CMD.BPF_MAP_CREATE,
    ...WHO,
    attr: createAttr({ mapName: Buffer.from((chance(2) === 0 ? "ann" : "other").padEnd(16, "\0")) }),
  });
  const refused = { ...unlink(), attr: { pathname: "/sys/fs/bpf/nothing" } } as Request;
  const { append } = log;
  for (let step = 0; step < 800; step++) {
    const fd = fds[chance(Math.max(fds.length, 1))] ?? 99;
    switch (chance(7)) {
      case 0: {
        const { outcome } = subject.run(create());
        if (outcome.errno === 0) fds.push(outcome.ret);
        break;
      }
      case 1:
      case 2:
        subject.run(pin(fd));
        break;
      case 3:
        subject.run(unlink());
        break;
      case 4:
        if (subject.run({ cmd: CMD.CLOSE, ...WHO, fd, attr: { reason: "close" } }).outcome.errno === 0)
          fds.splice(fds.indexOf(fd), 1);
        break;
      case 5:
        t.match(engine.runWhole([create(), pin(fd), unlink(), refused], { map: 0, seq: engine.seq }), {});
        break;
      case 6:
        log.append = () => {
          throw new Error("no log");
        };
        engine.run([create(), subject.nextId(0), pin(fd), unlink()]);
        log.append = append;
        break;
    }
    if (chance(3) > 0) continue;
    const [walked, covered] = [subject.walk(), subject.covered()];
    if (walked.join() !== covered.join()) {
      t.same(walked, covered, `seed ${SEED}, step ${step}`);
      return;
    }
    const pins = [...engine.state.bpffs.pinned()];
    const isNoted = pins.every(({ map, pathname }) => engine.state.bpffs.pinsOf(map).has(pathname));
    if (!isNoted) t.fail(`a pin is not known, seed ${SEED}, step ${step}`);
  }
});
