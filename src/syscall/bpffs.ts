/** Pins and directories of bpffs in the state. `pins.ts` has the commands. */

import { createHash } from "node:crypto";
import { afterKey, bytesKey, type CellKey, type Cells } from "../maps/cells.ts";
import type { MapRecord } from "../maps/map.ts";
import type { Charges } from "./charges.ts";
import type { Follower } from "./follower.ts";
import type { MapWatch } from "./map_watch.ts";
import { jsonCodec, Table } from "./table.ts";

export interface PinRecord {
  readonly pathname: string;
  readonly map: number;
  /** The caller who made it; left out: the owner, because the state was archived by a release that kept no creators. */
  readonly creator?: string;
}

interface DirectoryRecord {
  readonly pathname: string;
  /** The caller who made it; left out: the owner, because the state was archived by a release that kept no creators. */
  readonly creator?: string;
}

/** The parts of the state that pins and directories use. */
interface Port {
  readonly cells: Cells;
  readonly charges: Pick<Charges, "addPin">;
  readonly follower: Pick<Follower, "pinned" | "unpinned" | "directoryMade" | "directoryRemoved">;
  readonly watch: Pick<MapWatch, "changed">;
  /** A pin holds its map. */
  hold(map: number): void;
  release(map: number): void;
}

/**
 * Pins and directories of bpffs, by their canonical path. Two tables:
 *
 *     p  pathname                     -> a pin: which map
 *     d  pathname                     -> a directory
 */
export class Bpffs {
  readonly #port: Port;
  readonly #pins: Table<PinRecord>;
  readonly #directories: Table<DirectoryRecord>;
  /** Built when it is first needed, then kept up to date. */
  #pinsByMap: Map<number, Set<string>> | null = null;
  /** Whether #pinsByMap was built since the last `settle`: it may then have pins of a state that is taken back. */
  #isFresh = false;
  /** The pins that have changed since the last `settle`, if #pinsByMap is there. */
  #unsettled: [map: number, pathname: string][] = [];

  constructor(port: Port) {
    this.#port = port;
    this.#pins = new Table(port.cells, "p", jsonCodec());
    this.#directories = new Table(port.cells, "d", jsonCodec());
  }

  /** Makes the changes so far final. */
  settle(): void {
    this.#unsettled = [];
    this.#isFresh = false;
  }

  /** The cells have gone back, not before the last `settle`. */
  takeBack(): void {
    this.#forgetRows();
    if (this.#isFresh) this.#pinsByMap = null;
    if (this.#pinsByMap === null) return;
    for (const [map, pathname] of this.#unsettled) {
      forgetPin(this.#pinsByMap, map, pathname);
      const pinned = this.pinAt(pathname);
      if (pinned !== undefined) notePin(this.#pinsByMap, pinned, pathname);
    }
  }

  /** The cells have gone back to any earlier state. */
  forget(): void {
    this.#forgetRows();
    this.#pinsByMap = null;
  }

  #forgetRows(): void {
    this.#pins.forget();
    this.#directories.forget();
  }

  chargeAll(): void {
    const { charges } = this.#port;
    for (const rows of [this.#pins.from(""), this.#directories.from("")])
      for (const [, row] of rows) charges.addPin(row, 1);
  }

  pin(map: MapRecord, pathname: string, creator: string): void {
    const { charges, follower, watch } = this.#port;
    const pin = { pathname, map: map.id, creator };
    this.#pins.put(pathKey(pathname), pin);
    charges.addPin(pin, 1);
    if (this.#pinsByMap !== null) {
      notePin(this.#pinsByMap, map.id, pathname);
      this.#unsettled.push([map.id, pathname]);
    }
    watch.changed(map.id, pathname);
    this.#port.hold(map.id);
    follower.pinned(map, pathname);
  }

  pinAt(pathname: string): number | undefined {
    return this.#pins.get(pathKey(pathname))?.map;
  }

  unpin(pathname: string): void {
    const { charges, follower, watch } = this.#port;
    const pin = this.#pins.get(pathKey(pathname)) as PinRecord;
    this.#pins.delete(pathKey(pathname));
    charges.addPin(pin, -1);
    if (this.#pinsByMap !== null) {
      forgetPin(this.#pinsByMap, pin.map, pathname);
      this.#unsettled.push([pin.map, pathname]);
    }
    watch.changed(pin.map, pathname);
    follower.unpinned(pathname);
    this.#port.release(pin.map);
  }

  /** The paths at which a map is pinned. */
  pinsOf(id: number): ReadonlySet<string> {
    if (this.#pinsByMap === null) {
      this.#pinsByMap = new Map();
      this.#isFresh = true;
      for (const { pathname, map } of this.pinned()) notePin(this.#pinsByMap, map, pathname);
    }
    return this.#pinsByMap.get(id) ?? NO_PINS;
  }

  isDirectory(pathname: string): boolean {
    return this.#directories.get(pathKey(pathname)) !== undefined;
  }

  makeDirectory(pathname: string, creator: string): void {
    const directory = { pathname, creator };
    this.#directories.put(pathKey(pathname), directory);
    this.#port.charges.addPin(directory, 1);
    this.#port.follower.directoryMade(pathname);
  }

  removeDirectory(pathname: string): void {
    const directory = this.#directories.get(pathKey(pathname)) as DirectoryRecord;
    this.#directories.delete(pathKey(pathname));
    this.#port.charges.addPin(directory, -1);
    this.#port.follower.directoryRemoved(pathname);
  }

  /** Whether there is a pin or directory below a path. */
  hasEntries(pathname: string): boolean {
    const below = `${pathname}/`;
    // Keys of long paths end in a hash, so rows with this prefix may have another path.
    const prefix = bytesKey(Buffer.from(below).subarray(0, PATH_IN_KEY_BYTES_MAX));
    for (const rows of [this.#pins.under(prefix), this.#directories.under(prefix)])
      for (const [, row] of rows) if (row.pathname.startsWith(below)) return true;
    return false;
  }

  /** Pins in the order of their keys, after the one at the path `after`; "": all of them. */
  *pinned(after = ""): Iterable<PinRecord> {
    for (const [, pin] of this.#pins.from(behindPath(after))) yield pin;
  }

  /** The paths of directories in the order of their keys, after the path `after`; "": all of them. */
  *directories(after = ""): Iterable<string> {
    for (const [, { pathname }] of this.#directories.from(behindPath(after))) yield pathname;
  }
}

const NO_PINS: ReadonlySet<string> = new Set();

function notePin(pins: Map<number, Set<string>>, map: number, pathname: string): void {
  const known = pins.get(map);
  if (known === undefined) pins.set(map, new Set([pathname]));
  else known.add(pathname);
}

function forgetPin(pins: Map<number, Set<string>>, map: number, pathname: string): void {
  const known = pins.get(map);
  known?.delete(pathname);
  if (known?.size === 0) pins.delete(map);
}

/** LMDB's keys have at most 1978 bytes, paths up to 4095: the rest of a long path is replaced by its SHA-256. */
const PATH_IN_KEY_BYTES_MAX = 1024;

function pathKey(pathname: string): CellKey {
  const bytes = Buffer.from(pathname);
  if (bytes.length <= PATH_IN_KEY_BYTES_MAX) return bytesKey(bytes);
  return bytesKey(bytes.subarray(0, PATH_IN_KEY_BYTES_MAX)) + bytesKey(createHash("sha256").update(bytes).digest());
}

function behindPath(pathname: string): CellKey {
  return pathname === "" ? "" : afterKey(pathKey(pathname));
}
