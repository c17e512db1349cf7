import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

/** Addresses `first` to `last`, as 32-bit numbers, and the country (two letters) that they are given to. */
export interface Range {
  readonly first: number;
  readonly last: number;
  readonly country: string;
}

/** A CIDR prefix. */
export interface Prefix {
  readonly address: number;
  readonly bits: number;
  readonly country: string;
}

const PACKAGE = "@ip-location-db/geo-whois-asn-country/geo-whois-asn-country-ipv4-num.csv";

/** The IPv4 ranges of the package, ascending by their first address. Some lie within others, and some overlap. */
export function readRanges(): Range[] {
  const file = createRequire(import.meta.url).resolve(PACKAGE);
  return readFileSync(file, "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => {
      const [first, last, country] = line.split(",") as [string, string, string];
      return { first: Number(first), last: Number(last), country };
    });
}

/** The fewest prefixes that make up a range: 1.0.1.0 to 1.0.3.255 are 1.0.1.0/24 and 1.0.2.0/23. */
export function* prefixesOf({ first, last, country }: Range): Iterable<Prefix> {
  let address = first;
  while (address <= last) {
    let bits = 32;
    while (bits > 0 && address % 2 ** (33 - bits) === 0 && address + 2 ** (33 - bits) - 1 <= last) bits--;
    yield { address, bits, country };
    address += 2 ** (32 - bits);
  }
}

/**
 * The country of an address by the list itself, without a trie: of the ranges that hold the address, the one whose aligned
 * block around it is smallest; of equal ones the later in the list.
 */
export class RangeList {
  readonly #ranges: readonly Range[];
  /** The greatest last address up to each range: where it falls below an address, no earlier range holds it. */
  readonly #reach: Float64Array;

  constructor(ranges: readonly Range[]) {
    this.#ranges = ranges;
    this.#reach = new Float64Array(ranges.length);
    let reach = -1;
    ranges.forEach(({ last }, at) => {
      reach = Math.max(reach, last);
      this.#reach[at] = reach;
    });
  }

  /** null: it is in no range. */
  countryOf(address: number): string | null {
    let country: string | null = null;
    let longest = -1;
    for (let at = this.#lastBeginningBy(address); at >= 0 && (this.#reach[at] as number) >= address; at--) {
      const range = this.#ranges[at] as Range;
      const bits = range.last < address ? -1 : blockBits(range, address);
      if (bits <= longest) continue;
      longest = bits;
      country = range.country;
    }
    return country;
  }

  #lastBeginningBy(address: number): number {
    let low = 0;
    let high = this.#ranges.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#ranges[middle] as Range).first <= address) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }
}

/** The prefix length of the largest aligned block around an address that a range holds whole. */
function blockBits({ first, last }: Range, address: number): number {
  let bits = 32;
  for (;;) {
    const size = 2 ** (33 - bits);
    const start = address - (address % size);
    if (bits === 0 || start < first || start + size - 1 > last) return bits;
    bits--;
  }
}

/** A trie's key: u32 prefixlen in host order, then the address with its most significant byte first. */
export function trieKey(address: number, bits: number): string {
  const key = Buffer.alloc(8);
  key.writeUInt32LE(bits, 0);
  key.writeUInt32BE(address, 4);
  return key.toString("hex");
}

export function dotted(address: number): string {
  return [24, 16, 8, 0].map((shift) => (address >>> shift) & 255).join(".");
}
