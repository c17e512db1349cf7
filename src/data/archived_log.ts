import { join } from "node:path";
import { type PlacedSegment, segmentsAtHand } from "../archive/at_hand.ts";
import { segmentRows } from "../archive/segment.ts";
import { EventsArchived } from "../engine/archives.ts";
import { sha256Of } from "../files/contents.ts";
import { CanonicalWriter, rowBytes } from "../log/canonical.ts";
import type { EventRow } from "../log/event.ts";
import { SqlitePastLog } from "../sqlite/past_log.ts";
import { TreeFile } from "../sqlite/tree_store.ts";
import { HASH_BYTES } from "../tlog/merkle.ts";
import { TILE_HASHES } from "../tlog/tiles.ts";
import { archiveFolder } from "./archive_job.ts";
import { ARCHIVE_FOLDER, LOG_FILE, TREE_FILE } from "./layout.ts";

/** Where a log is, and where its archived events may be. */
export interface ArchivedPlaces {
  readonly data: string;
  /** MAPLEDGER_ARCHIVE; empty: archive/ in the data directory. */
  readonly archive: string;
  /** Somebody else has made the data directory: the folder that its log names is not looked at. */
  readonly foreign: boolean;
}

/** How long what could not be read is left alone. */
const RETRY_MS = 10_000;

/** The archived events of a log that are at hand, segment by segment, each held against the hash that it had and against the log's tree. */
export class ArchivedLog {
  readonly log: SqlitePastLog;
  readonly #places: ArchivedPlaces;
  readonly #report: (message: string) => void;
  #segments: readonly PlacedSegment[] = [];
  /** The last archived event that they were looked for with. */
  #through = 0;
  #retryMs = Number.NEGATIVE_INFINITY;
  /** The end of the last segment that cannot be read: what is at hand begins behind it. */
  #unreadable = 0;
  readonly #told = new Set<string>();

  constructor(places: ArchivedPlaces, report: (message: string) => void) {
    this.log = new SqlitePastLog(join(places.data, LOG_FILE));
    this.#places = places;
    this.#report = report;
  }

  /** Ascending, up to the last archived event. Throws EventsArchived where there are none. */
  get segments(): readonly PlacedSegment[] {
    const { archived, id } = this.log;
    const { through } = archived;
    const nowMs = performance.now();
    const isOld = nowMs > this.#retryMs;
    if (through !== this.#through || (isOld && (this.#segments.length === 0 || this.#unreadable > 0))) {
      this.#unreadable = 0;
      const found = segmentsAtHand(this.#folders(archived.directory), id, through);
      if (typeof found === "string") this.#tell(`events up to ${through} are archived, and not at hand: ${found}`);
      this.#segments = typeof found === "string" ? [] : found;
      this.#through = through;
      this.#retryMs = nowMs + RETRY_MS;
    }
    const segments = this.#segments.filter(({ first }) => first > this.#unreadable);
    if (segments.length === 0) throw new EventsArchived(through + 1);
    return segments;
  }

  /** The first event that is at hand. Throws EventsArchived where none is that is archived. */
  get oldestSeq(): number {
    return (this.segments[0] as PlacedSegment).first;
  }

  /** The segment that an event is in. Throws EventsArchived where it is not at hand. */
  segmentOf(seq: number): PlacedSegment {
    const { segments } = this;
    const found = segments.find(({ first, through }) => first <= seq && seq <= through);
    if (found === undefined) throw new EventsArchived((segments[0] as PlacedSegment).first);
    return found;
  }

  /**
   * A segment's events, some at a time; nothing of them counts before the last. Throws EventsArchived, behind the segment, where it cannot
   * be read.
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

  /** Reads a segment's file, for who uses its events before the last is read. Throws EventsArchived where it is not what it was. */
  async check(segment: PlacedSegment): Promise<void> {
    const file = join(segment.folder, segment.name);
    try {
      if ((await sha256Of(file)) !== segment.sha256)
        throw new Error(`the archive is damaged: ${file} does not match its recorded SHA-256`);
    } catch (error) {
      throw this.#unreadableFrom(segment, error as Error);
    }
  }

  /** What is at hand begins behind a segment from now on, until it is looked for again. */
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

  /** Once: it may be asked for often. */
  #tell(message: string): void {
    if (this.#told.has(message)) return;
    this.#told.add(message);
    this.#report(message);
  }
}

/** The hashes of events that a log's tree has, if it has one. */
export class Leaves {
  readonly #tree: TreeFile | null;
  readonly #canonical = new CanonicalWriter();
  readonly #leaf = Buffer.alloc(HASH_BYTES);
  #index = -1;
  #tile: Buffer | undefined;

  constructor(data: string) {
    this.#tree = openedTree(join(data, TREE_FILE));
  }

  /** Throws where the tree has another event. */
  check(row: EventRow): void {
    if (this.#tree === null) return;
    const index = Math.floor((row.seq - 1) / TILE_HASHES);
    if (index !== this.#index) this.#tile = this.#tree.tile(0, index);
    this.#index = index;
    const at = ((row.seq - 1) % TILE_HASHES) * HASH_BYTES;
    const known = this.#tile?.subarray(at, at + HASH_BYTES);
    if (known?.length !== HASH_BYTES) return;
    this.#canonical.leafHash(rowBytes(row), this.#leaf, 0);
    if (!known.equals(this.#leaf)) throw new Error(`event ${row.seq} is not the one that the log's tree has`);
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
