/**
 * Watches the host, about every second and in pieces: pins and their inodes, holders of adopted kernel maps, and kernel
 * maps that live on although their map was freed. If the pin of an adopted map names another kernel map, the engine
 * follows it (`engine/replaced_pins.ts`).
 */

import { lstatSync } from "node:fs";
import { ERRNO } from "../abi/errno.ts";
import type { FormerKernelMap, MirrorFinding, MirrorSource, MirrorStatus, MirrorWatch } from "../engine/ports.ts";
import type { MapRecord } from "../maps/map.ts";
import type { Bpf } from "../native/bpf.ts";
import { refusedFor } from "./capability.ts";
import type { KnownMaps } from "./foreign.ts";
import { HolderScan } from "./holders.ts";
import type { KernelMap } from "./kernel_map.ts";
import { bootId } from "./pidfd.ts";
import type { PinTree } from "./pin_tree.ts";
import { errnoOf, isShortage } from "./refusal.ts";

/** A path at which a kernel map should be pinned: a pin of the mirror, or that of an adopted map's owner. */
interface Expected {
  readonly map: MapRecord;
  /** The pathname in the ledger; null if the pin is the owner's. */
  readonly pathname: string | null;
  /** null: no kernel map is pinned yet, and any that appears is reported. */
  readonly kernelId: number | null;
  /** The pin's inode at the last look. */
  inode: bigint | null;
  /** The difference that was reported; null if there is none. */
  told: string | null;
  /** When an owner's pin was first found missing. */
  goneMs: number | null;
}

interface Adopted {
  readonly map: MapRecord;
  readonly kernelId: number;
  held: "yes" | "no" | "unknown";
  /**
   * Whether the last scan found no holder. A scan can miss a pin that moves, or a holder that came after it began, so a
   * second one must agree.
   */
  suspected: boolean;
  why: string;
}

/** The result of a look. `status` null: the map is on again. */
export interface Looked extends MirrorWatch {
  readonly statuses: readonly { readonly map: number; readonly status: MirrorStatus | null }[];
}

const INTERVAL_MS = 1000;
/** Paths that one piece looks at. */
const PINS = 1024;
/** The time between two scans of holders. If a scan takes long, the next one waits this many times as long. */
const HOLDERS_MS = 5000;
const HOLDERS_REST = 50;
/**
 * The time after which a freed kernel map is gone unless something holds it. The kernel frees inner maps of maps of
 * maps a grace period later.
 */
const FREED_MS = 1000;

/** Reports the changes that others make. */
export class HostWatch {
  readonly #bpf: Bpf;
  readonly #nowMs: () => number;
  #tree: PinTree | null = null;
  readonly #expected = new Map<string, Expected>();
  /** The expected pins that differ: they are few, and each status of a map asks for them. */
  readonly #troubled = new Map<string, Expected>();
  readonly #adopted = new Map<number, Adopted>();
  #freed: { readonly map: number; readonly kernelId: number; readonly atMs: number }[] = [];
  #dueMs = 0;
  #walk: Iterator<[string, Expected]> | null = null;
  #holders: Generator<void, HolderScan> | null = null;
  #holdersMs = 0;
  #holdersCostMs = 0;

  constructor(bpf: Bpf, nowMs: () => number) {
    this.#bpf = bpf;
    this.#nowMs = nowMs;
  }

  begin(tree: PinTree): void {
    this.#tree = tree;
    this.#expected.clear();
  }

  isDue(): boolean {
    return this.#holders !== null || this.#walk !== null || this.#nowMs() >= this.#dueMs;
  }

  /** Expects a session's pin of a kernel map. */
  expect({ map, id }: KernelMap, pathname: string): void {
    const path = this.#tree?.place(pathname);
    if (typeof path !== "string" || path === map.adoptedPin) return;
    const inode = this.#tree?.idAt(path) === id ? knownInodeAt(path) : null;
    this.#expected.set(path, { map, pathname, kernelId: id, inode, told: null, goneMs: null });
  }

  forget(pathname: string): void {
    const path = this.#tree?.place(pathname);
    if (typeof path === "string" && this.#expected.get(path)?.pathname === pathname) this.#expected.delete(path);
  }

  /** Pathnames at which sessions have pinned a map. */
  pathnamesOf(mapId: number): string[] {
    return [...this.#expected.values()]
      .filter(({ map, pathname }) => map.id === mapId && pathname !== null)
      .map(({ pathname }) => pathname as string);
  }

  /** Watches the holders and the owner's pin of an adopted kernel map that was opened. */
  adopted({ map, id }: KernelMap): void {
    this.#adopted.set(map.id, { map, kernelId: id, held: "yes", suspected: false, why: "" });
    this.#holdersMs = Math.min(this.#holdersMs, this.#nowMs() + INTERVAL_MS);
    const { adoptedPin } = map;
    if (adoptedPin === undefined) return;
    const inode = this.#tree?.idAt(adoptedPin) === id ? knownInodeAt(adoptedPin) : null;
    this.#expected.set(adoptedPin, { map, pathname: null, kernelId: id, inode, told: null, goneMs: null });
  }

  /** An adopted map's kernel map is gone. The next kernel map that appears at its owner's pin will be reported. */
  waits(map: MapRecord): void {
    if (map.adoptedPin !== undefined)
      this.#expected.set(map.adoptedPin, {
        map,
        pathname: null,
        kernelId: null,
        inode: null,
        told: null,
        goneMs: null,
      });
  }

  forgetAdopted(mapId: number): void {
    this.#adopted.delete(mapId);
    for (const [path, { map, pathname }] of this.#expected)
      if (pathname === null && map.id === mapId) this.#expected.delete(path);
  }

  freed(map: number, kernelId: number): void {
    this.#freed.push({ map, kernelId, atMs: this.#nowMs() });
  }

  /** Details for the status of a map that is on. */
  about(mapId: number): { readonly held?: "yes" | "unknown"; readonly detail?: string } {
    const adopted = this.#adopted.get(mapId);
    const details: string[] = [];
    for (const [path, expected] of this.#troubled) {
      if (this.#expected.get(path) !== expected) this.#troubled.delete(path);
      else if (expected.map.id === mapId) details.push(expected.told as string);
    }
    if (adopted?.held === "unknown") details.push(adopted.why);
    return {
      ...(adopted === undefined || adopted.held === "no" ? {} : { held: adopted.held }),
      ...(details.length === 0 ? {} : { detail: details.join("; ") }),
    };
  }

  look(known: KnownMaps, _sources: () => Iterable<MirrorSource>): Looked {
    const looked = { found: [] as MirrorFinding[], former: [] as FormerKernelMap[] };
    const statuses: { map: number; status: MirrorStatus | null }[] = [];
    const replaced: { map: number; kernelId: number; pin: string }[] = [];
    if (this.#nowMs() >= this.#dueMs || this.#walk !== null) {
      this.#dueMs = this.#nowMs() + INTERVAL_MS;
      this.#walk ??= [...this.#expected][Symbol.iterator]();
      for (let left = PINS; left > 0 && this.#walk !== null; left--) {
        const { value, done } = this.#walk.next();
        if (done === true) this.#walk = null;
        else if (this.#expected.get(value[0]) === value[1])
          this.#lookAt(value[0], value[1], looked.found, statuses, replaced);
      }
      looked.former.push(...this.#lookAtFreed());
    }
    this.#lookAtHolders(known, looked.found, statuses);
    return { ...looked, replaced, statuses };
  }

  #lookAt(
    path: string,
    expected: Expected,
    found: MirrorFinding[],
    statuses: { map: number; status: MirrorStatus | null }[],
    replaced: { map: number; kernelId: number; pin: string }[],
  ): void {
    const inode = inodeAt(path);
    if (inode !== null && inode === expected.inode) return;
    const there = inode === null ? null : (this.#tree?.lookAt(path) ?? null);
    if (inode === "unknown" || there === "unknown") return;
    if (inode === "closed" || there === "closed") {
      this.#tellClosed(path, expected, found);
      return;
    }
    const { map, kernelId } = expected;
    if (inode !== null && there === kernelId && kernelId !== null) {
      expected.inode = inode;
      this.#tell(path, expected, null, there, found);
      if (expected.pathname === null) statuses.push({ map: map.id, status: null });
      return;
    }
    if (expected.pathname !== null) {
      this.#tell(path, expected, inode === null ? `nothing is pinned at ${path}` : instead(path, there), there, found);
      return;
    }
    if (inode !== null) expected.goneMs = null;
    if (there !== null && map.onReplace !== "report") {
      replaced.push({ map: map.id, kernelId: there, pin: path });
      return;
    }
    if (inode === null && kernelId !== null) {
      expected.goneMs ??= this.#nowMs();
      if (this.#nowMs() - expected.goneMs < INTERVAL_MS) return;
    }
    if (kernelId === null && inode === null) return;
    const told = inode === null ? `its owner's pin ${path} is gone` : instead(path, there);
    this.#tell(path, expected, told, there, found);
    if (kernelId !== null) statuses.push({ map: map.id, status: { state: "lost", kernelId, detail: told } });
  }

  /** Reports a pin that the service may not look at: it may be there or gone. */
  #tellClosed(path: string, expected: Expected, found: MirrorFinding[]): void {
    const detail = refusedFor(`what is pinned at ${path} is not known: reading it`, -ERRNO.EACCES, [
      "CAP_DAC_READ_SEARCH",
    ]);
    expected.goneMs = null;
    expected.inode = null;
    if (expected.told === detail) return;
    expected.told = detail;
    this.#troubled.set(path, expected);
    found.push({ mapId: expected.map.id, what: "pin closed", path, detail });
  }

  #tell(path: string, expected: Expected, told: string | null, there: number | null, found: MirrorFinding[]): void {
    if (expected.told === told) return;
    expected.told = told;
    if (told === null) this.#troubled.delete(path);
    else this.#troubled.set(path, expected);
    const what = told === null ? "pin back" : there === null && inodeAt(path) === null ? "pin gone" : "pin replaced";
    const detail = told ?? `kernel map ${expected.kernelId} is pinned at ${path} again`;
    found.push({ mapId: expected.map.id, what, path, detail, ...(there === null ? {} : { kernelId: there }) });
  }

  #lookAtFreed(): FormerKernelMap[] {
    const due = this.#freed.filter(({ atMs }) => this.#nowMs() - atMs >= FREED_MS);
    if (due.length === 0) return [];
    this.#freed = this.#freed.filter(({ atMs }) => this.#nowMs() - atMs < FREED_MS);
    const former: FormerKernelMap[] = [];
    for (const { map, kernelId } of due) {
      const fd = this.#bpf.mapFdById(kernelId);
      if (isShortage(fd)) this.#freed.push({ map, kernelId, atMs: this.#nowMs() });
      if (fd < 0) continue;
      this.#bpf.close(fd);
      const detail = `map ${map} was freed, and kernel map ${kernelId} lives on: a program, a pin or a process holds it`;
      former.push({ map, kernelId, boot: bootId(), detail });
    }
    return former;
  }

  #lookAtHolders(
    known: KnownMaps,
    found: MirrorFinding[],
    statuses: { map: number; status: MirrorStatus | null }[],
  ): void {
    if (this.#holders === null) {
      if (this.#adopted.size === 0 || this.#nowMs() < this.#holdersMs) return;
      this.#holders = HolderScan.scan(this.#bpf);
    }
    const begunMs = performance.now();
    const { value: scan, done } = this.#holders.next();
    this.#holdersCostMs += performance.now() - begunMs;
    if (done !== true) return;
    this.#holders = null;
    this.#holdersMs = this.#nowMs() + Math.max(HOLDERS_MS, HOLDERS_REST * this.#holdersCostMs);
    this.#holdersCostMs = 0;
    const ours = (path: string): boolean => this.#isOurs(path);
    const ourOuter = new Set([...known.maps].filter(([, map]) => !this.#isHeldElsewhere(map)).map(([id]) => id));
    for (const adopted of this.#adopted.values()) {
      const { map, kernelId } = adopted;
      const before = adopted.held;
      const byOthers = scan.heldByOthers(kernelId, ours, ourOuter);
      if (!byOthers && !adopted.suspected) {
        adopted.suspected = true;
        this.#holdersMs = this.#nowMs();
        continue;
      }
      adopted.suspected = !byOthers;
      adopted.held = !byOthers ? "no" : scan.unknown === null || isHeld(scan, kernelId, ours) ? "yes" : "unknown";
      adopted.why = `whether anything else holds kernel map ${kernelId} is not known: ${scan.unknown}`;
      if (adopted.held === before) continue;
      if (adopted.held === "no") {
        const detail = `nothing but the mirror holds kernel map ${kernelId}: no pin of its owner's, no program, no map of maps`;
        statuses.push({ map: map.id, status: { state: "lost", kernelId, detail } });
        found.push({ mapId: map.id, what: "held by nobody else", kernelId, detail });
      } else if (before === "no") statuses.push({ map: map.id, status: null });
    }
  }

  /**
   * Whether a map was adopted and others may hold its kernel map. The inner maps of such a map are held by others, too.
   */
  #isHeldElsewhere(map: MapRecord): boolean {
    const adopted = this.#adopted.get(map.id);
    return adopted !== undefined && adopted.held !== "no";
  }

  /** Whether a pin is the mirror's own. */
  #isOurs(path: string): boolean {
    const expected = this.#expected.get(path);
    return (expected !== undefined && expected.pathname !== null) || this.#tree?.isOwn(path) === true;
  }
}

function isHeld(scan: HolderScan, kernelId: number, ours: (path: string) => boolean): boolean {
  const { pins, programs, outer } = scan.of(kernelId);
  return programs.length > 0 || outer.length > 0 || pins.some((path) => !ours(path));
}

function instead(path: string, kernelId: number | null): string {
  return `${path} names ${kernelId === null ? "something that is no map" : `kernel map ${kernelId}`} now`;
}

function knownInodeAt(path: string): bigint | null {
  const inode = inodeAt(path);
  return typeof inode === "bigint" ? inode : null;
}

/**
 * null: nothing is pinned there; "unknown": the machine could not answer; "closed": the service may not look there.
 */
function inodeAt(path: string): bigint | "unknown" | "closed" | null {
  let inode: bigint | null = null;
  const ret = errnoOf(() => {
    inode = lstatSync(path, { bigint: true, throwIfNoEntry: false })?.ino ?? null;
  });
  if (ret === -ERRNO.EACCES) return "closed";
  return isShortage(ret) ? "unknown" : inode;
}
