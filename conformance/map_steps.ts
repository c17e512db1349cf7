import { attrEnd } from "../src/abi/attr.ts";
import { BPF_F, MAP_INFO, MAP_INFO_BYTES, type MapCmdName } from "../src/abi/bpf.ts";
import type { Bench } from "./bench.ts";
import type { Contents } from "./contents.ts";
import type { Judge } from "./judge.ts";
import type { Attr, Pair, Side } from "./pair.ts";
import { idsOf, u32Hex } from "./requests.ts";
import { createAttr, type Shape, STREAM_TYPES, type StreamType, typeNumber, wantsBtf } from "./shapes.ts";
import { JUNK, type Of } from "./stream.ts";
import type { Answer, Subject } from "./subject.ts";
import { type Descriptor, OF_MAPS, type Twin, type Twins } from "./twins.ts";

/** Steps on maps as a whole: what makes them, says what they are, shows their memory, and where they are found. */

/** Elements above this are not put in: maps of that shape are made to see whether they can be made. */
const PROBE_BYTES = 8192;
const PAGE_BYTES = 4096;
/** Bytes of an access to memory. */
const ACCESS_BYTES = 12;

/** Their memory exists inside a kernel only: the service says ENOTSUPP. */
const RINGS: ReadonlySet<StreamType> = new Set(["RINGBUF", "USER_RINGBUF", "ARENA"]);

export class MapSteps {
  readonly #judge: Judge;
  readonly #twins: Twins;
  readonly #contents: Contents;

  constructor({ judge, twins, contents }: Bench) {
    this.#judge = judge;
    this.#twins = twins;
    this.#contents = contents;
  }

  create(shape: Shape): void {
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
  fdById({ object, flags }: Of<"fd by id">): void {
    const twin = this.#twins.twin(object);
    const ids = idsOf(twin);
    const answers = this.#judge.both((subject, side) => {
      if (side === 1 && twin?.lingers === true && !this.#twins.isThere(twin, 0)) this.#contents.waitUntilGone(twin);
      return subject.bpf({ cmd: "BPF_MAP_GET_FD_BY_ID", attr: { map_id: ids[side], open_flags: flags } });
    });
    this.#twins.openedMap("BPF_MAP_GET_FD_BY_ID", answers);
  }

  nextId(object: number, add: number): void {
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

  info({ map, length, buffer, hash }: Of<"info">): void {
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
  memory({ map, access, page, at }: Of<"memory">): void {
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

  // Where they are found.

  pin({ map, path, flags, from }: Of<"pin">): void {
    const { fds, kind } = this.#twins.at(map);
    // A program can be pinned, too, which is no map command's matter.
    if (kind === "prog") return;
    const where = this.#where(path, flags, from);
    this.#judge.same("BPF_OBJ_PIN", fds, (fd, side) => ({ ...where[side], bpf_fd: fd }));
  }

  get({ path, flags, fd, from }: Of<"get">): void {
    const answers = this.#judge.ask("BPF_OBJ_GET", this.#where(path, flags, from), (where) => ({
      ...where,
      bpf_fd: fd,
    }));
    this.#twins.openedMap("BPF_OBJ_GET", answers);
  }

  #where(path: string | null, file_flags: number, from: number | null): Pair<Attr> {
    // A cgroup is a directory, too, but on a file system that the service has not.
    if (from === null || this.#twins.at(from).kind === "cgroup") {
      const [service, kernel] = this.#paths(path);
      return [
        { pathname: service, file_flags },
        { pathname: kernel, file_flags },
      ];
    }
    const { fds } = this.#twins.at(from);
    const flags = (file_flags | BPF_F.BPF_F_PATH_FD) >>> 0;
    return [
      { pathname: path, file_flags: flags, path_fd: fds[0] },
      { pathname: path, file_flags: flags, path_fd: fds[1] },
    ];
  }

  #paths(path: string | null): Pair<string | null> {
    if (path === null || path === "") return [path, path];
    return this.#judge.both(({ directory }) => `${directory}/${path}`);
  }

  tail({ cmd, more, size }: Of<"tail">): void {
    const end = attrEnd(cmd);
    const poke = more === 0 ? {} : { [end + more - 1]: "01" };
    const raw = { size: Math.max(end + more, size), poke };
    const attr = NOWHERE[cmd];
    // An attribute that was not taken has no outputs.
    this.#judge.alike(
      `${cmd} with ${JSON.stringify(raw)}`,
      this.#judge.both((subject) => subject.bpf({ cmd, attr }, raw)),
    );
  }

  changePath({ do: call, path }: Of<"unlink" | "mkdir" | "rmdir">): void {
    const paths = this.#paths(path);
    this.#judge.equal(
      call,
      this.#judge.both((subject, side) => subject.changePath(call, paths[side] as string)),
    );
  }
}

const OF_MAPS_NUMBERS: ReadonlySet<number> = new Set(
  STREAM_TYPES.filter((type) => OF_MAPS.has(type)).map((type) => typeNumber(type)),
);

const NO_MAP = { map_fd: -1 };
/** Attributes that are refused. 0 is a descriptor in the kernel's process, and not in a session. */
const NOWHERE: Readonly<Record<MapCmdName, Attr>> = {
  BPF_MAP_CREATE: {},
  BPF_MAP_LOOKUP_ELEM: NO_MAP,
  BPF_MAP_UPDATE_ELEM: NO_MAP,
  BPF_MAP_DELETE_ELEM: NO_MAP,
  BPF_MAP_GET_NEXT_KEY: NO_MAP,
  BPF_MAP_LOOKUP_AND_DELETE_ELEM: NO_MAP,
  BPF_MAP_FREEZE: NO_MAP,
  BPF_MAP_LOOKUP_BATCH: NO_MAP,
  BPF_MAP_LOOKUP_AND_DELETE_BATCH: NO_MAP,
  BPF_MAP_UPDATE_BATCH: NO_MAP,
  BPF_MAP_DELETE_BATCH: NO_MAP,
  BPF_OBJ_PIN: { bpf_fd: -1 },
  BPF_OBJ_GET: {},
  BPF_MAP_GET_NEXT_ID: { start_id: 0x7fff_fff0 },
  BPF_MAP_GET_FD_BY_ID: {},
  BPF_OBJ_GET_INFO_BY_FD: { bpf_fd: -1 },
  BPF_BTF_LOAD: {},
  BPF_BTF_GET_NEXT_ID: { start_id: 0x7fff_fff0 },
  BPF_BTF_GET_FD_BY_ID: {},
};
