/**
 * The holders of kernel maps, for the whole machine at once and in pieces of a few milliseconds: programs and maps of
 * maps by their ids, pins by a walk over every bpffs (`mounts.ts`, `pinned_maps.ts`). If any of that is refused, or
 * another mount covers a bpffs, holders are unknown, with the reason. Unknown counts as held.
 */

import { BPF_CMD } from "../abi/bpf.ts";
import { ERRNO } from "../abi/errno.ts";
import type { Bpf } from "../native/bpf.ts";
import { refusedFor } from "./capability.ts";
import { OuterMap } from "./outer_maps.ts";
import { atOnce, Pace } from "./pace.ts";
import { PinnedMaps } from "./pinned_maps.ts";

/** Who holds a kernel map, but for descriptors of processes, which the kernel does not tell of. */
export interface KernelHolders {
  /** Paths of this mount namespace, one for each pin. */
  readonly pins: readonly string[];
  /** The kernel's ids of programs that use it. */
  readonly programs: readonly number[];
  /** The kernel's ids of maps of maps that it is in. */
  readonly outer: readonly number[];
}

/**
 * Who holds which kernel map, on the whole machine. It is made in pieces, and each pin, program and map is as it was when
 * it was looked at: one that comes, goes or moves meanwhile may be in it or not. Pins in other mount namespaces are not seen.
 */
export class HolderScan {
  readonly #pins = new Map<number, string[]>();
  readonly #programs = new Map<number, number[]>();
  readonly #outer = new Map<number, number[]>();
  readonly #reasons: string[] = [];

  private constructor() {}

  static *scan(bpf: Bpf): Generator<void, HolderScan> {
    const scan = new HolderScan();
    const pace = new Pace();
    scan.#note(yield* scan.#askPrograms(bpf, pace));
    scan.#note(yield* scan.#askMaps(bpf, pace));
    scan.#note(yield* new PinnedMaps(bpf, pace, (path, id) => add(scan.#pins, id, path)).walk());
    return scan;
  }

  /** Why some holders may be missing in it, or null. */
  get unknown(): string | null {
    return this.#reasons.length === 0 ? null : this.#reasons.join("; ");
  }

  /** Those that were found. */
  of(kernelId: number): KernelHolders {
    return {
      pins: this.#pins.get(kernelId) ?? [],
      programs: this.#programs.get(kernelId) ?? [],
      outer: this.#outer.get(kernelId) ?? [],
    };
  }

  /**
   * Whether anything but our own pins and maps of maps holds a kernel map. If holders are unknown, the answer is true: a map
   * that nobody is known to hold may be held all the same.
   */
  heldByOthers(kernelId: number, isOurs: (path: string) => boolean, ourOuter: ReadonlySet<number>): boolean {
    const { pins, programs, outer } = this.of(kernelId);
    if (programs.length > 0) return true;
    if (pins.some((path) => !isOurs(path))) return true;
    if (outer.some((id) => !ourOuter.has(id))) return true;
    return this.unknown !== null;
  }

  #note(reason: string | null): void {
    if (reason !== null) this.#reasons.push(reason);
  }

  *#askPrograms(bpf: Bpf, pace: Pace): Generator<void, string | null> {
    let reason: string | null = null;
    let id = bpf.nextId(BPF_CMD.BPF_PROG_GET_NEXT_ID, 0);
    for (; id > 0; id = bpf.nextId(BPF_CMD.BPF_PROG_GET_NEXT_ID, id)) {
      yield* pace.step();
      const fd = bpf.byId(BPF_CMD.BPF_PROG_GET_FD_BY_ID, id);
      const maps = fd < 0 ? fd : bpf.progMapIds(fd);
      if (fd >= 0) bpf.close(fd);
      if (typeof maps === "number") reason ??= refused(maps, `looking at kernel program ${id}`);
      else for (const map of new Set(maps)) add(this.#programs, map, id);
    }
    return reason ?? refused(id, "listing the kernel's programs");
  }

  *#askMaps(bpf: Bpf, pace: Pace): Generator<void, string | null> {
    let reason: string | null = null;
    let id = bpf.mapGetNextId(0);
    for (; id > 0; id = bpf.mapGetNextId(id)) {
      yield* pace.step();
      const outer = OuterMap.find(bpf, pace, id);
      const inner = outer instanceof OuterMap ? yield* outer.innerIds() : outer;
      if (typeof inner === "number") reason ??= refused(inner, `looking at kernel map ${id}`);
      else for (const map of inner ?? []) add(this.#outer, map, id);
    }
    return reason ?? refused(id, "listing the kernel's maps");
  }
}

/** The whole scan at once. */
export function holdersNow(bpf: Bpf): HolderScan {
  return atOnce(HolderScan.scan(bpf));
}

/** null: ENOENT ends a walk, and says that what had this id is gone. */
function refused(ret: number, attempted: string): string | null {
  if (ret === -ERRNO.ENOENT) return null;
  return refusedFor(attempted, ret, ["CAP_SYS_ADMIN"]);
}

function add<Holder>(holders: Map<number, Holder[]>, kernelId: number, holder: Holder): void {
  const known = holders.get(kernelId);
  if (known === undefined) holders.set(kernelId, [holder]);
  else known.push(holder);
}
