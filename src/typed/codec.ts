/**
 * Codecs: how a typed form shows bytes for which C has no type of its own. A codec is a declaration tag on a member or a
 * typedef, whose text is the codec's name. The names up to static_map are those of ebpf_exporter's decoders.
 */

export const CODEC_NAMES = [
  "uint",
  "string",
  "inet_ip",
  "hex",
  "ifname",
  "cgroup",
  "errno",
  "majorminor",
  "dname",
  "syscall",
  "static_map",
  "cidr",
  "mac",
  "be16",
  "be32",
  "be64",
  "ktime",
] as const;

export type CodecName = (typeof CODEC_NAMES)[number];

export interface Codec {
  readonly name: CodecName;
  /** Of be32: shown as an IPv4 address, because of its member's name. */
  readonly address?: true;
  /** Of static_map: texts by number. */
  readonly labels?: ReadonlyMap<bigint, string>;
}

/** The most texts of a static_map, and the most characters of one. */
const LABELS_MAX = 4096;
const LABEL_LENGTH_MAX = 256;

const STATIC_MAP = "static_map:";
const NUMBER = /^-?[0-9]{1,20}$/;
const NAMES: ReadonlySet<string> = new Set(CODEC_NAMES);

/**
 * The codec that a tag names; null: the tag is for something else. A static_map has its texts in the tag:
 * `static_map:{"1":"read","2":"write"}`.
 */
export function codecOfTag(tag: string): Codec | null {
  if (!tag.startsWith(STATIC_MAP)) return NAMES.has(tag) && tag !== "static_map" ? { name: tag as CodecName } : null;
  try {
    const labels = labelsOf(JSON.parse(tag.slice(STATIC_MAP.length)));
    return typeof labels === "string" ? null : { name: "static_map", labels };
  } catch {
    return null;
  }
}

export function tagOfCodec({ name, labels }: Codec): string {
  if (labels === undefined) return name;
  return STATIC_MAP + JSON.stringify(Object.fromEntries([...labels].map(([number, text]) => [String(number), text])));
}

/** The texts of a static_map from JSON such as {"1": "read"}; a string says why they cannot be that. */
export function labelsOf(json: unknown): ReadonlyMap<bigint, string> | string {
  if (typeof json !== "object" || json === null || Array.isArray(json)) return "an object of texts by number required";
  const entries = Object.entries(json);
  if (entries.length > LABELS_MAX) return `${entries.length} texts (limit ${LABELS_MAX})`;
  const labels = new Map<bigint, string>();
  for (const [number, text] of entries) {
    if (!NUMBER.test(number)) return `a number required in place of ${JSON.stringify(number.slice(0, 40))}`;
    if (
      typeof text !== "string" ||
      text === "" ||
      text.length > LABEL_LENGTH_MAX ||
      NUMBER.test(text) ||
      text.includes("\0")
    )
      return `a text of 1 to ${LABEL_LENGTH_MAX} characters that is no number required for ${number}`;
    labels.set(BigInt(number), text);
  }
  return labels;
}

const INT_BYTES: ReadonlySet<number> = new Set([1, 2, 4, 8]);

/**
 * Whether a codec can show a value of so many bytes. `scalar`: the value is an integer or enumeration. `prefix`: it is a
 * struct of a u32 and of all the bytes after it.
 */
export function fits(
  codec: CodecName,
  bytes: number,
  { scalar, prefix }: { scalar: boolean; prefix: boolean },
): boolean {
  switch (codec) {
    case "uint":
      return bytes >= 1 && bytes <= 16;
    case "string":
    case "hex":
      return bytes >= 1;
    case "dname":
      return bytes >= 1 && !scalar;
    case "inet_ip":
      return bytes === 4 || bytes === 16;
    case "ifname":
    case "majorminor":
      return scalar && (bytes === 4 || bytes === 8);
    case "errno":
    case "syscall":
    case "static_map":
      return scalar && INT_BYTES.has(bytes);
    case "cidr":
      return prefix && (bytes === 8 || bytes === 20);
    case "mac":
      return bytes === 6;
    case "be16":
      return bytes === 2;
    case "be32":
      return bytes === 4;
    case "be64":
    case "ktime":
    case "cgroup":
      return bytes === 8;
  }
}
