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

/** The holders of a kernel map. Descriptors of processes are not among them, because the kernel does not list them. */
export interface KernelHolders {
  /** Paths in this mount namespace, one for each pin. */
  readonly pins: readonly string[];
  /** The kernel's ids of programs that use the map. */
  readonly programs: readonly number[];
  /** The kernel's ids of maps of maps that contain the map. */
  readonly outer: readonly number[];
}

/**
 * The holders of all kernel maps of the machine. The scan runs in pieces, and sees each pin, program and map as it is
 * when its turn comes: one that comes, goes or moves during the scan may be missing. Pins in other mount namespaces are
 * not seen.
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

  /** The reason why holders may be missing, or null. */
  get unknown(): string | null {
    return this.#reasons.length === 0 ? null : this.#reasons.join("; ");
  }

  /** The holders of a kernel map that the scan has found. */
  of(kernelId: number): KernelHolders {
    return {
      pins: this.#pins.get(kernelId) ?? [],
      programs: this.#programs.get(kernelId) ?? [],
      outer: this.#outer.get(kernelId) ?? [],
    };
  }

  /**
   * Whether a kernel map has a holder other than our own pins and maps of maps. If holders may be missing, the answer
   * is true, because an unseen holder must be assumed.
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

/** Runs the whole scan in one piece. */
export function holdersNow(bpf: Bpf): HolderScan {
  return atOnce(HolderScan.scan(bpf));
}

/** null for ENOENT, which ends a walk, or means that the object with this id is gone. */
function refused(ret: number, attempted: string): string | null {
  if (ret === -ERRNO.ENOENT) return null;
  return refusedFor(attempted, ret, ["CAP_SYS_ADMIN"]);
}

function add<Holder>(holders: Map<number, Holder[]>, kernelId: number, holder: Holder): void {
  const known = holders.get(kernelId);
  if (known === undefined) holders.set(kernelId, [holder]);
  else known.push(holder);
}
