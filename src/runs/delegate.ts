import type { Cursor } from "./block.ts";

/** A cursor that is where another cursor is. */
export abstract class Delegate<Part extends Cursor> implements Cursor {
  /** The cursor that shows the entry; null: there is no entry. */
  protected part: Part | null = null;

  get isAt(): boolean {
    return this.part?.isAt === true;
  }

  get key(): Buffer {
    return (this.part as Part).key;
  }

  get keyBytes(): number {
    return (this.part as Part).keyBytes;
  }

  get source(): Buffer {
    return (this.part as Part).source;
  }

  get valueAt(): number {
    return (this.part as Part).valueAt;
  }

  get valueBytes(): number {
    return (this.part as Part).valueBytes;
  }

  abstract next(): void;
}
