/**
 * The marker of a state: a file beside LMDB's, which tells whether the state can be trusted, and what may be said of it
 * without LMDB.
 */

import { closeSync, openSync, readFileSync, readSync, renameSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { machineError } from "./errors.ts";

/** The number of the layout of cells, which snapshots of an archive have, too. */
export const LAYOUT = 8;
/** The number of the layout of a state's files and their cells. A state with another one is made again from the log. */
export const STATE_LAYOUT = 9;

/** The content of marker.json, a file beside the data. It tells whether the data can be trusted. */
export interface Marker {
  readonly layout: number;
  /** The id of the log from which the state is made. */
  readonly log: string;
  /** The machine's boot in which this marker was written. */
  readonly boot: string;
  /** The bytes of the data when it was closed and synced; null: it is open, or was not closed. */
  readonly closedBytes: number | null;
  /**
   * LMDB is opening the data. If a start finds this set, the last opening has ended the process, because LMDB trusts
   * the pages that it maps.
   */
  readonly opening?: true;
  /** The number of times in a row that the process died while the data was open. */
  readonly deaths?: number;
  /** The fault that was found in the data while it was read. */
  readonly damaged?: string;
}

/**
 * The offsets of LMDB's two meta pages, and in each that of the magic number (MDB_MAGIC), after a header of 24 bytes.
 */
const META_PAGES = [0, 4096];
const MAGIC_AT = 24;
const MAGIC = 0xbeefc0de;

/** The path of the one file that has the data. */
export function dataFile(folder: string): string {
  return join(folder, "data.mdb");
}

/** The reason why a state cannot be trusted; null: none is known. */
export function reasonToDiscard(folder: string, log: string): string | null {
  const bytes = statSync(dataFile(folder), { throwIfNoEntry: false })?.size;
  if (bytes === undefined) return null;
  const marker = readMarker(folder);
  if (marker === null) return "its marker is missing or cannot be read";
  if (marker.layout !== STATE_LAYOUT)
    return `it has layout number ${marker.layout}, this release has number ${STATE_LAYOUT}`;
  if (marker.log !== log) return "it was made from another log";
  if (marker.opening) return "the process died when it was opened";
  if (marker.damaged !== undefined) return `it is damaged: ${marker.damaged}`;
  if (!hasMagic(folder)) return "it is no LMDB file";
  if (marker.closedBytes !== null)
    return marker.closedBytes === bytes
      ? null
      : `it has ${bytes} bytes, but had ${marker.closedBytes} when it was closed`;
  return marker.boot !== "" && marker.boot === bootId() ? null : "the machine went down while it was open";
}

/** The number of times in a row that the process died while the state was open. */
export function deathsOf(folder: string): number {
  const marker = readMarker(folder);
  return marker === null || marker.closedBytes !== null ? 0 : (marker.deaths ?? 0) + 1;
}

/** The number of the layout of the cells in a folder; null: there is no marker that names it. */
export function layoutOf(folder: string): number | null {
  try {
    return readMarker(folder)?.layout ?? null;
  } catch {
    return null;
  }
}

/** null: there is no marker, or none that is valid. Throws if the machine fails to read it. */
function readMarker(folder: string): Marker | null {
  try {
    return JSON.parse(readFileSync(join(folder, "marker.json"), "utf8")) as Marker;
  } catch (error) {
    if ((error as { code?: unknown }).code !== "ENOENT" && machineError(error) !== null) throw error;
    return null;
  }
}

function hasMagic(folder: string): boolean {
  const file = openSync(dataFile(folder), "r");
  const magic = Buffer.alloc(4);
  const found = META_PAGES.every((page) => {
    readSync(file, magic, 0, magic.length, page + MAGIC_AT);
    return magic.readUInt32LE(0) === MAGIC;
  });
  closeSync(file);
  return found;
}

export function writeMarker(folder: string, state: Omit<Marker, "layout" | "boot">): void {
  const marker: Marker = { layout: STATE_LAYOUT, boot: bootId(), ...state };
  // Replaces the marker atomically, because a state without a marker is discarded.
  writeFileSync(join(folder, "marker.json.new"), `${JSON.stringify(marker)}\n`);
  renameSync(join(folder, "marker.json.new"), join(folder, "marker.json"));
}

/** The id of the machine's boot; "": it is unknown, and a state that was left open is not trusted. */
function bootId(): string {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  } catch {
    return "";
  }
}
