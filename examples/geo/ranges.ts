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

/** The IPv4 ranges of the package, ascending and disjoint. */
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

/** The country of an address by the list itself, by binary search; null: it is in no range. */
export function countryOf(ranges: readonly Range[], address: number): string | null {
  let low = 0;
  let high = ranges.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((ranges[middle] as Range).last < address) low = middle + 1;
    else high = middle;
  }
  const range = ranges[low];
  return range !== undefined && range.first <= address ? range.country : null;
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
