import { OBJ_NAME_LEN } from "../abi/bpf.ts";
import { CMD } from "../abi/service.ts";
import type { CreateAttr, Element } from "../maps/map.ts";
import { mapType } from "../maps/types.ts";
import { BPFFS } from "../syscall/pins.ts";
import { batch, inBatches } from "./batches.ts";
import type { Request } from "./engine.ts";
import { MADE, Whole } from "./made.ts";
import type { ForeignElement, ForeignMap, ForeignName, MirrorRefusal } from "./ports.ts";

/** Which kernel map is to be taken over, where its map is pinned in the ledger (null: by its name), and who asks. */
export interface AdoptAsk {
  readonly which: { readonly kernelId: number } | { readonly pinned: string };
  readonly pathname: string | null;
  readonly caller: string;
}

/** The map that a kernel map has become; or why it has become none. */
export type AdoptAnswer =
  | { readonly map: number; readonly seq: number }
  | { readonly refused: { readonly errno: string; readonly detail: string } }
  | { readonly failure: "disk full" | "log failed" | "bug"; readonly detail: string };

const BATCH_ELEMENTS = 4096;

type Refused = Pick<MirrorRefusal, "errno" | "detail">;

/**
 * The commands that a kernel map's definition and contents come to, and those of the maps that it holds: all of them run,
 * or none. The mirror does not carry the elements, for the kernel has them.
 */
export function adoptRequests(foreign: ForeignMap, ask: AdoptAsk): readonly Request[] | Refused {
  const adoption = new Adoption({ caller: ask.caller }, "adoption");
  const fd = adoption.adopt(foreign);
  if (typeof fd !== "number") return fd;
  const pathname = ask.pathname ?? `${BPFFS}/${pinName(foreign.facts, ask)}`;
  const attr = { pathname, fileFlags: 0, pathFd: 0 };
  adoption.add({ cmd: CMD.BPF_OBJ_PIN, target: { by: "fd", fd }, attr }, MADE);
  adoption.end();
  return adoption.requests;
}

class Adoption extends Whole {
  /** Descriptors of BTF, by the kernel's id of it. */
  readonly #btfs = new Map<number, number>();

  /** Creates a map, fills it, and freezes it where it was frozen; answers its descriptor. */
  adopt(foreign: ForeignMap): number | Refused {
    const elements = foreign.elements();
    if ("errno" in elements) return elements;
    const groups = byNames(elements);
    const holds = groups.find(({ names }) => names !== null && !("prog" in names));
    const template = holds === undefined ? 0 : this.#openNamed(holds.names as ForeignName);
    if (typeof template !== "number") return template;
    const btfFd = this.#btf(foreign);
    const fd = this.open({ cmd: CMD.BPF_MAP_CREATE, attr: createAttr(foreign, template, btfFd) });
    for (const group of groups) {
      const { names, elements } = group;
      const named = names === null ? null : group === holds ? template : this.#openNamed(names);
      if (named !== null && typeof named !== "number") return named;
      const written =
        named === null ? elements : elements.map(({ key, value }) => ({ key, value: naming(value, named) }));
      this.#write(foreign.facts.type, fd, written);
      if (named !== null) this.close(named);
    }
    const target = { by: "fd", fd } as const;
    if (foreign.facts.frozen) this.add({ cmd: CMD.BPF_MAP_FREEZE, target, key: null, value: null, flags: 0n }, MADE);
    return fd;
  }

  #btf({ facts, btf }: ForeignMap): number {
    if (facts.btf === null || btf === null) return 0;
    const { btfId } = facts.btf;
    const fd = this.#btfs.get(btfId) ?? this.open({ cmd: CMD.BPF_BTF_LOAD, value: btf, attr: { btfSize: btf.length } });
    this.#btfs.set(btfId, fd);
    return fd;
  }

  #openNamed(name: ForeignName): number | Refused {
    if ("foreign" in name) return this.adopt(name.foreign);
    return this.open(
      "prog" in name
        ? { cmd: CMD.OPEN, attr: { kind: "prog", id: name.prog, expectedAttachType: name.expectedAttachType } }
        : { cmd: CMD.BPF_MAP_GET_FD_BY_ID, attr: { mapId: name.map, openFlags: 0 } },
    );
  }

  /** In batches, where the type has them. */
  #write(type: number, fd: number, elements: readonly Element[]): void {
    const target = { by: "fd", fd } as const;
    if (mapType(type)?.batch.update !== null)
      for (const { key, value } of elements)
        this.add({ cmd: CMD.BPF_MAP_UPDATE_ELEM, target, key, value, flags: 0n, imported: true }, MADE);
    else
      for (const some of inBatches(elements, BATCH_ELEMENTS)) {
        const keys = some.map(({ key }) => key);
        const values = some.map(({ value }) => value);
        this.add({ ...batch(CMD.BPF_MAP_UPDATE_BATCH, target, keys, values), imported: true }, MADE);
      }
  }
}

interface Group {
  readonly names: ForeignName | null;
  readonly elements: ForeignElement[];
}

/** Elements whose values name the same. */
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

function naming(value: Buffer, fd: number): Buffer {
  const naming = Buffer.from(value);
  naming.writeUInt32LE(fd, value.length - 4);
  return naming;
}

/** As where it was found; or its own; bpffs has no names with dots. */
function pinName({ name, id }: ForeignMap["facts"], { which }: AdoptAsk): string {
  const found = "pinned" in which ? (which.pinned.split("/").at(-1) as string) : name;
  return found === "" ? `map_${id}` : found.replaceAll(".", "_");
}

function createAttr({ facts }: ForeignMap, innerMapFd: number, btfFd: number): CreateAttr {
  const mapName = Buffer.alloc(OBJ_NAME_LEN);
  mapName.write(facts.name, "latin1");
  return {
    mapType: facts.type,
    keySize: facts.keySize,
    valueSize: facts.valueSize,
    maxEntries: facts.maxEntries,
    mapFlags: facts.mapFlags,
    innerMapFd,
    numaNode: 0,
    mapName,
    mapIfindex: 0,
    btfFd,
    btfKeyTypeId: facts.btf?.keyTypeId ?? 0,
    btfValueTypeId: facts.btf?.valueTypeId ?? 0,
    btfVmlinuxValueTypeId: 0,
    mapExtra: facts.mapExtra,
    valueTypeBtfObjFd: 0,
    mapTokenFd: 0,
    exclProgHash: null,
    exclProgHashSize: 0,
    adopted: facts.id,
  };
}
