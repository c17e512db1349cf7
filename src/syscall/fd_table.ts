import { FIRST_FD, SESSION_FDS_MAX } from "../abi/limits.ts";
import { type Cells, readU32Key, u32Key } from "../maps/cells.ts";
import type { OpenFile } from "../maps/map.ts";
import type { ObjectKind } from "../maps/object.ts";
import { jsonCodec, Table } from "./table.ts";

/** An open file, which descriptors refer to. */
export interface FdRecord extends OpenFile {
  readonly kind: "map" | ObjectKind;
  readonly readable: boolean;
  readonly writable: boolean;
}

/** Called for each descriptor that a session opens (1) or closes (-1). */
type Charge = (session: number, by: 1 | -1) => void;

/** The descriptors of sessions: table f, by session and number. References to maps and objects are the caller's part. */
export class FdTable {
  readonly #files: Table<FdRecord>;
  readonly #charge: Charge;
  /** The number of descriptors of sessions; counted when it is first needed, then kept up to date. */
  readonly #counts = new Map<number, number>();

  constructor(cells: Cells, charge: Charge) {
    this.#files = new Table(cells, "f", jsonCodec());
    this.#charge = charge;
  }

  get(session: number, fd: number): FdRecord | undefined {
    return fd < 0 ? undefined : this.#files.get(u32Key(session) + u32Key(fd));
  }

  *of(session: number): Iterable<readonly [fd: number, file: FdRecord]> {
    for (const [key, file] of this.#files.under(u32Key(session))) yield [readU32Key(key, 4), file];
  }

  count(session: number): number {
    const count = this.#counts.get(session) ?? this.#files.countUnder(u32Key(session));
    this.#counts.set(session, count);
    return count;
  }

  /** The lowest free descriptor from FIRST_FD on; undefined: EMFILE. */
  lowestFree(session: number): number | undefined {
    let free = FIRST_FD;
    for (const key of this.#files.keysUnder(u32Key(session))) {
      if (readU32Key(key, 4) !== free) break;
      free++;
    }
    return free < SESSION_FDS_MAX ? free : undefined;
  }

  add(session: number, fd: number, file: FdRecord): void {
    this.#files.put(u32Key(session) + u32Key(fd), file);
    this.#noteCount(session, 1);
  }

  delete(session: number, fd: number): void {
    this.#files.delete(u32Key(session) + u32Key(fd));
    this.#noteCount(session, -1);
  }

  #noteCount(session: number, by: 1 | -1): void {
    this.#charge(session, by);
    const count = this.#counts.get(session);
    if (count !== undefined) this.#counts.set(session, count + by);
  }

  /** Whether a descriptor of a session refers to this open file: no other session can have a duplicate. */
  isOpen(session: number, { file }: FdRecord): boolean {
    for (const [, other] of this.of(session)) if (other.file === file) return true;
    return false;
  }

  chargeAll(): void {
    for (const key of this.#files.keysUnder("")) this.#charge(readU32Key(key, 0), 1);
  }

  sessionEnded(session: number): void {
    this.#counts.delete(session);
  }

  forget(): void {
    this.#files.forget();
    this.#counts.clear();
  }
}
