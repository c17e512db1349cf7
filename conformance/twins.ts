import { BPF_MAP_TYPE, MAP_INFO, MAP_INFO_BYTES, type MapTypeName } from "../src/abi/bpf.ts";
import type { ObjectFacts } from "../src/maps/object.ts";
import type { ObjectSpec } from "../src/syscall/command.ts";
import type { Judge } from "./judge.ts";
import type { Attr, Named, Pair, Side } from "./pair.ts";
import { STREAM_TYPES, type StreamType } from "./shapes.ts";
import type { Reference } from "./stream.ts";
import { BTF_BLOB } from "./stream_btf.ts";
import type { Answer } from "./subject.ts";
import type { Want } from "./wanted.ts";

/** What both subjects have: maps and other objects, and the descriptors of each that are open. */

/** A map that both have. */
export interface Twin {
  readonly type: StreamType;
  readonly keySize: number;
  /** Of a value in user space. */
  readonly valueBytes: number;
  readonly maxEntries: number;
  readonly ids: Pair<number>;
  /** What it was made by, without descriptors. */
  readonly attr: Attr;
  /** Of a map of maps: what the others have to be like. */
  readonly template: Twin | null;
  /** Where the last batch ended, which means something to the one who said so only. */
  positions: Pair<string> | null;
  /** The kernel may let go of it some time after the last command that held it. */
  lingers: boolean;
}

export interface Descriptor {
  readonly fds: Pair<number>;
  readonly twin: Twin | null;
  /** What it is of, if it is of no map. */
  readonly kind: ObjectFacts["kind"] | null;
}

const PERCPU: ReadonlySet<StreamType> = new Set([
  "PERCPU_HASH",
  "PERCPU_ARRAY",
  "LRU_PERCPU_HASH",
  "PERCPU_CGROUP_STORAGE",
]);

export const OF_MAPS: ReadonlySet<StreamType> = new Set(["ARRAY_OF_MAPS", "HASH_OF_MAPS"]);

const NOT_OPEN: Descriptor = { fds: [-1, -1], twin: null, kind: null };
/** No descriptors, as u32 and, for values of eight bytes, as u64. 0 to 2 are open in one of the two alone. */
const RAW_U32 = [-1n, 0x7fff_ffffn, 0x8000_0000n, 0xffff_fffen];
const RAW_U64 = [...RAW_U32, 1n << 32n, (1n << 32n) + 3n, (1n << 64n) - 1n];
/** Descriptors of what is no map, in a stream: a session has room for many more. */
const OBJECTS_MAX = 24;
/** Objects that cost much to make or to let go of, and how many of a kind a stream has. */
const COSTLY: Partial<Record<ObjectSpec["kind"], number>> = { pidfd_dead: 1, cgroup: 2 };

export class Twins {
  readonly all: Twin[] = [];
  readonly maps: Descriptor[] = [];
  readonly objects: Descriptor[] = [];
  readonly #judge: Judge;
  readonly #possibleCpus: number;
  /** Numbers that were put out for objects, a side: those of both sides have one index. */
  readonly #numbers: Pair<Map<string, number>> = [new Map(), new Map()];
  readonly #made = new Map<string, number>();
  /** By the descriptors that they were made with. */
  readonly #cgroups: Descriptor[] = [];
  #btf: Descriptor | null = null;

  constructor(judge: Judge, possibleCpus: number) {
    this.#judge = judge;
    this.#possibleCpus = possibleCpus;
  }

  /** As OnMap.map says. */
  at(map: number): Descriptor {
    if (map <= -2) return this.objects[(-2 - map) % Math.max(this.objects.length, 1)] ?? NOT_OPEN;
    return (map < 0 ? undefined : this.maps[map % Math.max(this.maps.length, 1)]) ?? NOT_OPEN;
  }

  twin(object: number): Twin | undefined {
    return this.all[object % Math.max(this.all.length, 1)];
  }

  /** The descriptor that a key or a value names: its numbers. */
  named({ from, at }: Reference, want: Want, twin: Twin | null, bytes: number): Named {
    if (from === "raw") {
      const raw = bytes === 8 ? RAW_U64 : RAW_U32;
      const number = raw[at % raw.length] as bigint;
      return [number, number];
    }
    const any = [...this.maps, ...this.objects];
    const wanted = from === "any" ? any : any.filter((one) => fits(one, want, twin));
    const { fds } = wanted[at % Math.max(wanted.length, 1)] ?? any[at % Math.max(any.length, 1)] ?? NOT_OPEN;
    return [BigInt(fds[0]), BigInt(fds[1])];
  }

  // Opening and closing.

  /** A map's descriptor that was opened, or refused alike. */
  openedMap(
    cmd: string,
    answers: Pair<Answer>,
    made: { attr: Attr; template: Twin | null } | null = null,
  ): Twin | null {
    this.#judge.alike(cmd, answers);
    if (answers[0].errno !== null) return null;
    const fds: Pair<number> = [answers[0].ret, answers[1].ret];
    const twin = this.#learn(fds, made);
    this.maps.push({ fds, twin, kind: null });
    return twin;
  }

  open(spec: ObjectSpec): void {
    const made = this.#made.get(spec.kind) ?? 0;
    if (this.objects.length >= OBJECTS_MAX || made >= (COSTLY[spec.kind] ?? Number.POSITIVE_INFINITY)) return;
    this.#made.set(spec.kind, made + 1);
    const answers = this.#judge.both((subject) =>
      subject.open(spec.kind === "dir" ? { ...spec, path: subject.directory } : spec),
    );
    this.#judge.alike(`open ${spec.kind}`, answers);
    if (answers[0].errno !== null) return;
    const facts = answers.map((answer) => answer.facts as ObjectFacts) as unknown as Pair<ObjectFacts>;
    for (const side of [0, 1] as const) this.#note(side, numberOf(facts[side]));
    const opened: Descriptor = { fds: [answers[0].ret, answers[1].ret], twin: null, kind: facts[0].kind };
    this.objects.push(opened);
    if (opened.kind === "cgroup") this.#cgroups.push(opened);
  }

  /** A cgroup whose first descriptor is open, modulo how many there are: whatever else is open of it stays. */
  removeCgroup(at: number): void {
    const living = this.#cgroups.filter((one) => this.objects.includes(one));
    const removed = living[at % Math.max(living.length, 1)];
    if (removed === undefined) return;
    this.#cgroups.splice(this.#cgroups.indexOf(removed), 1);
    this.#judge.both((subject, side) => subject.removeCgroup(removed.fds[side]));
  }

  /** A descriptor of the stream's BTF, loaded when it is needed. */
  btf(): Pair<number> {
    if (this.#btf === null || !this.objects.includes(this.#btf)) {
      const attr = { btf: BTF_BLOB, btf_size: BTF_BLOB.length / 2 };
      const answers = this.#judge.ask("BPF_BTF_LOAD", [attr, attr], (same) => same);
      this.#judge.alike("BPF_BTF_LOAD", answers);
      this.#btf = { fds: [answers[0].ret, answers[1].ret], twin: null, kind: "btf" };
      this.objects.push(this.#btf);
    }
    return this.#btf.fds;
  }

  dup(map: number): void {
    const descriptor = this.at(map);
    const answers = this.#judge.both((subject, side) => subject.dup(descriptor.fds[side]));
    this.#judge.alike("dup", answers);
    if (answers[0].errno === null)
      this.#listOf(descriptor).push({ ...descriptor, fds: [answers[0].ret, answers[1].ret] });
  }

  close(descriptor: Descriptor): void {
    const list = this.#listOf(descriptor);
    const at = list.indexOf(descriptor);
    if (at !== -1) list.splice(at, 1);
    this.#judge.equal(
      "close",
      this.#judge.both((subject, side) => subject.close(descriptor.fds[side])),
    );
  }

  /** Through a descriptor of one's own that may do everything, as long as there is the map. */
  through(twin: Twin, side: Side, use: (fd: number) => void): boolean {
    const subject = this.#judge.subject(side);
    const { ret, errno } = subject.bpf({ cmd: "BPF_MAP_GET_FD_BY_ID", attr: { map_id: twin.ids[side] } });
    if (errno !== null) return false;
    use(ret);
    subject.close(ret);
    return true;
  }

  /** Whether the map has its id still: asked without a descriptor, each of which would keep a PROG_ARRAY for longer. */
  isThere(twin: Twin, side: Side): boolean {
    const id = twin.ids[side];
    return (
      this.#judge.subject(side).bpf({ cmd: "BPF_MAP_GET_NEXT_ID", attr: { start_id: id - 1 } }).attr.next_id === id
    );
  }

  #listOf({ kind }: Descriptor): Descriptor[] {
    return kind === null ? this.maps : this.objects;
  }

  #learn(fds: Pair<number>, made: { attr: Attr; template: Twin | null } | null): Twin {
    const infos = this.#judge.both((subject, side) => {
      const answer = subject.bpf({
        cmd: "BPF_OBJ_GET_INFO_BY_FD",
        attr: { bpf_fd: fds[side], info_len: MAP_INFO_BYTES },
      });
      return Buffer.from(answer.attr.info as string, "hex");
    });
    const ids: Pair<number> = [infos[0].readUInt32LE(MAP_INFO.id), infos[1].readUInt32LE(MAP_INFO.id)];
    const known = this.all.find((twin) => twin.ids[0] === ids[0]);
    if (known !== undefined) {
      if (known.ids[1] !== ids[1]) throw new Error("the descriptors are of different maps");
      return known;
    }
    const type = TYPE_NAMES.get(infos[0].readUInt32LE(MAP_INFO.type)) as StreamType;
    const valueSize = infos[0].readUInt32LE(MAP_INFO.value_size);
    const twin: Twin = {
      type,
      keySize: infos[0].readUInt32LE(MAP_INFO.key_size),
      valueBytes: PERCPU.has(type) ? Math.ceil(valueSize / 8) * 8 * this.#possibleCpus : valueSize,
      maxEntries: infos[0].readUInt32LE(MAP_INFO.max_entries),
      ids,
      attr: made?.attr ?? {},
      template: made?.template ?? null,
      positions: null,
      lingers: type === "PROG_ARRAY",
    };
    this.all.push(twin);
    for (const side of [0, 1] as const) this.#note(side, `map ${ids[side]}`);
    return twin;
  }

  // Numbers that the two give out for the same thing.

  #note(side: Side, number: string | null): void {
    const known = this.#numbers[side];
    if (number !== null && !known.has(number)) known.set(number, known.size + 1);
  }

  /** An answer whose values have indices in place of ids and cookies. */
  readable(twin: Twin | null, side: Side, answer: Answer): Answer {
    const what = twin === null ? undefined : NUMBERS_OUT[twin.type];
    if (twin === null || what === undefined || what.end > twin.valueBytes) return answer;
    const { value, values } = answer.attr;
    const digits = twin.valueBytes * 2;
    const attr = { ...answer.attr };
    if (value !== undefined) attr.value = this.#renumbered(side, value, what);
    if (values !== undefined)
      attr.values = (values.match(new RegExp(`.{${digits}}`, "g")) ?? [])
        .map((one) => this.#renumbered(side, one, what))
        .join("");
    return { ...answer, attr };
  }

  #renumbered(side: Side, hex: string, { of, start, end }: NumberOut): string {
    const bytes = Buffer.from(hex, "hex");
    if (bytes.length < end) return hex;
    const number = end - start === 8 ? bytes.readBigUInt64LE(start) : BigInt(bytes.readUInt32LE(start));
    const known = this.#numbers[side].get(`${of} ${number}`);
    if (known === undefined) return hex;
    bytes.fill(0, start, end).writeUInt32LE(known, start);
    return bytes.toString("hex");
  }
}

/** Where a number stands in a value that is put out. */
interface NumberOut {
  readonly of: "map" | "prog" | "socket";
  readonly start: number;
  readonly end: number;
}

const PROG_BEHIND: NumberOut = { of: "prog", start: 4, end: 8 };
const COOKIE: NumberOut = { of: "socket", start: 0, end: 8 };
const MAP_ID: NumberOut = { of: "map", start: 0, end: 4 };

const NUMBERS_OUT: Partial<Record<StreamType, NumberOut>> = {
  ARRAY_OF_MAPS: MAP_ID,
  HASH_OF_MAPS: MAP_ID,
  PROG_ARRAY: { of: "prog", start: 0, end: 4 },
  DEVMAP: PROG_BEHIND,
  DEVMAP_HASH: PROG_BEHIND,
  CPUMAP: PROG_BEHIND,
  SOCKMAP: COOKIE,
  SOCKHASH: COOKIE,
  REUSEPORT_SOCKARRAY: COOKIE,
};

function numberOf(facts: ObjectFacts): string | null {
  if (facts.kind === "prog") return `prog ${facts.progId}`;
  return facts.kind === "socket" ? `socket ${facts.cookie}` : null;
}

function fits({ twin, kind }: Descriptor, want: Want, outer: Twin | null): boolean {
  if (want === "any") return true;
  if (want !== "map") return kind === want;
  const template = outer?.template;
  return twin !== null && (template == null || (twin.type === template.type && twin.keySize === template.keySize));
}

const TYPE_NAMES: ReadonlyMap<number, StreamType> = new Map(
  STREAM_TYPES.map((name) => [BPF_MAP_TYPE[`BPF_MAP_TYPE_${name}` as MapTypeName], name]),
);
