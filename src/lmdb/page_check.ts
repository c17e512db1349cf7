/**
 * Checks the pages of an LMDB file before it is opened. LMDB trusts the pages that it maps: a damaged page gives a
 * wrong answer, or ends the process. The offsets are those of lmdb-js's mdb.c, little-endian: MDB_page_header,
 * MDB_meta, MDB_db, MDB_node and MDB_ovpage.
 */

import { closeSync, fstatSync, openSync, readSync } from "node:fs";

/** The size of a page's header, and offsets in it. */
const HEADER_BYTES = 24;
const FLAGS_AT = 18;
const LOWER_AT = 20;
const UPPER_AT = 22;
const NODE_BYTES = 8;
const BRANCH = 0x01;
const LEAF = 0x02;
const OVERFLOW = 0x04;
/** A flag of a node: its value is on overflow pages. */
const BIG = 0x01;
const OVERFLOW_REF_BYTES = 24;

/**
 * Offsets in a meta page: the magic number, the page size, the records of its two databases (with depth and root), and
 * the transaction id.
 */
const MAGIC_AT = 24;
const MAGIC = 0xbeefc0de;
const PAGE_SIZE_AT = 48;
const DATABASES_AT = [48, 96];
const DEPTH_AT = 6;
const ROOT_AT = 40;
const TXN_AT = 152;
/** Offsets of the two meta pages in a file with the page size of lmdb-js. */
const META_AT = [0, 4096];
const NO_PAGE = 0xffff_ffff_ffff_ffffn;

/** A page that a database refers to, and its height in the tree: 1 for a leaf. */
type Expected = readonly [page: number, levels: number];

/**
 * Checks at most `most` pages. Returns the first fault, or null. The file must not be written to meanwhile. Pages are
 * checked from the root down, so that a limited check covers the branch pages first. The check finds pages that lie
 * beyond the file, pages in the wrong place, and nodes that exceed their page; it does not find changed values.
 */
export function pageFault(path: string, most: number): string | null {
  const file = openSync(path, "r");
  try {
    return new PageCheck(file).fault(most);
  } finally {
    closeSync(file);
  }
}

class PageCheck {
  readonly #file: number;
  readonly #bytes: number;
  #page: Buffer = Buffer.alloc(META_AT[1] as number);

  constructor(file: number) {
    this.#file = file;
    this.#bytes = fstatSync(file).size;
  }

  fault(most: number): string | null {
    const roots = this.#roots();
    if (typeof roots === "string") return roots;
    let level = roots;
    for (let checked = 0; level.length > 0; ) {
      const below: Expected[] = [];
      for (const expected of level) {
        if (checked++ === most) return null;
        const wrong = this.#look(expected, below);
        if (wrong !== null) return `page ${expected[0]} ${wrong}`;
      }
      level = below;
    }
    return null;
  }

  /** The root pages by the newest meta page, or the fault of the meta pages. */
  #roots(): Expected[] | string {
    let newest: { readonly txn: bigint; readonly roots: Expected[]; readonly pageBytes: number } | null = null;
    for (const at of META_AT) {
      if (!this.#read(at) || this.#page.readUInt32LE(MAGIC_AT) !== MAGIC) return "it is not an LMDB file";
      const txn = this.#page.readBigUInt64LE(TXN_AT);
      if (newest !== null && txn < newest.txn) continue;
      const roots = DATABASES_AT.flatMap((database): Expected[] => {
        const root = this.#page.readBigUInt64LE(database + ROOT_AT);
        return root === NO_PAGE ? [] : [[Number(root), this.#page.readUInt16LE(database + DEPTH_AT)]];
      });
      newest = { txn, roots, pageBytes: this.#page.readUInt32LE(PAGE_SIZE_AT) };
    }
    if (newest === null || newest.pageBytes !== this.#page.length) return "its pages have another size";
    return newest.roots;
  }

  /** Returns the fault of a page, or null. Adds its child pages to `below`. */
  #look([page, levels]: Expected, below: Expected[]): string | null {
    const bytes = this.#page.length;
    if (!this.#read(page * bytes)) return "is beyond the file's end";
    if (Number(this.#page.readBigUInt64LE(0)) !== page) return "has the number of another page";
    const flags = this.#page.readUInt16LE(FLAGS_AT);
    if (flags !== (levels > 1 ? BRANCH : LEAF)) return `has unexpected flags: ${flags}`;
    const lower = this.#page.readUInt16LE(LOWER_AT);
    const upper = this.#page.readUInt16LE(UPPER_AT);
    if (lower > upper || HEADER_BYTES + upper > bytes) return "has bounds that exceed it";
    for (let at = HEADER_BYTES; at < HEADER_BYTES + lower; at += 2) {
      const node = HEADER_BYTES + this.#page.readUInt16LE(at);
      if (node < HEADER_BYTES + upper || node + NODE_BYTES > bytes) return "refers to a node outside of it";
      const wrong = levels > 1 ? this.#branch(node, levels, below) : this.#leaf(node);
      if (wrong !== null) return wrong;
    }
    return null;
  }

  #branch(node: number, levels: number, below: Expected[]): string | null {
    const page = this.#page;
    if (node + NODE_BYTES + page.readUInt16LE(node + 6) > page.length) return "has a key that ends outside of it";
    const child = page.readUInt32LE(node) + page.readUInt16LE(node + 4) * 2 ** 32;
    if ((child + 1) * page.length > this.#bytes) return `refers to page ${child}, which is beyond the file's end`;
    below.push([child, levels - 1]);
    return null;
  }

  #leaf(node: number): string | null {
    const page = this.#page;
    const isBig = (page.readUInt16LE(node + 4) & BIG) !== 0;
    const value = node + NODE_BYTES + page.readUInt16LE(node + 6);
    const valueBytes = page.readUInt32LE(node);
    if (value + (isBig ? OVERFLOW_REF_BYTES : valueBytes) > page.length) return "has a value that ends outside of it";
    if (!isBig) return null;
    const first = Number(page.readBigUInt64LE(value));
    const pages = Number(page.readBigUInt64LE(value + 16));
    if ((first + pages) * page.length > this.#bytes) return `refers to page ${first}, which is beyond the file's end`;
    if (HEADER_BYTES + valueBytes > pages * page.length) return "has a value that is longer than its pages";
    const header = Buffer.alloc(HEADER_BYTES);
    readSync(this.#file, header, 0, HEADER_BYTES, first * page.length);
    const isThere = Number(header.readBigUInt64LE(0)) === first && header.readUInt16LE(FLAGS_AT) === OVERFLOW;
    return isThere ? null : `refers to page ${first}, which is not an overflow page with that number`;
  }

  /** Reads the page at an offset. Returns false if the file ends before the page does. */
  #read(at: number): boolean {
    return (
      at + this.#page.length <= this.#bytes &&
      readSync(this.#file, this.#page, 0, this.#page.length, at) === this.#page.length
    );
  }
}
