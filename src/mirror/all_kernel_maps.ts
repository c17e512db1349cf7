/** Lists all kernel maps of the machine, with their holders, and with the reason why each cannot be adopted. */

import { ERRNO } from "../abi/errno.ts";
import type { KernelMapFacts } from "../engine/ports.ts";
import { isOfMaps } from "../maps/facts.ts";
import type { InnerShape } from "../maps/map.ts";
import type { MapInfo } from "../native/map_info.ts";
import { isFrozenFd } from "./fdinfo.ts";
import { BY_ID, cannotHold, type KnownMaps, type NoForeignMap, none, recordOf, whyNot } from "./foreign.ts";
import { HolderScan } from "./holders.ts";
import { shownKey } from "./kernel_elements.ts";
import type { Making } from "./make.ts";
import { Pace } from "./pace.ts";
import { errnoOf } from "./refusal.ts";

/**
 * Lists all kernel maps in pieces; or returns the reason why they cannot be listed. `known` is called again for each
 * piece, because the ledger's maps change between pieces.
 */
export function* kernelMaps(
  making: Making,
  known: () => KnownMaps,
): Generator<void, readonly KernelMapFacts[] | { readonly refused: NoForeignMap }> {
  const { bpf } = making;
  // Checked first: if this process may not list maps, it cannot scan their holders, either.
  const first = bpf.mapGetNextId(0);
  if (first < 0 && first !== -ERRNO.ENOENT) return { refused: none("listing kernel maps", first, BY_ID) };
  const scan = yield* HolderScan.scan(bpf);
  const pace = new Pace();
  const adoptable = new Adoptable(making, known, pace);
  const found: KernelMapFacts[] = [];
  let id = bpf.mapGetNextId(0);
  for (; id > 0; id = bpf.mapGetNextId(id)) {
    yield* pace.step();
    const fd = bpf.mapFdById(id);
    if (fd === -ERRNO.ENOENT) continue;
    if (fd < 0) return { refused: none(`listing kernel maps: opening kernel map ${id}`, fd, BY_ID) };
    const info = bpf.infoByFd(fd);
    let frozen = false;
    let cannot: string | null = null;
    const unread = errnoOf(() => {
      frozen = isFrozenFd(fd);
    });
    try {
      if (typeof info !== "number") cannot = yield* adoptable.whyNot(fd, info);
    } finally {
      bpf.close(fd);
    }
    const asked = typeof info === "number" ? info : unread;
    if (asked < 0) return { refused: none(`listing kernel maps: looking at kernel map ${id}`, asked) };
    if (typeof info === "number") continue;
    const { pins, ...holders } = scan.of(id);
    const now = known();
    found.push({
      ...info,
      frozen,
      map: now.maps.get(id)?.id ?? null,
      was: now.was(id),
      cannot,
      pins,
      holders: scan.unknown === null ? holders : null,
      holdersUnknown: scan.unknown,
    });
  }
  return id === -ERRNO.ENOENT ? found : { refused: none("listing kernel maps", id, BY_ID) };
}

/** The definition of an inner map, or the reason why it cannot be adopted. */
type Held = InnerShape | { readonly cannot: string };

/**
 * Decides for one listing whether kernel maps can be adopted. A map of maps is adopted together with its inner maps, so
 * it can be adopted only if they can.
 */
class Adoptable {
  readonly #making: Making;
  readonly #known: () => KnownMaps;
  readonly #pace: Pace;
  /** Results for inner maps, by the kernel's ids. */
  readonly #held = new Map<number, Held>();

  constructor(making: Making, known: () => KnownMaps, pace: Pace) {
    this.#making = making;
    this.#known = known;
    this.#pace = pace;
  }

  /** In pieces; null: the map can be adopted. */
  *whyNot(fd: number, info: MapInfo): Generator<void, string | null> {
    const cannot = whyNot(this.#making, this.#known(), info)?.detail ?? this.#unreadBtf(info);
    return cannot ?? (isOfMaps(info.type) ? yield* this.#cannotHold(fd, info) : null);
  }

  #unreadBtf({ btf }: MapInfo): string | null {
    const blob = btf === null ? 0 : this.#making.bpf.btfById(btf.btfId);
    return typeof blob === "number" && blob < 0 ? none("reading its BTF", blob, BY_ID).detail : null;
  }

  *#cannotHold(fd: number, info: MapInfo): Generator<void, string | null> {
    const { bpf } = this.#making;
    let inner: InnerShape | null = null;
    let key: Buffer | null = null;
    const value = Buffer.alloc(4);
    // If the hash changes meanwhile, the walk may start again; the limit ends it.
    for (let at = 0; at < info.maxEntries; at++) {
      yield* this.#pace.step();
      const next: Buffer = Buffer.alloc(info.keySize);
      if (bpf.nextKey(fd, key, next) < 0) break;
      key = next;
      if (bpf.lookup(fd, key, value) < 0) continue;
      const held = this.#heldMap(value.readUInt32LE(0));
      if ("cannot" in held) return `its element ${shownKey(key)}: ${held.cannot}`;
      inner ??= held;
    }
    return cannotHold(this.#making, recordOf({ ...info, frozen: false }, null), inner);
  }

  #heldMap(id: number): Held {
    const seen = this.#held.get(id);
    if (seen !== undefined) return seen;
    const held = this.#known().maps.get(id) ?? this.#foreignMap(id);
    this.#held.set(id, held);
    return held;
  }

  #foreignMap(id: number): Held {
    const { bpf } = this.#making;
    const fd = bpf.mapFdById(id);
    if (fd < 0) return { cannot: none(`opening kernel map ${id}`, fd, BY_ID).detail };
    const info = bpf.infoByFd(fd);
    bpf.close(fd);
    if (typeof info === "number") return { cannot: none(`looking at kernel map ${id}`, info).detail };
    const cannot = whyNot(this.#making, this.#known(), info)?.detail ?? this.#unreadBtf(info);
    if (cannot !== null) return { cannot: `kernel map ${id} cannot be adopted: ${cannot}` };
    return recordOf({ ...info, frozen: false }, null);
  }
}
