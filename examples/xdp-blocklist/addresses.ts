/** Who is in the example's network: addresses for documentation (RFC 5737), an interface at each end of a cable. */
export const RECEIVER = { interface: "in0", mac: "02:00:00:00:00:01", address: "192.0.2.1", port: 9999 } as const;
export const SENDER = { interface: "out0", mac: "02:00:00:00:00:02" } as const;

/** Where packets come from. */
export const SOURCES = ["192.0.2.10", "198.51.100.20", "198.51.100.77", "203.0.113.30"] as const;

/** Packets, by where they come from. */
export type Packets = Record<string, number>;

export interface Received {
  readonly arrived: Packets;
  /** By the program. */
  readonly passed: number;
  readonly dropped: number;
}

/** A trie's key of 198.51.100.0/24, as hex: u32 prefixlen in host order, then the address. */
export function keyOf(prefix: string): string {
  const [address, bits] = prefix.split("/") as [string, string];
  return Buffer.from([Number(bits), 0, 0, 0, ...address.split(".").map(Number)]).toString("hex");
}

/** And back. */
export function prefixOf(key: string): string {
  const [bits, , , , ...address] = Buffer.from(key, "hex");
  return `${address.join(".")}/${bits}`;
}
