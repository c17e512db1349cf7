import { attrEnd, BPF_ATTR_BYTES } from "../src/abi/attr.ts";
import { Commands, isBad, type MapObject } from "./commands.ts";
import type { Subject } from "./subject.ts";
import { agrees, type Line, type LineOut, type Transcript } from "./transcript.ts";

/** What became of a transcript. */
export interface Report {
  readonly replayed: number;
  /** Lines left out, by reason. */
  readonly skipped: ReadonlyMap<string, number>;
  readonly wrong: readonly { readonly line: Line; readonly out: LineOut }[];
}

/** The reason of lines that need what the syscall door has no words for. */
const RAW = "raw attribute";

/** Commands that change a map: left out, what follows about this map says nothing. */
const CHANGES = new Set([
  "MAP_UPDATE_ELEM",
  "MAP_DELETE_ELEM",
  "MAP_LOOKUP_AND_DELETE_ELEM",
  "MAP_LOOKUP_AND_DELETE_BATCH",
  "MAP_UPDATE_BATCH",
  "MAP_DELETE_BATCH",
  "MAP_FREEZE",
]);
/** Those that can change a map and end in an error all the same, but for errors that come before all else. */
const CHANGES_BEFORE_ERROR = new Set([
  "MAP_LOOKUP_AND_DELETE_ELEM",
  "MAP_LOOKUP_AND_DELETE_BATCH",
  "MAP_UPDATE_BATCH",
  "MAP_DELETE_BATCH",
]);
const FIRST_ERRORS = new Set(["EBADF", "EINVAL", "EPERM", "ENOTSUPP"]);
/** Commands that change what is where on bpffs. */
const MOVES = new Set(["OBJ_PIN", "FS_UNLINK", "FS_MKDIR", "FS_RMDIR", "FS_RENAME", "FS_LINK", "FS_SYMLINK"]);
/** Commands that let a program have its way with its maps. */
const RUNS = new Set(["PROG_ATTACH", "PROG_TEST_RUN"]);
/** Types whose memory exists inside a kernel only. */
const RINGS = new Set(["RINGBUF", "USER_RINGBUF", "ARENA"]);
/** Of ten milliseconds, in a transcript. */
const SETTLES_MAX = 1000;
/** Fields that name a descriptor. */
const FD_FIELDS = [
  "fd",
  "path_fd",
  "inner_map_fd",
  "btf_fd",
  "value_type_btf_obj_fd",
  "map_token_fd",
  "prog",
  "target",
];

/**
 * Replays a transcript on a subject. Lines that the subject cannot be asked, or that are about a map type which is not
 * served, are left out, and with them every later line that is about what they made or changed.
 */
export function replay(subject: Subject, transcript: Transcript): Report {
  const replayer = new Replayer(subject);
  for (const line of transcript.lines) replayer.take(line);
  return replayer;
}

class Replayer implements Report {
  replayed = 0;
  readonly skipped = new Map<string, number>();
  readonly wrong: { line: Line; out: LineOut }[] = [];
  readonly #subject: Subject;
  readonly #commands: Commands;
  /** Names of descriptors, of maps (and positions), and paths that stand for what the subject does not have. */
  readonly #lostFds = new Set<string>();
  readonly #lostMappings = new Set<string>();
  /** Descriptors of maps that the subject does not know to be mapped. */
  readonly #mappedOutside = new Set<string>();
  /** Maps of programs that were left out. */
  readonly #users = new Map<string, MapObject[]>();
  readonly #lostIds = new Set<string>();
  readonly #lostPaths = new Set<string>();
  /** Whether something was let go of that need not be gone yet. */
  #letGo = false;
  #settlesLeft = SETTLES_MAX;

  constructor(subject: Subject) {
    this.#subject = subject;
    this.#commands = new Commands(subject, this.#lostIds);
  }

  take(line: Line): void {
    if (line.cmd === "SETTLE") {
      this.#letGo = this.#subject.settle();
      return;
    }
    const reason = this.#unable(line) ?? (this.#refersToLost(line) ? "about what was left out" : null);
    if (reason !== null) {
      this.skipped.set(reason, (this.skipped.get(reason) ?? 0) + 1);
      if (reason !== RAW || line.out.err !== undefined || !this.#standIn(line)) this.#leaveOut(line);
      return;
    }
    const out = this.#run(line);
    this.replayed++;
    if (!agrees(line, out)) this.wrong.push({ line, out });
    // What only the subject has opened would be in the way of later names.
    if (out.fd !== undefined && line.out.fd === undefined) this.#commands.close(line.as as string);
  }

  /**
   * How long a kernel takes until what was let go of is gone is not known, and a socket is busy as long: it is asked
   * until it answers as it did then.
   */
  #run(line: Line): LineOut {
    let out = this.#commands.run(line);
    while (!agrees(line, out) && (this.#letGo || out.err === "EBUSY") && this.#settlesLeft-- > 0) {
      if (!this.#subject.settle()) break;
      if (out.fd !== undefined) this.#commands.close(line.as as string);
      out = this.#commands.run(line);
    }
    return out;
  }

  // What cannot be replayed.

  #unable(line: Line): string | null {
    if (!this.#commands.has(line.cmd)) return line.cmd;
    const { takesRaw, ownsIds } = this.#subject;
    if (!takesRaw && !isTail(line) && ["attr_size", "attr_poke", "attr_null"].some((field) => field in line))
      return RAW;
    if (!takesRaw && isBad(line.path)) return "path that faults";
    if (!ownsIds && ((line.id as { add?: number } | undefined)?.add ?? 0) > 0) return "id that anybody may have taken";
    if (JSON.stringify(line).includes("kernel_struct")) return "struct of the running kernel";
    if (typeof line.path === "string" && /^(plain|rel):/.test(line.path)) return "path outside bpffs";
    if (line.cmd === "PROG_LOAD" && line.map_refs !== undefined) return "program that uses maps";
    if (line.cmd === "MMAP" && (line.shared === false || String(line.prot).includes("x"))) return "mapping of a kind";
    if (line.cmd === "MMAP" && RINGS.has(this.#commands.names.get(line.fd as string)?.object?.type ?? ""))
      return "ring";
    if (line.cmd === "MAP_FREEZE" && this.#isMapped(line.fd)) return "freezing mapped memory";
    return null;
  }

  /** Whether the command does the same without its raw access to the attribute: what it has answered is then true, too. */
  #standIn({ attr_size: _size, attr_poke: _poke, attr_null: _null, ...line }: Line): boolean {
    const out = this.#commands.run(line as Line);
    const same = agrees(line as Line, out);
    if (!same && out.fd !== undefined) this.#commands.close(line.as as string);
    return same;
  }

  #isMapped(name: unknown): boolean {
    if (this.#mappedOutside.has(name as string)) return true;
    const object = this.#commands.names.get(name as string)?.object;
    return [...this.#commands.mappings.values()].some((mapping) => mapping.object === object && mapping.writable);
  }

  #refersToLost(line: Line): boolean {
    if (this.#lostMappings.has(line.mapping as string)) return true;
    for (const field of FD_FIELDS) if (this.#lostFds.has(line[field] as string)) return true;
    if (typeof line.path === "string" && [...this.#lostPaths].some((lost) => isAtOrBelow(lost, line.path as string)))
      return true;
    if (line.cmd === "MAP_GET_NEXT_ID" && this.#lostIds.has(line.out.id_of as string)) return true;
    const data = [line.key, line.value, line.keys, line.values];
    return (
      referred(data, FD_SPECS).some((name) => this.#lostFds.has(name)) ||
      referred([...data, line.id, line.start_id, line.in_batch], ID_SPECS).some((name) => this.#lostIds.has(name))
    );
  }

  /** What the line would have made is lost, and what it would have changed is no longer what the transcript means. */
  #leaveOut(line: Line): void {
    const succeeded = line.out.err === undefined;
    if (line.cmd === "MMAP" && succeeded) {
      this.#lostMappings.add(line.as as string);
      this.#mappedOutside.add(line.fd as string);
    }
    if (line.map_refs !== undefined) this.#users.set(line.as as string, [...this.#heldBy(line)]);
    // What a program does to its maps, only a kernel knows.
    if (RUNS.has(line.cmd)) for (const object of this.#users.get(line.prog as string) ?? []) this.#lose(object);
    if (typeof line.out_batch === "string") this.#lostIds.add(line.out_batch);
    const named = this.#commands.names.get(line.fd as string)?.object ?? null;
    if (named !== null && mayChange(line)) this.#lose(named);
    if (!succeeded) return;
    if (MOVES.has(line.cmd)) for (const path of [line.path, line.to]) this.#losePath(path);
    for (const object of this.#heldBy(line)) this.#hold(object);
    if (line.cmd === "CLOSE") this.#lostFds.delete(line.fd as string);
    if (typeof line.as !== "string") return;
    this.#lostFds.add(line.as);
    if (!this.#commands.ids.has(line.as)) this.#lostIds.add(line.as);
  }

  /** Maps that a line which is left out would have kept alive: by a descriptor, a pin, an entry, a program. */
  *#heldBy(line: Line): Iterable<MapObject> {
    const fds = [
      ...referred([line.value, line.values], FD_SPECS),
      ...Object.values((line.map_refs as object | undefined) ?? {}),
    ];
    if (line.cmd === "OBJ_PIN" || line.cmd === "DUP") fds.push(line.fd);
    for (const name of fds) {
      const object = this.#commands.names.get(name as string)?.object ?? null;
      if (object !== null) yield object;
    }
    for (const name of referred([line.id], ID_SPECS)) {
      const object = this.#commands.objects.get(this.#commands.ids.get(name) ?? 0);
      if (object !== undefined) yield object;
    }
    for (const path of [line.path, line.to]) {
      const object = this.#commands.pins.get(path as string);
      if (object !== undefined) yield object;
    }
  }

  #losePath(path: unknown): void {
    if (typeof path === "string") this.#lostPaths.add(path.replace(/^rel:/, ""));
  }

  /** Keeps a map alive to the end: until when the transcript does, the subject cannot know; nor do ids tell from now on. */
  #hold(object: MapObject): void {
    this.#lostIds.add(object.name);
    this.#subject.bpf({ cmd: "BPF_MAP_GET_FD_BY_ID", attr: { map_id: object.id } });
  }

  /** Takes a map out of the replay, and out of the subject. */
  #lose(object: MapObject): void {
    for (const [name, descriptor] of [...this.#commands.names])
      if (descriptor.object === object) {
        this.#commands.close(name);
        this.#lostFds.add(name);
      }
    for (const [path, pinned] of [...this.#commands.pins])
      if (pinned === object) {
        this.#subject.changePath("unlink", this.#commands.place(path) as string);
        this.#commands.pins.delete(path);
        this.#losePath(path);
      }
    for (const [name, mapping] of [...this.#commands.mappings])
      if (mapping.object === object) {
        this.#subject.close(mapping.fd);
        this.#commands.mappings.delete(name);
        this.#lostMappings.add(name);
      }
    this.#lostIds.add(object.name);
  }
}

/** Whether the raw attribute is as it would be but for what stands behind the command's last field, or for its size. */
function isTail({ cmd, attr_size: size, attr_poke: poke }: Line): boolean {
  const end = attrEnd(`BPF_${cmd}`);
  if (size !== undefined && (size as number) < BPF_ATTR_BYTES) return false;
  return (size !== undefined || poke !== undefined) && Object.keys(poke ?? {}).every((offset) => Number(offset) >= end);
}

function mayChange({ cmd, out }: Line): boolean {
  return out.err === undefined ? CHANGES.has(cmd) : CHANGES_BEFORE_ERROR.has(cmd) && !FIRST_ERRORS.has(out.err);
}

/** How a value names a descriptor, and how it names a map or a position. */
const FD_SPECS = ["fd", "cgroup_id_of"];
const ID_SPECS = ["id_of", "token"];

/** Names in what a line gives, at any depth: {"fd": "m"}, {"cat": [{"fd": "m"}]}. */
function referred(specs: unknown, by: readonly string[]): string[] {
  if (Array.isArray(specs)) return specs.flatMap((spec) => referred(spec, by));
  if (specs === null || typeof specs !== "object") return [];
  const fields = specs as Record<string, unknown>;
  return by
    .map((field) => fields[field])
    .filter((name) => typeof name === "string")
    .concat(referred(fields.cat, by));
}

function isAtOrBelow(lost: string, path: string): boolean {
  return path === lost || path.startsWith(`${lost}/`) || lost.startsWith(`${path}/`);
}
