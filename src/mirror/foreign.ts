/** Opens kernel maps that other programs have made, for adoption (engine/adopt.ts). */

import { statSync } from "node:fs";
import { basename, dirname, resolve } from "node:path";
import { errnoName } from "../abi/errno.ts";
import { Btf } from "../btf/btf.ts";
import { specialFields } from "../btf/special_fields.ts";
import type { ForeignElement, ForeignMap, ForeignName } from "../engine/ports.ts";
import { isOfMaps } from "../maps/facts.ts";
import type { InnerShape, MapRecord } from "../maps/map.ts";
import type { MapInfo } from "../native/map_info.ts";
import { neededAt, type Privilege, refusedFor } from "./capability.ts";
import { isFrozenFd, isMapFd } from "./fdinfo.ts";
import { shownKey } from "./kernel_elements.ts";
import { KeyedElements } from "./keyed_elements.ts";
import type { Making } from "./make.ts";
import { cannotAdopt, mirrored, type Named } from "./map_types.ts";
import { isProgressMap } from "./progress_map.ts";
import { errnoOf } from "./refusal.ts";
import { isRefusedKeys } from "./refused_keys.ts";

/** The reason why a foreign kernel map cannot be had. */
export interface NoForeignMap {
  readonly errno: string;
  readonly detail: string;
}

/** Kernel maps that belong to this mirror, by the kernel's ids. */
export interface KnownMaps {
  /** Kernel maps of the ledger's maps. */
  readonly maps: ReadonlyMap<number, MapRecord>;
  /** Kernel maps in which the mirror keeps its own data. */
  readonly own: ReadonlySet<number>;
  /** The freed map of the ledger that had this kernel map, or null. */
  was(kernelId: number): number | null;
}

/** The capability that BPF_*_GET_FD_BY_ID demands. */
export const BY_ID = ["CAP_SYS_ADMIN"] as const;

type Which = { readonly kernelId: number } | { readonly pinned: string };

/** The object that a value names; for a map, also its definition. */
interface Resolved {
  readonly name: ForeignName;
  readonly shape: InnerShape | null;
}

/** Holds the kernel maps of one adoption open, each by an fd, until a map of the ledger takes over its fd. */
export class Adopting {
  readonly #making: Making;
  readonly #known: KnownMaps;
  readonly #opened = new Map<number, Foreign>();

  constructor(making: Making, known: KnownMaps) {
    this.#making = making;
    this.#known = known;
  }

  open(which: Which): Foreign | NoForeignMap {
    const { bpf } = this.#making;
    const shown = "kernelId" in which ? `kernel map ${which.kernelId}` : `what is pinned at ${which.pinned}`;
    const fd = "kernelId" in which ? bpf.mapFdById(which.kernelId) : bpf.get(which.pinned);
    if (fd < 0) return none(`opening ${shown}`, fd, "kernelId" in which ? BY_ID : neededAt(which.pinned));
    const pin = "pinned" in which ? { path: which.pinned, below: belowRoot(which.pinned) } : null;
    const foreign = this.#foreign(fd, pin, shown);
    if (foreign instanceof Foreign) this.#opened.set(foreign.facts.id, foreign);
    else bpf.close(fd);
    return foreign;
  }

  /** Hands the fd of a kernel map over to the map that adopts it. */
  take(kernelId: number): number | null {
    const foreign = this.#opened.get(kernelId);
    this.#opened.delete(kernelId);
    return foreign?.fd ?? null;
  }

  /** Closes the kernel maps that no map has taken over. */
  close(): void {
    for (const { fd } of this.#opened.values()) this.#making.bpf.close(fd);
    this.#opened.clear();
  }

  #foreign(fd: number, pin: ForeignMap["pin"], shown: string): Foreign | NoForeignMap {
    const { bpf } = this.#making;
    if (!isMapFd(fd)) return { errno: "EINVAL", detail: `${shown} is no map` };
    const info = bpf.infoByFd(fd);
    if (typeof info === "number") return none(`looking at ${shown}`, info);
    const cannot = whyNot(this.#making, this.#known, info);
    if (cannot !== null) return { ...cannot, detail: `${shown} cannot be adopted: ${cannot.detail}` };
    const btf = info.btf === null ? null : bpf.btfById(info.btf.btfId);
    if (typeof btf === "number")
      return none(`reading the BTF of ${shown}, which the kernel gives by its id`, btf, BY_ID);
    let frozen = false;
    const unread = errnoOf(() => {
      frozen = isFrozenFd(fd);
    });
    if (unread < 0) return none(`looking at ${shown}`, unread);
    return new Foreign(this.#making, { ...info, frozen }, btf, pin, fd, (named) => this.#resolve(named));
  }

  #resolve(named: Named): Resolved | NoForeignMap {
    if ("prog" in named) return { name: named, shape: null };
    const map = this.#known.maps.get(named.map);
    if (map !== undefined) return { name: { map: map.id }, shape: map };
    const foreign = this.#opened.get(named.map) ?? this.open({ kernelId: named.map });
    return foreign instanceof Foreign ? { name: { foreign }, shape: foreign.map } : foreign;
  }
}

/** A kernel map that another program has made, held by an fd. */
export class Foreign implements ForeignMap {
  readonly facts: ForeignMap["facts"];
  readonly btf: Buffer | null;
  readonly pin: ForeignMap["pin"];
  readonly fd: number;
  /** The definition that the adopted map would have; of a map of maps without the inner maps' definition. */
  readonly map: MapRecord;
  readonly #making: Making;
  readonly #resolve: (named: Named) => Resolved | NoForeignMap;

  constructor(
    making: Making,
    facts: ForeignMap["facts"],
    btf: Buffer | null,
    pin: ForeignMap["pin"],
    fd: number,
    resolve: (named: Named) => Resolved | NoForeignMap,
  ) {
    this.#making = making;
    this.map = recordOf(facts, btf);
    this.facts = { ...facts, mapFlags: (facts.mapFlags & ~ownFlags(making, this.map)) >>> 0 };
    this.btf = btf;
    this.pin = pin;
    this.fd = fd;
    this.#resolve = resolve;
  }

  elements(): readonly ForeignElement[] | NoForeignMap {
    const { map, fd } = this;
    const type = mirrored(map, this.#making.cpus);
    if (typeof type === "string") return { errno: "EOPNOTSUPP", detail: type };
    const elements: ForeignElement[] = [];
    let inner: InnerShape | null = null;
    let refused: NoForeignMap | null = null;
    const unread = new KeyedElements({ ...this.#making, type, map, fd }).read((key, value) => {
      const named = type.named?.(value) ?? null;
      const resolved = named === null ? null : this.#resolve(named);
      if (resolved !== null && "errno" in resolved) {
        refused ??= { ...resolved, detail: `its element ${shownKey(key)}: ${resolved.detail}` };
        return;
      }
      inner ??= resolved?.shape ?? null;
      elements.push({ key: Buffer.from(key), value: Buffer.from(value), names: resolved?.name ?? null });
    });
    // The definition of inner maps is known only from the inner maps that the kernel map has now.
    const cannot = isOfMaps(map.type) ? cannotHold(this.#making, map, inner) : null;
    return unread ?? refused ?? (cannot === null ? elements : { errno: "EOPNOTSUPP", detail: cannot });
  }
}

/**
 * The reason why a map of maps with such inner maps cannot be adopted, or null. `inner` null: it has no inner map now.
 */
export function cannotHold({ cpus }: Making, map: MapRecord, inner: InnerShape | null): string | null {
  if (inner === null) return "it holds no map now, so the definition of its inner maps is not known";
  const type = mirrored({ ...map, inner }, cpus);
  return typeof type === "string" ? type : null;
}

export function none(attempted: string, ret: number, needed: readonly Privilege[] = []): NoForeignMap {
  return { errno: errnoName(-ret), detail: refusedFor(attempted, ret, needed) };
}

/** A pin's path relative to the root of its bpffs. */
function belowRoot(path: string): string {
  const names = [basename(path)];
  for (let directory = dirname(resolve(path)); directory !== "/"; directory = dirname(directory)) {
    const { dev } = statSync(directory);
    if (statSync(dirname(directory)).dev !== dev) break;
    names.unshift(basename(directory));
  }
  return names.join("/");
}

/** The reason why a kernel map cannot be adopted, judged without its elements; null if none is seen. */
export function whyNot({ cpus }: Making, { maps, own }: KnownMaps, info: MapInfo): NoForeignMap | null {
  const map = maps.get(info.id);
  if (own.has(info.id)) return { errno: "EEXIST", detail: "it is the mirror's own" };
  if (isKeptByMirror(info)) return { errno: "EOPNOTSUPP", detail: "another mapledger records its progress in it" };
  if (map !== undefined) return { errno: "EEXIST", detail: `it is the kernel map of map ${map.id}` };
  const cannot = cannotAdopt(recordOf({ ...info, frozen: false }, null), cpus);
  return cannot === null ? null : { errno: "EOPNOTSUPP", detail: cannot };
}

/** Whether a kernel map has the definition of one in which a mirror keeps its data. */
function isKeptByMirror(info: MapInfo): boolean {
  return isProgressMap(info) || isRefusedKeys(info);
}

/** Flags that the kernel sets by itself and BPF_MAP_CREATE refuses. */
function ownFlags({ cpus }: Making, map: MapRecord): number {
  const type = mirrored(map, cpus);
  return typeof type === "string" ? 0 : type.ownFlags;
}

export function recordOf(facts: ForeignMap["facts"], btf: Buffer | null): MapRecord {
  const none = { exclusive: false, inner: null, owner: null };
  return { ...facts, ...none, id: 0, numaNode: -1, adopted: facts.id, special: specialIn(facts, btf) };
}

function specialIn({ btf: about }: ForeignMap["facts"], blob: Buffer | null): MapRecord["special"] {
  const btf = blob === null ? null : Btf.parse(blob);
  if (about === null || !(btf instanceof Btf)) return [];
  return specialFields(btf, btf.type(about.valueTypeId)?.id ?? 0);
}
