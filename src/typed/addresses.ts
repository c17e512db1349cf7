/** Addresses as text: IPv4 and IPv6 as inet_ntop(3) and inet_pton(3) have them, Ethernet with colons. */

const V4_BYTES = 4;
const V6_GROUPS = 8;
const DOT = 0x2e;
const ZERO = 0x30;
const GROUP = /^[0-9a-fA-F]{1,4}$/;
const MAC = /^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$/;

export function v4Text(bytes: Buffer, at: number): string {
  return `${bytes[at]}.${bytes[at + 1]}.${bytes[at + 2]}.${bytes[at + 3]}`;
}

/** The longest run of zero groups is "::" if it has two or more; an address that has an IPv4 one mapped in it shows that. */
export function v6Text(bytes: Buffer, at: number): string {
  const groups = Array.from({ length: V6_GROUPS }, (_, group) => bytes.readUInt16BE(at + 2 * group));
  const isMapped = groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff;
  if (isMapped) return `::ffff:${v4Text(bytes, at + 12)}`;
  const { start, length } = zeros(groups);
  const hex = groups.map((group) => group.toString(16));
  if (length < 2) return hex.join(":");
  return `${hex.slice(0, start).join(":")}::${hex.slice(start + length).join(":")}`;
}

function zeros(groups: readonly number[]): { start: number; length: number } {
  let best = { start: 0, length: 0 };
  let start = 0;
  groups.forEach((group, at) => {
    if (group !== 0) start = at + 1;
    else if (at + 1 - start > best.length) best = { start, length: at + 1 - start };
  });
  return best;
}

/** The bytes of an address of 4 or 16 bytes; null: the text is none. */
export function addressOf(text: string, bytes: number): Buffer | null {
  return bytes === V4_BYTES ? v4Of(text) : v6Of(text);
}

function v4Of(text: string): Buffer | null {
  if (text.length < 7 || text.length > 15) return null;
  const bytes = Buffer.allocUnsafe(V4_BYTES);
  let [byte, value, digits] = [0, 0, 0];
  for (let at = 0; at <= text.length; at++) {
    const code = at === text.length ? DOT : text.charCodeAt(at);
    if (code === DOT) {
      if (digits === 0 || value > 255 || byte === V4_BYTES) return null;
      bytes[byte++] = value;
      [value, digits] = [0, 0];
    } else {
      // A leading zero would be octal to some.
      if (code < ZERO || code > ZERO + 9 || digits === 3 || (digits > 0 && value === 0)) return null;
      value = 10 * value + code - ZERO;
      digits++;
    }
  }
  return byte === V4_BYTES ? bytes : null;
}

function v6Of(text: string): Buffer | null {
  if (text.length > 45) return null;
  const halves = text.split("::");
  if (halves.length > 2 || (halves.length === 2 && halves[0]?.includes("."))) return null;
  const [head, tail] = halves.map((half) => (half === "" ? [] : groupsOf(half)));
  if (head === undefined || head === null || tail === null) return null;
  const given = head.length + (tail?.length ?? 0);
  if (tail === undefined ? given !== V6_GROUPS : given >= V6_GROUPS) return null;
  const groups = [...head, ...new Array<number>(V6_GROUPS - given).fill(0), ...(tail ?? [])];
  const bytes = Buffer.alloc(2 * V6_GROUPS);
  groups.forEach((group, at) => void bytes.writeUInt16BE(group, 2 * at));
  return bytes;
}

/** Groups between colons, of which the last may be an IPv4 address. */
function groupsOf(text: string): number[] | null {
  const parts = text.split(":");
  const last = v4Of(parts.at(-1) as string);
  if (last !== null) parts.pop();
  if (!parts.every((part) => GROUP.test(part))) return null;
  const groups = parts.map((part) => Number.parseInt(part, 16));
  return last === null ? groups : [...groups, last.readUInt16BE(0), last.readUInt16BE(2)];
}

export function macText(bytes: Buffer, at: number): string {
  return Array.from({ length: 6 }, (_, byte) => (bytes[at + byte] as number).toString(16).padStart(2, "0")).join(":");
}

export function macOf(text: string): Buffer | null {
  return MAC.test(text) ? Buffer.from(text.replaceAll(":", ""), "hex") : null;
}
