/**
 * Finds the mirror's own pins on the host. No list of them is kept, because a list could be out of date: they are
 * recognized (see `takeInventory`). `mapledger mirror leave` removes these (`leave.ts`), and the mark last.
 */

import { type BigIntStats, lstatSync } from "node:fs";
import { basename, join } from "node:path";
import type { PinningLedger } from "../engine/ports.ts";
import type { Bpf } from "../native/bpf.ts";
import type { MapInfo } from "../native/map_info.ts";
import { isMapFd } from "./fdinfo.ts";
import type { Layout } from "./layout.ts";
import { collect, type Listed, namesIn } from "./listing.ts";
import { otherThan } from "./make.ts";
import { type Cpus, mirrored } from "./map_types.ts";
import { Pace } from "./pace.ts";
import { ProgressMap } from "./progress_map.ts";
import { RefusedKeys } from "./refused_keys.ts";

/** A pin of a map's kernel map. */
export interface MapPin {
  readonly path: string;
  readonly map: number;
  /** The map's name; null if the map is freed. */
  readonly name: string | null;
  /** The kernel's id. */
  readonly kernelId: number;
}

/** The pins of one ledger on the host, and the foreign pins in its directory. */
export interface Inventory {
  /** Pins at pathnames that sessions have pinned. */
  readonly sessions: readonly MapPin[];
  /** Pins in `by_id`, including those of freed maps and leftovers of processes that were killed. */
  readonly own: readonly MapPin[];
  /** `carried`, `refused` and `owner`, and unfinished ones of these; none is a map's pin. */
  readonly kept: readonly string[];
  /** Pins of adopted maps, made by their owners. */
  readonly owners: readonly MapPin[];
  /** Foreign pins in the directory `aside`, to which the mirror has moved them. */
  readonly aside: readonly string[];
  /** The first of the other foreign pins below the mirror's directory. */
  readonly foreign: readonly string[];
  /** Whether there are more foreign pins than `aside` and `foreign` list. */
  readonly more: boolean;
  /** Directories that could not be read, with the reasons. */
  readonly unread: readonly string[];
}

/** The name of a map's own pin is the map's id. */
const MAP_ID = /^[1-9]\d{0,9}$/;
/** The name of a pin that is about to replace another one: pin_tree.ts. */
const NEW_PIN = /^new_([1-9]\d{0,9})$/;

/**
 * Lists the pins of a ledger in a directory that has its mark, in pieces, and changes nothing. A pin in `by_id` is the
 * mirror's if its name is the id of a freed map, or of a map with the definition of the pinned kernel map. A pin at a
 * session's pathname is the mirror's if it pins the same kernel map as the map's own pin. If the map was adopted, a pin
 * that is older than the map's own pin is its owner's. The ledger may change between pieces.
 */
export function* takeInventory(
  bpf: Bpf,
  layout: Layout,
  ledger: PinningLedger,
  cpus: Cpus,
): Generator<void, Inventory> {
  const pace = new Pace();
  const own: MapPin[] = [];
  const kept: string[] = [];
  const unread: string[] = [];
  const ids = namesIn(layout.byIds, unread);
  for (const { name } of ids) {
    yield* pace.step();
    const pin = MAP_ID.test(name) ? ownPin(bpf, layout, ledger, cpus, Number(name)) : null;
    if (pin !== null) own.push(pin);
  }
  const owns = new Map(own.map((pin) => [pin.map, pin]));
  for (const { name } of ids) {
    yield* pace.step();
    const path = join(layout.byIds, name);
    const pin = owns.get(Number(NEW_PIN.exec(name)?.[1]));
    if (pin !== undefined && mapPinnedAt(bpf, path)?.id === pin.kernelId) own.push({ ...pin, path });
    else if (isKept(bpf, layout, path)) kept.push(path);
  }
  for (const path of [layout.carried, layout.refused, layout.owner]) if (isKept(bpf, layout, path)) kept.push(path);
  const { sessions, owners } = yield* sessionPins(bpf, layout, ledger, owns);
  const known = new Set([...kept, ...[...own, ...sessions, ...owners].map(({ path }) => path)]);
  const aside: Listed = { pins: [], unread, more: false };
  collect(layout.aside, known, aside);
  const foreign: Listed = { pins: [], unread, more: false };
  const others = new Set([...known, layout.aside]);
  collect(layout.own, others, foreign);
  if (layout.root !== layout.own) collect(layout.root, new Set([...others, layout.own]), foreign);
  const more = aside.more || foreign.more;
  return { sessions, own, kept, owners, aside: aside.pins, foreign: foreign.pins, more, unread };
}

function ownPin(bpf: Bpf, layout: Layout, ledger: PinningLedger, cpus: Cpus, map: number): MapPin | null {
  if (map > ledger.lastMap) return null;
  const path = layout.byId(map);
  const info = mapPinnedAt(bpf, path);
  if (info === null) return null;
  const record = ledger.map(map);
  if (record === undefined) return { path, map, name: null, kernelId: info.id };
  const type = mirrored(record, cpus);
  if (typeof type === "string" || otherThan({ cpus }, type, record, info) !== null) return null;
  return { path, map, name: record.name, kernelId: info.id };
}

function* sessionPins(
  bpf: Bpf,
  layout: Layout,
  ledger: PinningLedger,
  owns: ReadonlyMap<number, MapPin>,
): Generator<void, Pick<Inventory, "sessions" | "owners">> {
  const pace = new Pace();
  const sessions: MapPin[] = [];
  const owners: MapPin[] = [];
  for (const { pathname, map } of [...ledger.pinned()]) {
    yield* pace.step();
    const own = owns.get(map);
    if (own === undefined) continue;
    for (const path of [layout.place(pathname), layout.legacyPlace(pathname)]) {
      if (typeof path !== "string" || mapPinnedAt(bpf, path)?.id !== own.kernelId) continue;
      const record = ledger.map(map);
      const isOwners = path === record?.adoptedPin || (record?.adopted !== undefined && isOlder(path, own.path));
      (isOwners ? owners : sessions).push({ ...own, path });
    }
  }
  return { sessions, owners };
}

/** The mtime of a pin is the time when it was made. A rename changes only its ctime (simple_rename, fs/libfs.c). */
function isOlder(path: string, than: string): boolean {
  const [made, other] = [entryAt(path), entryAt(than)];
  return made !== null && other !== null && made.mtimeNs < other.mtimeNs;
}

/** Whether a path that the mirror reserves has the mirror's own entry. */
function isKept(bpf: Bpf, { owner, carried, refused }: Layout, path: string): boolean {
  if (basename(path) === basename(owner)) return entryAt(path)?.isSymbolicLink() === true;
  if (basename(path) === basename(refused)) return RefusedKeys.isAt(bpf, path);
  return basename(path) === basename(carried) && ProgressMap.isAt(bpf, path);
}

/** The info of the kernel map that is pinned at `path`; null if none is. A symbolic link does not count. */
export function mapPinnedAt(bpf: Bpf, path: string): MapInfo | null {
  if (entryAt(path)?.isFile() !== true) return null;
  const fd = bpf.getReadOnly(Buffer.from(path));
  if (fd < 0) return null;
  const info = isMapFd(fd) ? bpf.infoByFd(fd) : 0;
  bpf.close(fd);
  return typeof info === "number" ? null : info;
}

function entryAt(path: string): BigIntStats | null {
  return lstatSync(path, { bigint: true, throwIfNoEntry: false }) ?? null;
}
