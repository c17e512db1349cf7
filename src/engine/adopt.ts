/**
 * Adopts a kernel map that another program has made. To adopt is to create: the commands that would make such a map run
 * as one, and the creation names the kernel map that already exists (`mirror/foreign.ts` reads it). Programs and maps
 * that its values name are opened by the kernel's ids, in the same session. Elements are written with `imported`, so
 * that the mirror does not write them to the kernel map again.
 */

import { errnoName } from "../abi/errno.ts";
import { CMD, cmdName } from "../abi/service.ts";
import type { DriftPolicy, MapType, OnReplace } from "../maps/map.ts";
import { mapType } from "../maps/types.ts";
import type { Who } from "../syscall/command.ts";
import { BPFFS } from "../syscall/pins.ts";
import { MADE, Whole } from "./atomic_requests.ts";
import { updates } from "./batches.ts";
import { createAttr } from "./create_attr.ts";
import type { ForeignElement, ForeignMap, ForeignName, Mirror, MirrorRefusal } from "./ports.ts";
import type { NotDone, Ran, Request, WholeReply } from "./request.ts";

/**
 * A request to adopt a kernel map. `pathname`: the new map's pin in the ledger; null: a path that is made of the kernel
 * map's pin or name.
 */
export interface AdoptAsk {
  readonly which: { readonly kernelId: number } | { readonly pinned: string };
  readonly pathname: string | null;
  readonly caller: string;
  readonly peer?: string | undefined;
  /** The drift policy; null: none is set, and drift is reported. */
  readonly drift: DriftPolicy | null;
  /** What happens if its pin comes to name another kernel map. */
  readonly onReplace: OnReplace;
  /** The pin of another map in the ledger, which is removed in the same step. */
  readonly replaces?: string;
}

/** The new map and the last event of its adoption; or the reason why it was not adopted. */
export type AdoptAnswer =
  | { readonly map: number; readonly seq: number }
  | { readonly refused: { readonly errno: string; readonly detail: string } }
  | NotDone;

export interface AdoptParts {
  readonly mirror: Pick<Mirror, "adopting" | "cannotImport">;
  readonly bpffs: Bpffs;
  readonly runWhole: (requests: readonly Request[]) => WholeReply;
}

const BATCH_ELEMENTS = 4096;

type AdoptRefusal = Pick<MirrorRefusal, "errno" | "detail">;

/** Makes a map of the ledger of a kernel map that another program has made. */
export function adopt({ mirror, bpffs, runWhole }: AdoptParts, ask: AdoptAsk): AdoptAnswer {
  return mirror.adopting<AdoptAnswer>(ask.which, (foreign) => {
    const importing = ask.drift?.policy === "import" && ask.replaces === undefined;
    const cannot = importing
      ? mirror.cannotImport({ ...foreign.facts, ...NOT_CREATED, adopted: foreign.facts.id })
      : null;
    if (cannot !== null) return { refused: { errno: "EOPNOTSUPP", detail: `nothing can be imported: ${cannot}` } };
    const requests = adoptRequests(foreign, ask, bpffs);
    if ("errno" in requests) return { refused: requests };
    const done = runWhole(requests);
    if ("refused" in done) {
      const { errno, detail } = done.refused;
      return { refused: { errno: errnoName(errno), detail: `${cmdName(done.cmd)}: ${detail}` } };
    }
    if ("failure" in done) return done;
    if (!("replies" in done)) throw new Error("adopting a kernel map: its map has changed before it was there");
    const [pinned, last] = done.replies.slice(-2) as [Ran, Ran];
    return { map: pinned.outcome.map, seq: last.seq };
  });
}

/** The fields of a map's record that a foreign kernel map lacks. */
const NOT_CREATED = { numaNode: -1, exclusive: false, inner: null, special: [], owner: null } as const;

/** The commands that create the map and the foreign maps that it contains. */
function adoptRequests(foreign: ForeignMap, ask: AdoptAsk, bpffs: Bpffs): readonly Request[] | AdoptRefusal {
  const adoption = new Adoption({ caller: ask.caller, peer: ask.peer }, "adoption", ask);
  const fd = adoption.adopt(foreign);
  if (typeof fd !== "number") return fd;
  const pathname = ask.pathname ?? `${BPFFS}/${pinName(foreign)}`;
  const there = ask.replaces === undefined ? bpffs.pinAt(pathname) : undefined;
  if (there !== undefined) {
    const detail = `map ${there} is pinned at ${pathname} already: give another \`pathname\``;
    return { errno: "EEXIST", detail };
  }
  if (ask.pathname === null)
    for (const directory of directoriesAbove(pathname))
      if (!bpffs.isDirectory(directory)) adoption.add({ cmd: CMD.MKDIR, attr: { pathname: directory } });
  const attr = { pathname, fileFlags: 0, pathFd: 0 };
  const target = { by: "fd", fd } as const;
  if (ask.drift !== null) adoption.add({ cmd: CMD.MIRROR_POLICY, target, attr: ask.drift }, MADE);
  adoption.add({ cmd: CMD.BPF_OBJ_PIN, target, attr }, MADE);
  adoption.end();
  return adoption.requests;
}

/** bpffs as the ledger has it. */
interface Bpffs {
  pinAt(pathname: string): number | undefined;
  isDirectory(pathname: string): boolean;
}

/** Directories between bpffs and a pathname, from the top. */
function directoriesAbove(pathname: string): string[] {
  const names = pathname
    .slice(BPFFS.length + 1)
    .split("/")
    .slice(0, -1);
  return names.map((_, at) => `${BPFFS}/${names.slice(0, at + 1).join("/")}`);
}

/** Collects the commands of an adoption. */
class Adoption extends Whole {
  readonly #ask: AdoptAsk;

  constructor(who: Who, name: string, ask: AdoptAsk) {
    super(who, name);
    this.#ask = ask;
    if (ask.replaces !== undefined) this.add({ cmd: CMD.UNLINK, attr: { pathname: ask.replaces } });
  }

  /** Descriptors of BTF, by the kernel's ids of it. */
  readonly #btfs = new Map<number, number>();

  /**
   * Adds the commands that create a map, fill it, and freeze it if the kernel map is frozen. Returns the map's
   * descriptor.
   */
  adopt(foreign: ForeignMap): number | AdoptRefusal {
    const elements = foreign.elements();
    if ("errno" in elements) return elements;
    const groups = byNames(elements);
    const holds = groups.find(({ names }) => names !== null && !("prog" in names));
    const template = holds === undefined ? 0 : this.#openNamed(holds.names as ForeignName);
    if (typeof template !== "number") return template;
    const btfFd = this.#btf(foreign);
    const { facts } = foreign;
    const attr = {
      ...createAttr({ ...facts, numaNode: 0, adopted: facts.id }, btfFd, template),
      adopted: facts.id,
      ...(foreign.pin === null ? {} : { adoptedPin: foreign.pin.path, onReplace: this.#ask.onReplace }),
    };
    const fd = this.open({ cmd: CMD.BPF_MAP_CREATE, attr });
    const target = { by: "fd", fd } as const;
    const type = mapType(facts.type) as MapType;
    for (const group of groups) {
      const { names, elements } = group;
      const named = names === null ? null : group === holds ? template : this.#openNamed(names);
      if (named !== null && typeof named !== "number") return named;
      const written =
        named === null ? elements : elements.map(({ key, value }) => ({ key, value: naming(value, named) }));
      for (const action of updates(type, target, written, BATCH_ELEMENTS))
        this.add({ ...action, imported: true }, MADE);
      if (named !== null) this.close(named);
    }
    if (facts.frozen) this.add({ cmd: CMD.BPF_MAP_FREEZE, target, key: null, value: null, flags: 0n }, MADE);
    return fd;
  }

  #btf({ facts, btf }: ForeignMap): number {
    if (facts.btf === null || btf === null) return 0;
    const { btfId } = facts.btf;
    const fd = this.#btfs.get(btfId) ?? this.open({ cmd: CMD.BPF_BTF_LOAD, value: btf, attr: { btfSize: btf.length } });
    this.#btfs.set(btfId, fd);
    return fd;
  }

  #openNamed(name: ForeignName): number | AdoptRefusal {
    if ("foreign" in name) return this.adopt(name.foreign);
    return this.open(
      "prog" in name
        ? { cmd: CMD.OPEN, attr: { kind: "prog", id: name.prog, expectedAttachType: name.expectedAttachType } }
        : { cmd: CMD.BPF_MAP_GET_FD_BY_ID, attr: { mapId: name.map, openFlags: 0 } },
    );
  }
}

interface Group {
  readonly names: ForeignName | null;
  readonly elements: ForeignElement[];
}

/** Groups elements by the object that their values name. */
function byNames(elements: readonly ForeignElement[]): readonly Group[] {
  const groups = new Map<ForeignMap | string, Group>();
  for (const element of elements) {
    const { names } = element;
    const name = names === null ? "" : "foreign" in names ? names.foreign : JSON.stringify(names);
    const group = groups.get(name) ?? { names, elements: [] };
    groups.set(name, group);
    group.elements.push(element);
  }
  return [...groups.values()];
}

/** The value with a descriptor as its last u32. */
function naming(value: Buffer, fd: number): Buffer {
  const naming = Buffer.from(value);
  naming.writeUInt32LE(fd, value.length - 4);
  return naming;
}

/** A path below bpffs: the kernel map's pin, or its name with dots replaced, because bpffs refuses names with dots. */
function pinName({ facts: { name, id }, pin }: ForeignMap): string {
  if (pin !== null) return pin.below;
  return name === "" ? `map_${id}` : name.replaceAll(".", "_");
}
