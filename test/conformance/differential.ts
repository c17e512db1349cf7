import { MAP_INFO, MAP_INFO_BYTES } from "../../src/abi/bpf.ts";
import { Contents, UNORDERED } from "./contents.ts";
import { Judge, type Side } from "./judge.ts";
import { isLossy, Lossy } from "./lossy.ts";
import { ReadBatches } from "./read_batch.ts";
import { type Attr, idsOf, keyFor, roomFor, sizes, u32Hex, valueFor } from "./requests.ts";
import { createAttr, type Shape, STREAM_TYPES, type StreamType, typeNumber, wantsBtf } from "./shapes.ts";
import { JUNK, type Key, type Step, type Value } from "./stream.ts";
import type { Answer, Subject } from "./subject.ts";
import { type Descriptor, type Pair, type Twin, Twins } from "./twins.ts";
import { KEY_WANTS, VALUE_WANTS } from "./wanted.ts";

type Of<Do extends Step["do"]> = Extract<Step, { do: Do }>;

/** Elements above this are not put in: maps of that shape are made to see whether they can be made. */
const PROBE_BYTES = 8192;
const PAGE_BYTES = 4096;
/** Bytes of an access to memory. */
const ACCESS_BYTES = 12;

/** Their memory exists inside a kernel only: the service says ENOTSUPP. */
const RINGS: ReadonlySet<StreamType> = new Set(["RINGBUF", "USER_RINGBUF", "ARENA"]);
const OF_MAPS: ReadonlySet<StreamType> = new Set(["ARRAY_OF_MAPS", "HASH_OF_MAPS"]);
/** Maps of sockets: the kernel lets go of a socket some time after its map, and it is busy until then. */
const OF_SOCKETS: ReadonlySet<StreamType> = new Set(["SOCKMAP", "SOCKHASH", "REUSEPORT_SOCKARRAY"]);

/**
 * Sends the same commands to two subjects and throws where they do not answer alike. What the kernel leaves free is the
 * order of a hash: which key comes next or last, and which elements are in a batch that is smaller than the map; what an
 * LRU map puts out; and when it is done with what was let go of.
 */
export class Differential {
  /** How many commands were about maps of each type. */
  readonly judged = new Map<StreamType, number>();
  readonly #judge: Judge;
  readonly #twins: Twins;
  readonly #contents: Contents;
  readonly #lossy: Lossy;
  readonly #batches: ReadBatches;

  constructor(service: Subject, kernel: Subject, possibleCpus: number) {
    this.#judge = new Judge(service, kernel);
    this.#twins = new Twins(this.#judge, possibleCpus);
    this.#contents = new Contents(this.#judge, this.#twins);
    this.#lossy = new Lossy(this.#judge, this.#contents);
    this.#batches = new ReadBatches(this.#judge, this.#twins, this.#contents, this.#lossy);
  }

  /** Commands sent to each, but for those that only look whether all is as it should be. */
  get commands(): number {
    return this.#judge.commands;
  }

  run(steps: readonly Step[]): void {
    for (const step of steps) {
      const before = this.commands;
      const type = this.#typeOf(step);
      this.#step(step);
      if (type !== null) this.judged.set(type, (this.judged.get(type) ?? 0) + this.commands - before);
    }
    for (const twin of this.#twins.all) this.#check(twin, "at the end");
  }

  #typeOf(step: Step): StreamType | null {
    if (step.do === "create") return typeof step.shape.type === "number" ? null : step.shape.type;
    if ("map" in step) return this.#twins.at(step.map).twin?.type ?? null;
    return step.do === "fd by id" ? (this.#twins.twin(step.object)?.type ?? null) : null;
  }

  #step(step: Step): void {
    switch (step.do) {
      case "create":
        this.#create(step.shape);
        break;
      case "open":
        this.#twins.open(step.spec);
        break;
      case "update":
        this.#update(step);
        break;
      case "lookup":
        this.#element(step, "BPF_MAP_LOOKUP_ELEM");
        break;
      case "take":
        this.#element(step, "BPF_MAP_LOOKUP_AND_DELETE_ELEM");
        break;
      case "delete":
        this.#delete(step);
        break;
      case "next":
        this.#nextKey(step);
        break;
      case "read batch":
      case "take batch":
        this.#batches.run(step, this.#twins.at(step.map));
        break;
      case "update batch":
        this.#updateBatch(step);
        break;
      case "delete batch":
        this.#deleteBatch(step);
        break;
      case "walk": {
        const { twin } = this.#twins.at(step.map);
        if (twin !== null) this.#check(twin, "on the way");
        break;
      }
      case "freeze":
        this.#judge.same("BPF_MAP_FREEZE", this.#twins.at(step.map).fds, (fd) => ({ map_fd: fd }));
        break;
      case "close":
        this.#twins.close(this.#twins.at(step.map));
        break;
      case "dup":
        this.#twins.dup(step.map);
        break;
      case "info":
        this.#info(step);
        break;
      case "memory":
        this.#memory(step);
        break;
      case "next id":
        this.#nextId(step.object, step.add);
        break;
      case "fd by id":
        this.#fdById(step);
        break;
      case "pin":
        this.#pin(step);
        break;
      case "get": {
        const answers = this.#judge.ask("BPF_OBJ_GET", this.#paths(step.path), (pathname) => ({
          pathname,
          file_flags: step.flags,
          bpf_fd: step.fd,
        }));
        this.#twins.openedMap("BPF_OBJ_GET", answers);
        break;
      }
      case "unlink":
      case "mkdir":
      case "rmdir": {
        const path = this.#paths(step.path);
        this.#judge.equal(
          step.do,
          this.#judge.both((subject, side) => subject.changePath(step.do, path[side] as string)),
        );
        break;
      }
      case "unknown":
        this.#judge.equal(
          String(step.cmd),
          this.#judge.both((subject) => subject.bpf({ cmd: step.cmd, attr: {} })),
        );
        break;
    }
  }

  // Maps.

  #create(shape: Shape): void {
    const earlier = this.#twins.all.filter(({ attr }) => attr.map_type !== undefined);
    const again = shape.again === null ? undefined : earlier[shape.again % Math.max(earlier.length, 1)];
    const attr = again?.attr ?? createAttr(shape);
    const inner = this.#twins.at(shape.inner);
    const btf = wantsBtf(attr) && attr.btf_fd === -1 ? this.#twins.btf() : null;
    const ofMaps = OF_MAPS.has(shape.type as StreamType) || OF_MAPS_NUMBERS.has(attr.map_type as number);
    const answers = this.#judge.ask("BPF_MAP_CREATE", inner.fds, (fd, side) => ({
      ...attr,
      ...(ofMaps && attr.inner_map_fd === undefined ? { inner_map_fd: fd } : {}),
      ...(btf === null ? {} : { btf_fd: btf[side] }),
    }));
    const twin = this.#twins.openedMap("BPF_MAP_CREATE", answers, { attr, template: ofMaps ? inner.twin : null });
    if (twin === null) return;
    if (Math.max(twin.keySize, twin.valueBytes) > PROBE_BYTES) this.#twins.close(this.#twins.maps.at(-1) as Descriptor);
  }

  /** A map that is open has its id in both; one that the kernel lets go of later is gone some time. */
  #fdById({ object, flags }: Of<"fd by id">): void {
    const twin = this.#twins.twin(object);
    const ids = idsOf(twin);
    const answers = this.#judge.both((subject, side) => {
      if (side === 1 && twin?.lingers === true && !this.#twins.isThere(twin, 0)) this.#contents.waitUntilGone(twin);
      return subject.bpf({ cmd: "BPF_MAP_GET_FD_BY_ID", attr: { map_id: ids[side], open_flags: flags } });
    });
    this.#twins.openedMap("BPF_MAP_GET_FD_BY_ID", answers);
  }

  #nextId(object: number, add: number): void {
    const ids = idsOf(this.#twins.twin(object));
    const ask = (subject: Subject, side: Side): Answer => {
      let start = ids[side] + add;
      for (;;) {
        const answer = subject.bpf({ cmd: "BPF_MAP_GET_NEXT_ID", attr: { start_id: start } });
        if (answer.errno !== null) return answer;
        start = answer.attr.next_id as number;
        const found = this.#twins.all.findIndex((twin) => twin.ids[side] === start);
        if (found !== -1) return { ...answer, attr: { next_id: found } };
      }
    };
    const service = ask(this.#judge.subject(0), 0);
    const kernel = this.#judge.settled(
      () => ask(this.#judge.subject(1), 1),
      ({ attr }) => attr.next_id === service.attr.next_id || this.#twins.all[attr.next_id ?? -1]?.lingers !== true,
    );
    this.#judge.equal("BPF_MAP_GET_NEXT_ID", [service, kernel]);
  }

  #info({ map, length, buffer, hash }: Of<"info">): void {
    const { fds, twin, kind } = this.#twins.at(map);
    // These have an info of their own, which is no map command's matter.
    if (kind === "prog" || kind === "btf") return;
    const info = Buffer.alloc({ fits: length, none: 0, short: Math.max(length - 1, 0), long: length + 8 }[buffer]);
    if (hash === JUNK) info.fill(JUNK);
    else if (hash !== 0 && info.length >= MAP_INFO_BYTES) {
      info.writeBigUInt64LE(1n, MAP_INFO.hash);
      info.writeUInt32LE(hash, MAP_INFO.hash_size);
    }
    const attr = buffer === "fits" && hash === 0 ? {} : { info: info.toString("hex") };
    const answers = this.#judge.ask("BPF_OBJ_GET_INFO_BY_FD", fds, (fd) => ({ bpf_fd: fd, info_len: length, ...attr }));
    this.#judge.equal(
      "BPF_OBJ_GET_INFO_BY_FD",
      [this.#anonymous(answers[0], twin, 0), this.#anonymous(answers[1], twin, 1)],
      [],
      answers,
    );
  }

  /** An info without ids, and without the address of its hash. */
  #anonymous(answer: Answer, twin: Twin | null, side: Side): Answer {
    if (answer.errno !== null) return answer;
    const info = Buffer.from(answer.attr.info as string, "hex");
    const id = info.subarray(MAP_INFO.id, MAP_INFO.id + 4);
    if (u32Hex(twin?.ids[side] ?? 0).startsWith(id.toString("hex"))) id.fill(0);
    info.subarray(MAP_INFO.hash, MAP_INFO.hash + 8).fill(0);
    if (twin !== null && wantsBtf(twin.attr)) info.subarray(MAP_INFO.btf_id, MAP_INFO.btf_id + 4).fill(0);
    return { ...answer, attr: { ...answer.attr, info: info.toString("hex") } };
  }

  /** Accesses within a page, each through a mapping of its own. */
  #memory({ map, access, page, at }: Of<"memory">): void {
    const { fds, twin, kind } = this.#twins.at(map);
    // What mmap(2) does with other descriptors is no map's matter.
    if (kind !== null || RINGS.has(twin?.type as StreamType)) return;
    const offset = page * PAGE_BYTES;
    const answers = this.#judge.both((subject, side) => {
      const fd = fds[side];
      if (access === "read") return subject.readMemory(fd, offset + at, ACCESS_BYTES);
      if (access === "write") return subject.writeMemory(fd, offset + at, "5a".repeat(ACCESS_BYTES));
      return { errno: subject.mapMemory(fd, offset, (1 + (at % 2)) * PAGE_BYTES, access !== "map"), data: "" };
    });
    const shown = answers.map(({ errno, data }) => ({ ret: 0, errno, attr: { value: data } }));
    this.#judge.equal(`${access} memory`, shown as unknown as Pair<Answer>);
  }

  // Elements.

  #update({ map, key, value, flags }: Of<"update">): void {
    const { fds, twin } = this.#twins.at(map);
    const keys = this.#keys(key, twin);
    const values = this.#values(value, twin);
    const attr = (fd: number, side: Side): Attr => ({
      map_fd: fd,
      key: keys[side],
      value: values[side],
      flags: String(flags),
    });
    const cmd = "BPF_MAP_UPDATE_ELEM";
    const [service, first] = this.#judge.ask(cmd, fds, attr);
    const busy = service.errno === null && OF_SOCKETS.has(twin?.type as StreamType);
    let kernel = first;
    if (busy && first.errno === "EBUSY")
      kernel = this.#judge.settled(
        () => this.#judge.subject(1).bpf({ cmd, attr: attr(fds[1], 1) }),
        ({ errno }) => errno !== "EBUSY",
      );
    if (service.errno === null) this.#mayLinger(twin);
    if (twin === null || !isLossy(twin)) this.#judge.equal(cmd, [service, kernel]);
    else {
      const digits = [twin.keySize * 2, twin.valueBytes * 2] as const;
      const element = [keys[0]?.slice(0, digits[0]) ?? "", values[0]?.slice(0, digits[1]) ?? ""] as const;
      this.#lossy.judge(cmd, twin, [service, kernel], [element]);
    }
  }

  /** Maps in a map of maps are let go of when it is freed, which is later. */
  #mayLinger(twin: Twin | null): void {
    if (twin === null || !OF_MAPS.has(twin.type)) return;
    for (const other of this.#twins.all) if (!OF_MAPS.has(other.type)) other.lingers = true;
  }

  #element({ map, key, value, flags, room }: Of<"lookup" | "take">, cmd: string): void {
    const { fds, twin } = this.#twins.at(map);
    const keys = this.#keys(key, twin);
    const asks = twin?.type === "BLOOM_FILTER" && cmd === "BPF_MAP_LOOKUP_ELEM";
    const output = asks ? { value: this.#values(value, twin)[0] } : roomFor("value", room, sizes(twin).valueBytes);
    const answers = this.#judge.ask(cmd, fds, (fd, side) => ({
      map_fd: fd,
      key: keys[side],
      flags: String(flags),
      ...output,
    }));
    // A bloom filter may say "perhaps" to what was never added; we never do.
    if (asks && answers[0].errno === "ENOENT" && answers[1].errno === null) return;
    const readable = [this.#twins.readable(twin, 0, answers[0]), this.#twins.readable(twin, 1, answers[1])] as const;
    if (twin !== null && isLossy(twin)) this.#lossy.judgeElement(cmd, twin, readable, keys[0]);
    else this.#judge.equal(cmd, readable);
  }

  #delete({ map, key }: Of<"delete">): void {
    const { fds, twin } = this.#twins.at(map);
    const keys = this.#keys(key, twin);
    const cmd = "BPF_MAP_DELETE_ELEM";
    const answers = this.#judge.ask(cmd, fds, (fd, side) => ({ map_fd: fd, key: keys[side] }));
    if (twin !== null && isLossy(twin)) this.#lossy.judge(cmd, twin, answers, []);
    else this.#judge.equal(cmd, answers);
  }

  #nextKey({ map, key, room }: Of<"next">): void {
    const { fds, twin } = this.#twins.at(map);
    const given = this.#keys(key, twin);
    const output = roomFor("next_key", room, sizes(twin).keySize);
    const cmd = "BPF_MAP_GET_NEXT_KEY";
    const answers = this.#judge.ask(cmd, fds, (fd, side) => ({ map_fd: fd, key: given[side], ...output }));
    if (twin === null || !UNORDERED.has(twin.type)) {
      this.#judge.equal(cmd, answers);
      return;
    }
    if (isLossy(twin)) {
      this.#lossy.judgeElement(cmd, twin, answers, null);
      return;
    }
    this.#judge.commands++;
    const keys = new Set(this.#contents.check(twin, `after ${cmd}`)?.keys());
    const present = keys.delete(given[0]?.slice(0, twin.keySize * 2) ?? "");
    // The last key is another one in each; everything else is the same.
    const canDiffer = present && keys.size > 0;
    if (!canDiffer && answers[0].errno !== answers[1].errno) this.#judge.differ(cmd, answers);
    for (const { errno, attr } of answers) {
      const known = errno !== null || keys.has(attr.next_key as string);
      const ended = errno !== "ENOENT" || keys.size === 0 || present;
      const allowed =
        errno === null || errno === "ENOENT" || errno === "EFAULT" || answers[0].errno === answers[1].errno;
      if (!known || !ended || !allowed) this.#judge.differ(cmd, answers);
    }
  }

  // Batches that write.

  #updateBatch({ map, elements, more, flags, elemFlags }: Of<"update batch">): void {
    const { fds, twin } = this.#twins.at(map);
    const keys = elements.map(({ key }) => this.#keys({ ...key, pointer: "ok" }, twin));
    const values = elements.map(({ value }) => this.#values({ ...value, pointer: "ok" }, twin));
    const cmd = "BPF_MAP_UPDATE_BATCH";
    const answers = this.#judge.ask(cmd, fds, (fd, side) => ({
      map_fd: fd,
      keys: keys.map((key) => key[side]).join(""),
      values: values.map((value) => value[side]).join(""),
      count: Math.max(elements.length + more, 0),
      flags: String(flags),
      elem_flags: String(elemFlags),
    }));
    this.#mayLinger(twin);
    if (twin === null || !isLossy(twin)) this.#judge.equal(cmd, answers);
    else
      this.#lossy.judge(
        cmd,
        twin,
        answers,
        keys.map((key, at) => [key[0] ?? "", values[at]?.[0] ?? ""]),
      );
  }

  #deleteBatch({ map, keys, more, flags, elemFlags }: Of<"delete batch">): void {
    const { fds, twin } = this.#twins.at(map);
    const given = keys.map((key) => this.#keys({ ...key, pointer: "ok" }, twin));
    const cmd = "BPF_MAP_DELETE_BATCH";
    const answers = this.#judge.ask(cmd, fds, (fd, side) => ({
      map_fd: fd,
      keys: given.map((key) => key[side]).join(""),
      count: Math.max(keys.length + more, 0),
      flags: String(flags),
      elem_flags: String(elemFlags),
    }));
    if (twin !== null && isLossy(twin)) this.#lossy.judge(cmd, twin, answers, []);
    else this.#judge.equal(cmd, answers);
  }

  // Pins.

  #pin({ map, path, flags }: Of<"pin">): void {
    const { fds, kind } = this.#twins.at(map);
    // A program can be pinned, too, which is no map command's matter.
    if (kind === "prog") return;
    const pathname = this.#paths(path);
    this.#judge.same("BPF_OBJ_PIN", fds, (fd, side) => ({
      pathname: pathname[side],
      bpf_fd: fd,
      file_flags: flags,
    }));
  }

  #paths(path: string | null): Pair<string | null> {
    if (path === null || path === "") return [path, path];
    return this.#judge.both(({ directory }) => `${directory}/${path}`);
  }

  // What both have.

  #keys(key: Key, twin: Twin | null): Pair<string | null> {
    const want = twin === null ? undefined : KEY_WANTS[twin.type];
    const named = want === undefined ? null : this.#twins.named(key.names, want, twin, 4);
    return [keyFor(key, twin, named?.[0] ?? null), keyFor(key, twin, named?.[1] ?? null)];
  }

  #values(value: Value, twin: Twin | null): Pair<string | null> {
    const want = twin === null ? undefined : VALUE_WANTS[twin.type];
    if (want === undefined) {
      const same = valueFor(value, twin, 0n);
      return [same, same];
    }
    const named = this.#twins.named(value.names, want, twin, sizes(twin).valueBytes);
    return [valueFor(value, twin, named[0]), valueFor(value, twin, named[1])];
  }

  #check(twin: Twin, when: string): void {
    if (isLossy(twin)) this.#lossy.check(twin, when);
    else this.#contents.check(twin, when);
  }
}

const OF_MAPS_NUMBERS: ReadonlySet<number> = new Set(
  STREAM_TYPES.filter((type) => OF_MAPS.has(type)).map((type) => typeNumber(type)),
);
