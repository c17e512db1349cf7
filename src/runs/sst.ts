/**
 * A file of ascending entries that never changes once it is written (a sorted string table):
 *
 *     blocks     of 4 KiB or one entry, as block.ts has them
 *     index      a block: the last key of each block -> the place where it begins, and its length
 *     filter     a Bloom filter of the keys, without the bytes at their end that the store leaves out
 *     footer     where index and filter begin and end, how many entries there are, checksums; 32 bytes
 *
 * Files are written whole, some MiB at a time, so that their memory and the time that a merge takes are bounded.
 */

import { crc32 } from "node:zlib";
import { Damaged } from "../supervisor/derived_parts.ts";
import {
  type Block,
  BlockCursor,
  BlockWriter,
  type Cursor,
  compareBytes,
  firstFrom,
  readBlock,
  valueAtEntry,
} from "./block.ts";
import { BlockCache, Slot } from "./block_cache.ts";
import { FilterWriter, hashOf, mayHave } from "./bloom_filter.ts";

const BLOCK_BYTES = 4096;
const FOOTER_BYTES = 32;
const MAGIC = 0x6d6c7373;
/** The bytes of a block's place and length in the index. */
const PLACE_BYTES = 8;

/** A file of a run, as the manifest names it. */
export interface Sst {
  readonly file: string;
  readonly entries: number;
  readonly bytes: number;
  /** The greatest key. */
  readonly last: Buffer;
}

/** Makes the bytes of one file after the other. */
export class SstWriter {
  readonly #suffix: number;
  readonly #block = new BlockWriter();
  readonly #index = new BlockWriter(1);
  readonly #filter = new FilterWriter();
  readonly #place = Buffer.alloc(PLACE_BYTES);
  #blocks: Buffer[] = [];
  #bytes = 0;
  entries = 0;

  /** `suffix`: bytes at a key's end that the filter leaves out. */
  constructor(suffix: number) {
    this.#suffix = suffix;
  }

  /** Bytes of the file so far, without its index. */
  get bytes(): number {
    return this.#bytes + this.#block.bytes;
  }

  /** As BlockWriter.add(). */
  add(key: Uint8Array, keyBytes: number, value: Uint8Array, valueAt: number, valueBytes: number): void {
    this.#block.add(key, keyBytes, value, valueAt, valueBytes);
    this.#filter.add(hashOf(key, Math.max(keyBytes - this.#suffix, 0)));
    this.entries++;
    if (this.#block.bytes >= BLOCK_BYTES) this.#endBlock();
  }

  /** Ends the file; the next add() begins another. There must be an entry. */
  take(): {
    readonly chunks: readonly Buffer[];
    readonly entries: number;
    readonly bytes: number;
    readonly last: Buffer;
  } {
    if (this.#block.bytes > 0) this.#endBlock();
    const last = this.#index.lastKey();
    const indexAt = this.#bytes;
    const index = Buffer.from(this.#index.take());
    const filter = this.#filter.take();
    const footer = Buffer.alloc(FOOTER_BYTES);
    const { entries } = this;
    for (const [at, word] of [indexAt, index.length, filter.length, entries, crc32(filter), 0].entries())
      footer.writeUInt32LE(word, at * 4);
    footer.writeUInt32LE(crc32(footer.subarray(0, FOOTER_BYTES - 8)), FOOTER_BYTES - 8);
    footer.writeUInt32LE(MAGIC, FOOTER_BYTES - 4);
    const chunks = [...this.#blocks, index, filter, footer];
    const bytes = indexAt + index.length + filter.length + FOOTER_BYTES;
    this.#blocks = [];
    this.#bytes = 0;
    this.entries = 0;
    return { chunks, entries, bytes, last };
  }

  #endBlock(): void {
    const last = this.#block.lastKey();
    const block = Buffer.from(this.#block.take());
    this.#place.writeUInt32LE(this.#bytes, 0);
    this.#place.writeUInt32LE(block.length, 4);
    this.#index.add(last, last.length, this.#place, 0, PLACE_BYTES);
    this.#blocks.push(block);
    this.#bytes += block.length;
  }
}

interface Footer {
  readonly indexAt: number;
  readonly indexBytes: number;
  readonly filterBytes: number;
  readonly filterChecksum: number;
}

/** The parts of a file that have been read. */
interface Known {
  readonly footer: Footer;
  readonly index: Slot<Block>;
  readonly filter: Slot<Buffer>;
  /** The file's blocks, in the order of the index. */
  readonly blocks: Slot<Block>[];
}

/** Reads files of runs. */
export class SstReader {
  readonly #cache: BlockCache;
  readonly #known = new WeakMap<Sst, Known>();

  constructor(cache: BlockCache) {
    this.#cache = cache;
  }

  index(sst: Sst): Block {
    const { footer, index } = this.#of(sst);
    index.isUsed = true;
    return index.kept ?? this.#block(sst, index, footer.indexAt, footer.indexBytes);
  }

  /** A block by its position in the index, which must have it. */
  blockAt(sst: Sst, index: Block, entry: number): Block {
    const { blocks } = this.#of(sst);
    let slot = blocks[entry];
    if (slot === undefined) {
      slot = new Slot();
      blocks[entry] = slot;
    }
    slot.isUsed = true;
    if (slot.kept !== null) return slot.kept;
    const at = valueAtEntry(index, entry);
    return this.#block(sst, slot, index.bytes.readUInt32LE(at), index.bytes.readUInt32LE(at + 4));
  }

  /** false: no key with this hash is in the file. */
  mayHave(sst: Sst, hash: number): boolean {
    const { filter } = this.#of(sst);
    filter.isUsed = true;
    return mayHave(filter.kept ?? this.#filter(sst), hash);
  }

  #block(sst: Sst, slot: Slot<Block>, at: number, bytes: number): Block {
    return this.#cache.keep(slot, readBlock(this.#cache.read(sst.file, at, bytes)), bytes);
  }

  #filter(sst: Sst): Buffer {
    const { filter, footer } = this.#of(sst);
    const read = this.#cache.read(sst.file, footer.indexAt + footer.indexBytes, footer.filterBytes);
    if (crc32(read) !== footer.filterChecksum) throw new Damaged(`the filter of ${sst.file} is not as it was written`);
    return this.#cache.keep(filter, read, read.length);
  }

  #of(sst: Sst): Known {
    let known = this.#known.get(sst);
    if (known === undefined) {
      const footer = readFooter(sst, this.#cache.read(sst.file, sst.bytes - FOOTER_BYTES, FOOTER_BYTES));
      known = { footer, index: new Slot(), filter: new Slot(), blocks: [] };
      this.#known.set(sst, known);
    }
    return known;
  }
}

/** Reads a whole file. Throws Damaged if a part of it is not as it was written. */
export function checkSst(sst: Sst): void {
  const cache = new BlockCache(sst.bytes);
  try {
    const reader = new SstReader(cache);
    const index = reader.index(sst);
    reader.mayHave(sst, 0);
    for (let block = 0; block < index.restarts; block++) reader.blockAt(sst, index, block);
  } finally {
    cache.close();
  }
}

function readFooter({ file, bytes, entries }: Sst, footer: Buffer): Footer {
  const word = (at: number): number => footer.readUInt32LE(at * 4);
  const [indexAt, indexBytes, filterBytes] = [word(0), word(1), word(2)];
  const isSound =
    word(7) === MAGIC &&
    word(6) === crc32(footer.subarray(0, FOOTER_BYTES - 8)) &&
    word(3) === entries &&
    indexAt + indexBytes + filterBytes + FOOTER_BYTES === bytes;
  if (!isSound) throw new Damaged(`the footer of ${file} is not as it was written`);
  return { indexAt, indexBytes, filterBytes, filterChecksum: word(4) };
}

/** Walks a file upwards. */
export class SstCursor extends BlockCursor {
  readonly #reader: SstReader;
  readonly #sst: Sst;
  readonly #index: Block;
  /** The present block, by its position in the index. */
  #at = 0;

  constructor(reader: SstReader, sst: Sst) {
    super();
    this.#reader = reader;
    this.#sst = sst;
    this.#index = reader.index(sst);
  }

  /** Goes to the first entry whose key is not less than `key`. */
  seekKey(key: Uint8Array, keyBytes: number): void {
    this.#at = firstFrom(this.#index, key, keyBytes);
    if (this.#at < this.#index.restarts)
      this.seek(this.#reader.blockAt(this.#sst, this.#index, this.#at), key, keyBytes);
  }

  override next(): void {
    super.next();
    if (this.isAt || ++this.#at >= this.#index.restarts) return;
    this.begin(this.#reader.blockAt(this.#sst, this.#index, this.#at));
  }
}

interface Entry {
  readonly key: Buffer;
  readonly valueAt: number;
  readonly valueBytes: number;
}

/** Walks a file downwards. */
export class SstCursorDown implements Cursor {
  readonly #reader: SstReader;
  readonly #sst: Sst;
  readonly #index: Block;
  /** The present block, by its position in the index, and all its entries. */
  #block = 0;
  #entries: Entry[] = [];
  #at = -1;
  source: Buffer = Buffer.alloc(0);

  constructor(reader: SstReader, sst: Sst) {
    this.#reader = reader;
    this.#sst = sst;
    this.#index = reader.index(sst);
  }

  get isAt(): boolean {
    return this.#at >= 0;
  }

  get key(): Buffer {
    return (this.#entries[this.#at] as Entry).key;
  }

  get keyBytes(): number {
    return this.key.length;
  }

  get valueAt(): number {
    return (this.#entries[this.#at] as Entry).valueAt;
  }

  get valueBytes(): number {
    return (this.#entries[this.#at] as Entry).valueBytes;
  }

  /** Goes to the last entry whose key is less than `key`; null: to the last of all. */
  seekKey(key: Uint8Array | null): void {
    const last = this.#index.restarts - 1;
    this.#load(key === null ? last : Math.min(firstFrom(this.#index, key, key.length), last));
    while (key !== null && this.isAt && compareBytes(this.key, this.keyBytes, key, key.length) >= 0) this.next();
  }

  next(): void {
    if (--this.#at < 0) this.#load(this.#block - 1);
  }

  #load(block: number): void {
    this.#block = block;
    this.#entries = [];
    if (block >= 0) {
      const cursor = new BlockCursor();
      for (cursor.begin(this.#reader.blockAt(this.#sst, this.#index, block)); cursor.isAt; cursor.next()) {
        const key = Buffer.from(cursor.key.subarray(0, cursor.keyBytes));
        this.#entries.push({ key, valueAt: cursor.valueAt, valueBytes: cursor.valueBytes });
        this.source = cursor.source;
      }
    }
    this.#at = this.#entries.length - 1;
  }
}
