import { mkdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import t, { type Test } from "tap";
import { BPF_MAP_TYPE, BPF_PROG_TYPE } from "../../src/abi/bpf.ts";
import { Layout } from "../../src/mirror/layout.ts";
import { ProgressMap } from "../../src/mirror/progress_map.ts";
import { openRealObject, type RealObject } from "../../src/mirror/real_objects.ts";
import type { Bpf } from "../../src/native/bpf.ts";
import { openBpf } from "../../src/native/probe.ts";
import type { ObjectSpec } from "../../src/syscall/command.ts";
import { BPFFS, unfitForKernel } from "../support/bpffs.ts";
import { mapledger } from "../support/cli.ts";
import { hex, type Json, Ledger } from "../support/ledger.ts";
import { u32, u64 } from "../support/mirror.ts";
import {
  type Content,
  FEW,
  identities,
  identityOf,
  isSame,
  type Kind,
  kernelContent,
  kindsOf,
  lastSeqIn,
  ledgerContent,
  type Policy,
  type Refers,
  type Roll,
  renewed,
  toldAtStart,
} from "../support/mirror_rounds.ts";
import { OWN_NAME } from "../support/own_name.ts";
import { random, SEED } from "../support/seed.ts";

/** How many rounds; else as many as begin within TIME_MS. */
const ROUNDS = process.env.ROUNDS === undefined ? null : Number(process.env.ROUNDS);
const TIME_MS = 45_000;
const CLIENTS = 4;
const STRANGERS_CHANGES = 4;
/** The key that one program alone writes, and nobody else; no random key is this one. */
const COUNTER = 0;
const TICK_MS = 2;
const PROGRAM: ObjectSpec = { kind: "prog", progType: BPF_PROG_TYPE.BPF_PROG_TYPE_XDP };
/** Stands for the service's socket, whose cookie is another after every start. */
const OWN_SOCKET = "the service's";

type End = "SIGTERM" | "SIGKILL" | "rebuild" | "restored";
const ENDS: readonly End[] = ["SIGKILL", "SIGTERM", "rebuild", "restored"];

interface Subject {
  readonly id: number;
  readonly kind: Kind;
  readonly policy: Policy;
  readonly adopted: boolean;
  /** Where commands for it go. */
  readonly route: string;
  /** The test's own descriptor of its kernel map. */
  readonly fd: number;
}

/** What became of a map in a round: elements that commands, or strangers while the service ran, may have changed. */
interface Round {
  readonly commanded: Map<number, Set<string>>;
  readonly meddled: Map<number, Set<string>>;
}

interface Sides {
  /** In the ledger where the kernel map is known to have come to. */
  readonly place: Content;
  /** At the log's end, and in the kernel then; in the kernel when strangers had been there; on both sides after the start. */
  readonly recorded: Content;
  readonly left: Content;
  readonly found: Content;
  readonly ledger: Content;
  readonly kernel: Content;
}

function run(bpf: Bpf): void {
  const cpus = cpusOf();
  const roll = random(SEED);
  const kinds = kindsOf(cpus);

  t.test("what others made of kernel maps while the service was away is theirs, by each policy", async (t) => {
    const world = new World(t, bpf, roll);
    await world.begin(kinds);
    const started = performance.now();
    let rounds = 0;
    while (ROUNDS === null ? performance.now() - started < TIME_MS : rounds < ROUNDS) {
      const end = ENDS[rounds < ENDS.length ? rounds : roll(ENDS.length)] as End;
      await world.round(++rounds, end);
    }
    const { compared, drifts } = world;
    t.comment(`SEED=${SEED}: ${rounds} rounds, ${world.subjects.length} maps, ${compared} elements compared`);
    t.comment(`drifts found: ${JSON.stringify(drifts)}; the program counted ${world.ticks} times`);
  });
}

/** A service, kernel maps of its own and adopted ones, a program that counts, and strangers. */
class World {
  readonly subjects: Subject[] = [];
  readonly drifts: Record<Policy, number> = { import: 0, report: 0, repair: 0 };
  compared = 0;
  ticks = 0;
  readonly #t: Test;
  readonly #bpf: Bpf;
  readonly #roll: Roll;
  readonly #ledger: Ledger;
  readonly #base: string;
  readonly #backup: string;
  /** What values refer to: descriptors in the session, and the strangers' own. */
  readonly #given: Record<Refers, number[]> = { maps: [], programs: [], sockets: [] };
  readonly #strange: Record<Refers, number[]> = { maps: [], programs: [], sockets: [] };
  /** Cookies of the strangers' sockets. */
  readonly #strangeSockets = new Set<string>();
  /** The kernel's ids of inner maps, by the ledger's. */
  readonly #innerIds = new Map<number, number>();
  readonly #counters = new Map<Subject, number>();
  /** Elements that were not the same on both sides after the last start. */
  readonly #drifted = new Map<Subject, ReadonlySet<string>>();

  constructor(t: Test, bpf: Bpf, roll: Roll) {
    this.#t = t;
    this.#bpf = bpf;
    this.#roll = roll;
    this.#base = `${BPFFS}/mlrounds${OWN_NAME}`;
    mkdirSync(this.#base);
    t.teardown(() => rmSync(this.#base, { recursive: true }));
    this.#ledger = new Ledger(t, "rounds");
    this.#backup = `${this.#ledger.data}.backup`;
    t.teardown(() => rmSync(this.#backup, { recursive: true, force: true }));
  }

  async begin(kinds: readonly Kind[]): Promise<void> {
    const ledger = this.#ledger;
    await ledger.start();
    const { id: session } = await ledger.must("POST", "/sessions", { ttl_seconds: 7200 });
    for (let at = 0; at < 3; at++) {
      const inner = await this.#create(session as number, "BPF_MAP_TYPE_HASH", { max_entries: 4 });
      this.#given.maps.push(inner.fd);
      this.#innerIds.set(inner.id, await this.#kernelId(inner.id));
      this.#strange.maps.push(this.#strangeMap("BPF_MAP_TYPE_HASH", { maxEntries: 4 }));
      const { facts } = this.#object(PROGRAM);
      const ours = { kind: "prog", id: facts.kind === "prog" ? facts.progId : 0 };
      this.#given.programs.push(await this.#open(session as number, ours));
      this.#strange.programs.push(this.#object(PROGRAM).fd);
      const socket = this.#object({ kind: "udp_bound" });
      this.#strange.sockets.push(socket.fd);
      if (socket.facts.kind === "socket") this.#strangeSockets.add(hex(u64(Number(socket.facts.cookie))));
    }
    this.#given.sockets.push(await this.#open(session as number, { kind: "udp_bound" }));
    for (const kind of kinds)
      for (const policy of kind.policies) {
        const shape = { key_size: kind.keyBytes, value_size: this.#valueSize(kind), max_entries: kind.maxEntries };
        const { id, fd } = await this.#create(session as number, kind.type, {
          ...shape,
          map_flags: kind.flags,
          ...(kind.refers === "maps" ? { inner_map_fd: this.#given.maps[0] } : {}),
        });
        await this.#add({ id, kind, policy, adopted: false, route: `/sessions/${session}/fds/${fd}` });
        if (kind.adopted) await this.#adopt(session as number, kind, policy);
      }
    const ticking = setInterval(() => this.#tick(), TICK_MS);
    this.#t.teardown(() => clearInterval(ticking));
    const made = await mapledger("backup", this.#backup, "--data", ledger.data);
    if (made.code !== 0) throw new Error(`making a backup: ${made.stderr}`);
  }

  async #create(session: number, type: string, attr: object): Promise<{ id: number; fd: number }> {
    const shape = { map_type: type, key_size: 4, value_size: 8, ...attr };
    const { map_id: id, fd } = await this.#ledger.must("POST", `/sessions/${session}/maps`, shape);
    return { id: id as number, fd: fd as number };
  }

  async #adopt(session: number, kind: Kind, policy: Policy): Promise<void> {
    const name = `${kind.type.slice("BPF_MAP_TYPE_".length).toLowerCase()}_${policy}`;
    const fd = this.#strangeMap(kind.type, {
      keySize: kind.keyBytes,
      valueSize: this.#valueSize(kind),
      maxEntries: kind.maxEntries,
      mapFlags: kind.flags,
    });
    const pinned = `${this.#base}/${name}`;
    this.#bpf.pin(fd, pinned);
    const { map } = await this.#ledger.must("POST", "/maps/adopt", { pinned, pathname: `/sys/fs/bpf/${name}` });
    const { id } = map as { id: number };
    const opened = kind.refers === null ? null : await this.#open(session, { kind: "map", map: id });
    const route = opened === null ? `/maps/${id}` : `/sessions/${session}/fds/${opened}`;
    await this.#add({ id, kind, policy, adopted: true, route });
  }

  async #open(session: number, what: object): Promise<number> {
    return (await this.#ledger.must("POST", `/sessions/${session}/fds`, what)).fd as number;
  }

  /** An object of the test's own, which lives as long as the test. */
  #object(spec: ObjectSpec): RealObject {
    const object = openRealObject(this.#bpf, spec);
    if (!("facts" in object)) throw new Error(`${object.detail}: ${object.ret}`);
    return object;
  }

  async #add(subject: Omit<Subject, "fd">): Promise<void> {
    const seconds = subject.adopted && subject.policy === "import" ? 0.05 : 0;
    const policy = { policy: subject.policy, interval_seconds: seconds };
    await this.#ledger.must("PUT", `/maps/${subject.id}/mirror`, policy);
    const fd = this.#bpf.get(`${this.#ledger.root}/by_id/${subject.id}`);
    if (fd < 0) throw new Error(`opening map ${subject.id}: ${fd}`);
    const whole = { ...subject, fd };
    this.subjects.push(whole);
    for (let key = 1; subject.kind.refers !== null && key <= FEW / 2; key++) {
      const value = hex(this.#value(subject.kind, this.#given));
      await this.#ledger.must("PUT", `${subject.route}/elements/${hex(u32(key))}`, { value });
    }
    if (subject.policy !== "repair" && subject.kind.type === "BPF_MAP_TYPE_HASH") this.#counters.set(whole, 0);
  }

  #strangeMap(type: Kind["type"], shape: Partial<Parameters<Bpf["create"]>[0]>): number {
    const plain = { keySize: 4, valueSize: 8, maxEntries: 1, mapFlags: 0, name: "strange", mapExtra: 0n, numaNode: 0 };
    const fd = this.#bpf.create({ ...plain, ...shape, type: BPF_MAP_TYPE[type] });
    if (fd < 0) throw new Error(`creating a ${type}: ${fd}`);
    return fd;
  }

  /** As BPF_MAP_CREATE takes it: of one CPU. */
  #valueSize({ type, valueBytes }: Kind): number {
    return type.includes("PERCPU") ? 8 : valueBytes;
  }

  async #kernelId(map: number): Promise<number> {
    return ((await this.#ledger.must("GET", `/maps/${map}`)).mirror as { kernel_id: number }).kernel_id;
  }

  /** The program: what it wrote is there when it comes back. */
  #tick(): void {
    for (const [subject, last] of this.#counters) {
      const value = Buffer.alloc(8);
      const there = this.#bpf.lookup(subject.fd, u32(COUNTER), value) === 0 ? Number(value.readBigUInt64LE(0)) : 0;
      if (there !== last)
        this.#t.fail(`map ${subject.id}: the program counted to ${last} and finds ${there}`, said(subject));
      this.#bpf.update(subject.fd, u32(COUNTER), u64(there + 1));
      this.#counters.set(subject, there + 1);
    }
    this.ticks++;
  }

  async round(number: number, end: End): Promise<void> {
    const round: Round = { commanded: new Map(), meddled: new Map() };
    const clients = Array.from({ length: CLIENTS }, () => this.#command(round));
    const until = 20 + this.#roll(200);
    for (let ms = 0; ms < until; ms += 20) {
      await sleep(20);
      this.#meddle(round.meddled);
    }
    const data = this.#ledger.data;
    await this.#ledger.end(end === "SIGTERM" ? "SIGTERM" : "SIGKILL");
    await Promise.all(clients);
    const seq = lastSeqIn(data);
    const left = this.#kernel();
    for (let times = 0; times < this.subjects.length; times++) this.#meddle(new Map());
    const found = this.#kernel();
    const places = this.#places();
    if (end === "restored") await this.#lookAtBackup(number, found);
    await this.#ledger.start(end === "rebuild" ? ["--rebuild"] : []);
    const told = await toldAtStart(this.#ledger, seq);
    for (const subject of this.subjects) {
      const [place, recorded, ledger] = await Promise.all([
        this.#content(subject, places.get(subject) ?? seq),
        this.#content(subject, seq),
        this.#content(subject),
      ]);
      const kernel = this.#kernelOf(subject);
      const of = (all: ReadonlyMap<Subject, Content>): Content =>
        renewed(subject.kind, recorded, all.get(subject) as Content);
      const sides = { place, recorded, left: of(left), found: of(found), ledger, kernel };
      this.#judge(`round ${number}, ${end}`, subject, round, sides, told.get(subject.id), end !== "SIGTERM");
    }
    this.#t.pass(`round ${number}: ${end}, ${this.compared} elements compared so far`);
  }

  /** A backup in the place of the ledger that it was made of: its kernel maps are not its. */
  async #lookAtBackup(number: number, found: ReadonlyMap<Subject, Content>): Promise<void> {
    const { data } = this.#ledger;
    renameSync(data, `${data}.away`);
    const restored = await mapledger("restore-backup", this.#backup, "--data", data);
    if (restored.code !== 0) throw new Error(`restoring a backup: ${restored.stderr}`);
    await this.#ledger.start([], { MAPLEDGER_MIRROR: "auto" });
    const { mirror } = await this.#ledger.must("GET", `/maps/${this.subjects[0]?.id}`);
    if ((mirror as Json).state !== "off")
      this.#t.fail(`round ${number}: a restored backup took the kernel maps`, { mirror });
    const round: Round = { commanded: new Map(), meddled: new Map() };
    const commands = this.#command(round, 40);
    await commands;
    await this.#ledger.stop();
    rmSync(data, { recursive: true });
    renameSync(`${data}.away`, data);
    for (const [subject, content] of this.#kernel())
      for (const is of identities(content, found.get(subject) as Content))
        if (!this.#isCounter(subject, is) && !isSame(content, found.get(subject) as Content, is))
          this.#t.fail(`round ${number}: a restored backup wrote to map ${subject.id}`, said(subject));
  }

  /** How far each kernel map is known to have come; none for those of which it is not known. */
  #places(): Map<Subject, number> {
    const progress = ProgressMap.open(this.#bpf, new Layout(this.#ledger.root).carried) as ProgressMap;
    const places = this.subjects.map((subject) => [subject, progress.place(subject.id)] as const);
    progress.close();
    return new Map(places.filter((one): one is [Subject, number] => one[1] !== null));
  }

  #kernel(): Map<Subject, Content> {
    return new Map(this.subjects.map((subject) => [subject, this.#kernelOf(subject)]));
  }

  #kernelOf({ fd, kind }: Subject): Content {
    const isOwn = (value: string): boolean => kind.refers === "sockets" && !this.#strangeSockets.has(value);
    return kernelContent(this.#bpf, fd, kind, (value) => (isOwn(value) ? OWN_SOCKET : value));
  }

  #content(subject: Subject, at?: number): Promise<Content> {
    const shown = (value: string): string => {
      const { refers } = subject.kind;
      if (refers === "sockets") return OWN_SOCKET;
      const id = refers === "maps" ? this.#innerIds.get(Buffer.from(value, "hex").readUInt32LE(0)) : undefined;
      return id === undefined ? value : hex(u32(id));
    };
    return ledgerContent(this.#ledger, subject, shown, at);
  }

  #isCounter(subject: Subject, identity: string): boolean {
    return this.#counters.has(subject) && identity === hex(u32(COUNTER));
  }

  /** Commands, until the service answers no more. */
  async #command(round: Round, most = Number.POSITIVE_INFINITY): Promise<void> {
    for (let sent = 0; sent < most; sent++) {
      const subject = this.subjects[this.#roll(this.subjects.length)] as Subject;
      const { kind, route } = subject;
      const key = kind.key(this.#roll);
      note(round.commanded, subject, key);
      try {
        const pick = this.#roll(10);
        if (pick < 3 && !kind.isArray) await this.#ledger.ask("DELETE", `${route}/elements/${hex(key)}`);
        else if (pick < 5 && kind.refers === null) {
          const keys = [key, ...Array.from({ length: 5 }, () => kind.key(this.#roll))];
          for (const one of keys) note(round.commanded, subject, one);
          const elements = keys.map((one) => ({ key: hex(one), value: hex(this.#value(kind, this.#given)) }));
          await this.#ledger.ask("POST", `${route}/batch/update`, { elements });
        } else
          await this.#ledger.ask("PUT", `${route}/elements/${hex(key)}`, {
            value: hex(this.#value(kind, this.#given)),
          });
      } catch {
        return;
      }
    }
  }

  /** `named`: whose descriptors stand for what it may refer to. */
  #value(kind: Kind, named: Readonly<Record<Refers, readonly number[]>>): Buffer {
    const value = kind.value(this.#roll);
    if (kind.refers === null) return value;
    const fds = named[kind.refers];
    const given = Buffer.alloc(kind.valueBytes);
    given.writeUInt32LE(fds[value.readUInt32LE(0) % fds.length] as number);
    return given;
  }

  /** What strangers do to a map: nothing stops them. */
  #meddle(meddled: Map<number, Set<string>>): void {
    const subject = this.subjects[this.#roll(this.subjects.length)] as Subject;
    const { kind, fd } = subject;
    for (let times = 1 + this.#roll(STRANGERS_CHANGES); times > 0; times--) {
      const key = kind.key(this.#roll);
      note(meddled, subject, key);
      if (this.#roll(3) === 0 && !kind.isArray) this.#bpf.delete(fd, key);
      else this.#bpf.update(fd, key, this.#value(kind, this.#strange));
    }
  }

  #judge(when: string, subject: Subject, round: Round, sides: Sides, told: Json | undefined, killed: boolean): void {
    const { policy, kind } = subject;
    const { place, recorded, left, found, ledger, kernel } = sides;
    const commanded = round.commanded.get(subject.id) ?? new Set();
    const meddled = round.meddled.get(subject.id) ?? new Set();
    /** Differences that the event must count, and those that it may. */
    const drift = { must: 0, may: 0 };
    for (const is of identities(recorded, left, found, ledger, kernel)) {
      this.compared++;
      const counts = this.#isCounter(subject, is);
      const wrong = (what: string): void => {
        const at = (content: Content): string => JSON.stringify(content.get(is) ?? null);
        const values = Object.fromEntries(Object.entries(sides).map(([side, content]) => [side, at(content)]));
        const who = { commanded: commanded.has(is), meddled: meddled.has(is) };
        this.#t.fail(`${when}: ${what}`, { ...said(subject), is, ...values, ...who });
      };
      const same = isSame(recorded, found, is);
      // Sent in the last moments, and not carried; or carried, but killed before the place was kept: then a stranger who has put
      // it back to what it was at that place is not told from a change that was not carried.
      const mayLag = killed && commanded.has(is) && (!isSame(recorded, left, is) || isSame(place, found, is));
      const drifted = meddled.has(is) || this.#drifted.get(subject)?.has(is) === true;
      const mustLag = mayLag && !drifted && isSame(left, found, is);
      if (!same && !mayLag) drift.must++;
      if (!same && !mustLag) drift.may++;
      if (!killed && !meddled.has(is) && !counts && policy !== "report" && !isSame(recorded, left, is))
        if (policy === "import" || !kind.evicts) wrong("a clean end left the kernel map behind");
      if (counts) continue;
      if (mustLag && !isSame(kernel, recorded, is)) wrong("what the kernel map had not received was not written");
      const isKept = isSame(kernel, found, is);
      if (policy === "repair") {
        if (!isSame(kernel, ledger, is)) wrong("it was not repaired");
        if (!isSame(ledger, recorded, is) && !(kind.evicts && !found.has(is))) wrong("a repair changed the ledger");
      } else if (!isKept && !(mayLag && isSame(kernel, recorded, is))) wrong("a start wrote over it");
      if (policy === "import" && !isSame(kernel, ledger, is)) wrong("it was not imported");
      if (policy === "report" && !isSame(ledger, recorded, is)) wrong("a report changed the ledger");
    }
    const differs = [...identities(ledger, kernel)].filter((is) => !isSame(ledger, kernel, is));
    this.#drifted.set(subject, new Set(differs));
    const sum = ["missing", "changed", "extra", "evicted"].reduce((all, name) => all + Number(told?.[name] ?? 0), 0);
    this.drifts[policy] += sum;
    if (sum < drift.must || sum > drift.may)
      this.#t.fail(`${when}: a wrong number of drifts was told`, { ...said(subject), ...drift, sum, told });
  }
}

function note(keys: Map<number, Set<string>>, { id, kind }: Subject, key: Buffer): void {
  const known = keys.get(id) ?? new Set();
  known.add(identityOf(kind, hex(key)));
  keys.set(id, known);
}

function said({ id, kind, policy, adopted }: Subject): object {
  return { map: id, type: kind.type, policy, adopted };
}

function cpusOf(): number {
  const last = readFileSync("/sys/devices/system/cpu/possible", "utf8").trim().split(/[-,]/).at(-1);
  return Number(last) + 1;
}

const reason = unfitForKernel();
if (reason !== null) t.pass("bpf(2)", { skip: reason });
else run(openBpf() as Bpf);
