/**
 * The blocks of a store's files that were read, and the files that are open. Both are bounded. If there are too many
 * files, the least recently used one is closed. If there are too many blocks, the hand of a clock goes round them, and
 * drops one that was not used since it passed last.
 */

import { closeSync, openSync, readSync } from "node:fs";
import { Damaged } from "../supervisor/derived_parts.ts";

const OPEN_FILES_MAX = 32;

/** A place for a block or a filter that was read. `kept` null: it must be read, maybe again. */
export class Slot<Read> {
  kept: Read | null = null;
  bytes = 0;
  isUsed = false;
}

export class BlockCache {
  readonly #bytesMax: number;
  readonly #filesMax: number;
  #bytes = 0;
  /** Filled slots, in a circle. #hand is at the next one that may be emptied. */
  readonly #slots: Slot<unknown>[] = [];
  #hand = 0;
  /** The first was used the longest ago. */
  readonly #files = new Map<string, number>();

  constructor(bytesMax: number, filesMax = OPEN_FILES_MAX) {
    this.#bytesMax = bytesMax;
    this.#filesMax = filesMax;
  }

  /** Fills a slot, and empties others if there are too many bytes. */
  keep<Read>(slot: Slot<Read>, read: Read, bytes: number): Read {
    while (this.#bytes + bytes > this.#bytesMax && this.#slots.length > 0) this.#dropOne();
    slot.kept = read;
    slot.bytes = bytes;
    this.#slots.push(slot);
    this.#bytes += bytes;
    return read;
  }

  #dropOne(): void {
    for (; ; this.#hand++) {
      if (this.#hand >= this.#slots.length) this.#hand = 0;
      const slot = this.#slots[this.#hand] as Slot<unknown>;
      if (slot.isUsed) {
        slot.isUsed = false;
        continue;
      }
      slot.kept = null;
      this.#bytes -= slot.bytes;
      const last = this.#slots.pop() as Slot<unknown>;
      if (last !== slot) this.#slots[this.#hand] = last;
      return;
    }
  }

  /** Reads bytes of a file. Throws Damaged if the file is missing or too short. */
  read(file: string, at: number, bytes: number): Buffer {
    const read = Buffer.allocUnsafeSlow(bytes);
    const fd = this.openFile(file);
    for (let done = 0; done < bytes; ) {
      const more = readSync(fd, read, done, bytes - done, at + done);
      if (more === 0) throw new Damaged(`${file} ends at byte ${at + done}: before byte ${at + bytes}`);
      done += more;
    }
    return read;
  }

  /** Returns the descriptor of a file. Throws Damaged if the file is missing. */
  openFile(file: string): number {
    let fd = this.#files.get(file);
    if (fd === undefined) fd = openExisting(file);
    else this.#files.delete(file);
    this.#files.set(file, fd);
    const [oldest] = this.#files.keys();
    if (this.#files.size > this.#filesMax) this.closeFile(oldest as string);
    return fd;
  }

  /** Closes a file that will not be read for now. */
  closeFile(file: string): void {
    const fd = this.#files.get(file);
    if (fd === undefined) return;
    closeSync(fd);
    this.#files.delete(file);
  }

  close(): void {
    for (const file of [...this.#files.keys()]) this.closeFile(file);
    for (const slot of this.#slots.splice(0)) slot.kept = null;
    this.#bytes = 0;
  }
}

function openExisting(file: string): number {
  try {
    return openSync(file, "r");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    throw new Damaged(`${file} is missing`, error);
  }
}
