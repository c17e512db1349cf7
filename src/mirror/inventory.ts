/**
 * Finds the mirror's own pins on the host. No list of them is kept; they are recognized: a pin in `by_id` by the id of
 * a map of just that definition, and a pin at a session's pathname if it names the same kernel map. `mapledger mirror
 * leave` removes these (`leave.ts`), and the mark last.
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

/** The pin of a map's kernel map. */
export interface MapPin {
  readonly path: string;
  readonly map: number;
  /** The map's name; null: the map is freed. */
  readonly name: string | null;
  /** The kernel's. */
  readonly kernelId: number;
}

/** What the mirror of one ledger has on the host, and what of others lies in its directory. */
export interface Inventory {
  /** At pathnames that sessions have pinned. */
  readonly sessions: readonly MapPin[];
  /** In `by_id`: also of freed maps, and what a process that was killed has left beside. */
  readonly own: readonly MapPin[];
  /** `carried`, `refused`, `owner`, and unfinished ones of these; no pins of maps. */
  readonly kept: readonly string[];
  /** Pins of adopted maps that their owners have made. */
  readonly owners: readonly MapPin[];
  /** Foreign pins that an operator had put aside. */
  readonly aside: readonly string[];
  /** Other foreign pins below the mirror's directory; the first of them. */
  readonly foreign: readonly string[];
  /** There are more pins of others than `aside` and `foreign` list. */
  readonly more: boolean;
  /** Directories of these that could not be read, and why. */
  readonly unread: readonly string[];
}

/** A map's own pin is named by its id. */
const MAP_ID = /^[1-9]\d{0,9}$/;
/** And a pin that is about to be moved over it or a session's: pin_tree.ts. */
const NEW_PIN = /^new_([1-9]\d{0,9})$/;

/**
 * Looks at the directory of pins, and at sessions' pins, of a ledger whose mark it has. A pin is the mirror's if it stands in
 * `by_id` under the id of a map of just that definition, or of a map that is freed; or if it stands at a pathname that the
 * ledger has a pin at, and names the kernel map that the map's own pin names. Of an adopted map, a pin that is older than the
 * map's own pin was there before the map was adopted: it is its owner's. Nothing is changed. In pieces, the ledger as it is when a
 * piece is looked at.
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

/** A pin's mtime is when it was made: renaming it changes its ctime alone (simple_rename, fs/libfs.c). */
function isOlder(path: string, than: string): boolean {
  const [made, other] = [entryAt(path), entryAt(than)];
  return made !== null && other !== null && made.mtimeNs < other.mtimeNs;
}

/** Whether a path that the mirror keeps for itself has just that. */
function isKept(bpf: Bpf, { owner, carried, refused }: Layout, path: string): boolean {
  if (basename(path) === basename(owner)) return entryAt(path)?.isSymbolicLink() === true;
  if (basename(path) === basename(refused)) return RefusedKeys.isAt(bpf, path);
  return basename(path) === basename(carried) && ProgressMap.isAt(bpf, path);
}

/** The kernel map that is pinned at `path`; null: none is. A symbolic link is no pin, whatever it leads to. */
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
