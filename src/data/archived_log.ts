/**
 * Reads archived events segment by segment, and verifies them: each segment by its SHA-256, and each event by its hash
 * in the log's tree. No event of a segment counts before both hold.
 */

import { join } from "node:path";
import { type PlacedSegment, segmentsAtHand } from "../archive/at_hand.ts";
import { segmentRows } from "../archive/segment.ts";
import { type ArchivedPlaces, EventsArchived } from "../engine/archives.ts";
import { sha256Of } from "../files/contents.ts";
import { CanonicalWriter, rowBytes } from "../log/canonical.ts";
import type { EventRow } from "../log/event.ts";
import { SqlitePastLog } from "../sqlite/past_log.ts";
import { TreeFile } from "../sqlite/tree_store.ts";
import { HASH_BYTES } from "../tlog/merkle.ts";
import { TILE_HASHES } from "../tlog/tiles.ts";
import { ARCHIVE_FOLDER, archiveFolder, LOG_FILE, TREE_FILE } from "./layout.ts";

/** How long to wait before a segment that could not be read is tried again. */
const RETRY_MS = 10_000;

/** The available archived events of a log. */
export class ArchivedLog {
  readonly log: SqlitePastLog;
  readonly #places: ArchivedPlaces;
  readonly #report: (message: string) => void;
  #segments: readonly PlacedSegment[] = [];
  /** The last archived event at the time of the last search for segments. */
  #through = 0;
  #retryMs = Number.NEGATIVE_INFINITY;
  /** The last event of the last segment that could not be read; only later segments count as available. */
  #unreadable = 0;
  readonly #told = new Set<string>();

  constructor(places: ArchivedPlaces, report: (message: string) => void) {
    this.log = new SqlitePastLog(join(places.data, LOG_FILE));
    this.#places = places;
    this.#report = report;
  }

  /**
   * The available segments, ascending; the last one ends with the last archived event. Throws EventsArchived if there
   * is none.
   */
  get segments(): readonly PlacedSegment[] {
    const { archived, id } = this.log;
    const { through } = archived;
    const nowMs = performance.now();
    const isOld = nowMs > this.#retryMs;
    if (through !== this.#through || (isOld && (this.#segments.length === 0 || this.#unreadable > 0))) {
      this.#unreadable = 0;
      const found = segmentsAtHand(this.#folders(archived.directory), id, through);
      if (typeof found === "string") this.#tell(`events up to ${through} are archived, and not available: ${found}`);
      this.#segments = typeof found === "string" ? [] : found;
      this.#through = through;
      this.#retryMs = nowMs + RETRY_MS;
    }
    const segments = this.#segments.filter(({ first }) => first > this.#unreadable);
    if (segments.length === 0) throw new EventsArchived(through + 1);
    return segments;
  }

  /** The first available event. Throws EventsArchived if no archived event is available. */
  get oldestSeq(): number {
    return (this.segments[0] as PlacedSegment).first;
  }

  /** The segment that has an event. Throws EventsArchived if it is not available. */
  segmentOf(seq: number): PlacedSegment {
    const { segments } = this;
    const found = segments.find(({ first, through }) => first <= seq && seq <= through);
    if (found === undefined) throw new EventsArchived((segments[0] as PlacedSegment).first);
    return found;
  }

  /**
   * Yields a segment's events in batches. The caller must not rely on any of them before the iterator has ended. Throws
   * EventsArchived, with the event after the segment as the oldest, if the segment cannot be read or verified.
   */
  async *rows(segment: PlacedSegment): AsyncGenerator<readonly EventRow[], undefined> {
    const leaves = new Leaves(this.#places.data);
    try {
      for await (const rows of segmentRows(segment.folder, segment)) {
        for (const row of rows) leaves.check(row);
        yield rows;
      }
    } catch (error) {
      throw this.#unreadableFrom(segment, error as Error);
    } finally {
      leaves.close();
    }
  }

  /**
   * Verifies a segment's SHA-256 first, for callers that use events before the last one is read. Throws EventsArchived
   * if it does not match.
   */
  async check(segment: PlacedSegment): Promise<void> {
    const file = join(segment.folder, segment.name);
    try {
      if ((await sha256Of(file)) !== segment.sha256)
        throw new Error(`the archive is damaged: ${file} does not match its recorded SHA-256`);
    } catch (error) {
      throw this.#unreadableFrom(segment, error as Error);
    }
  }

  /** Marks a segment and all earlier ones as unavailable, until the next retry. */
  #unreadableFrom({ through }: PlacedSegment, { message }: Error): EventsArchived {
    this.#tell(message);
    this.#unreadable = Math.max(this.#unreadable, through);
    this.#retryMs = performance.now() + RETRY_MS;
    return new EventsArchived(through + 1);
  }

  close(): void {
    this.log.close();
  }

  #folders(directory: string): string[] {
    const { data, archive, foreign } = this.#places;
    const folders = [archiveFolder({ data, directory: archive }), ...(foreign ? [] : [directory])];
    return [...new Set([...folders, join(data, ARCHIVE_FOLDER)])];
  }

  /** Reports each message once, because queries may repeat it often. */
  #tell(message: string): void {
    if (this.#told.has(message)) return;
    this.#told.add(message);
    this.#report(message);
  }
}

/** Compares events with their hashes in the log's tree, if there is a tree. */
export class Leaves {
  readonly #tree: TreeFile | null;
  readonly #canonical = new CanonicalWriter();
  readonly #leaf = Buffer.alloc(HASH_BYTES);
  #index = -1;
  #tile: Buffer | undefined;

  constructor(data: string) {
    this.#tree = openedTree(join(data, TREE_FILE));
  }

  /** Throws if the tree has another event with this seq. Events that the tree does not have pass. */
  check(row: EventRow): void {
    if (this.#tree === null) return;
    const index = Math.floor((row.seq - 1) / TILE_HASHES);
    if (index !== this.#index) this.#tile = this.#tree.tile(0, index);
    this.#index = index;
    const at = ((row.seq - 1) % TILE_HASHES) * HASH_BYTES;
    const known = this.#tile?.subarray(at, at + HASH_BYTES);
    if (known?.length !== HASH_BYTES) return;
    this.#canonical.leafHash(rowBytes(row), this.#leaf, 0);
    if (!known.equals(this.#leaf)) throw new Error(`event ${row.seq} differs from the one in the log's tree`);
  }

  close(): void {
    this.#tree?.close();
  }
}

function openedTree(file: string): TreeFile | null {
  try {
    return new TreeFile(file);
  } catch {
    return null;
  }
}
