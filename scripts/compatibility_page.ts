import { readFileSync } from "node:fs";
import { HOST, Service } from "../conformance/service.ts";
import { BTF_BLOB } from "../conformance/stream_btf.ts";
import { BPF_F, BPF_MAP_TYPE } from "../src/abi/bpf.ts";
import { SAMPLES, type Sample, type ServedType } from "./compatibility_maps.ts";

/** COMPATIBILITY.md: what each map type answers to each command, found out by asking the service. */

export const COMMANDS = [
  "LOOKUP_ELEM",
  "UPDATE_ELEM",
  "DELETE_ELEM",
  "GET_NEXT_KEY",
  "LOOKUP_AND_DELETE_ELEM",
  "LOOKUP_BATCH",
  "LOOKUP_AND_DELETE_BATCH",
  "UPDATE_BATCH",
  "DELETE_BATCH",
  "FREEZE",
  "memory",
] as const;
export type CommandName = (typeof COMMANDS)[number];

const TYPES = Object.keys(SAMPLES) as ServedType[];
/** What a command may answer that a type knows: there may be nothing to find, or an end. */
const KNOWN: ReadonlySet<string | null> = new Set([null, "ENOENT"]);
const KERNEL_ONLY = "kernel only";

/** A map of the type in a service of its own, with an element where there can be one. */
class Probe {
  readonly #service = new Service();
  readonly #type: ServedType;
  readonly #sample: Sample;
  readonly #inner: number;
  readonly #btf: number;

  constructor(type: ServedType) {
    this.#type = type;
    this.#sample = SAMPLES[type];
    const shape = { map_type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY, key_size: 4, value_size: 4, max_entries: 1 };
    this.#inner = this.#service.bpf({ cmd: "BPF_MAP_CREATE", attr: shape }).ret;
    this.#btf = this.#service.bpf({
      cmd: "BPF_BTF_LOAD",
      attr: { btf: BTF_BLOB, btf_size: BTF_BLOB.length / 2 },
    }).ret;
  }

  create(more: Readonly<Record<string, number>> = {}): { readonly ret: number; readonly errno: string | null } {
    const fds = { inner_map_fd: this.#inner, btf_fd: this.#btf };
    const attr = { map_type: BPF_MAP_TYPE[this.#type], ...this.#sample.attr, ...fds, ...more };
    return this.#service.bpf({ cmd: "BPF_MAP_CREATE", attr });
  }

  /** What the command answers on a map of the type, its arguments well-formed. */
  ask(command: CommandName): string | null {
    const map_fd = this.create().ret;
    const { key_size = 0, value_size = 0 } = this.#sample.attr;
    const key = key_size === 0 ? null : this.#bytes(this.#sample.keyFd, key_size, 0);
    const value = this.#value(value_size);
    this.#service.bpf({ cmd: "BPF_MAP_UPDATE_ELEM", attr: { map_fd, key, value } });
    const asks = this.#type === "BPF_MAP_TYPE_BLOOM_FILTER" ? { value } : {};
    const batch = { map_fd, count: 1, keys: key ?? "", values: value ?? "" };
    const ask = (attr: Readonly<Record<string, unknown>>): string | null =>
      this.#service.bpf({ cmd: `BPF_MAP_${command}`, attr }).errno;
    switch (command) {
      case "LOOKUP_ELEM":
        return ask({ map_fd, key, ...asks });
      case "UPDATE_ELEM":
        // Another value: a socket may be in one such map only.
        return ask({ map_fd, key, value: this.#value(value_size) });
      case "GET_NEXT_KEY":
        return ask({ map_fd, key: null });
      case "DELETE_ELEM":
      case "LOOKUP_AND_DELETE_ELEM":
        return ask({ map_fd, key });
      case "LOOKUP_BATCH":
      case "LOOKUP_AND_DELETE_BATCH":
        return ask({ map_fd, count: 4 });
      case "UPDATE_BATCH":
        return ask(batch);
      case "DELETE_BATCH":
        return ask({ map_fd, count: 1, keys: key ?? "" });
      case "FREEZE":
        return ask({ map_fd });
      case "memory":
        return this.#service.readMemory(map_fd, 0, 8).errno;
    }
  }

  #value(size: number): string | null {
    if (size === 0) return null;
    const slots = this.#type.includes("PERCPU") ? HOST.possibleCpus * Math.ceil(size / 8) * 8 : size;
    return this.#bytes(this.#sample.valueFd, slots, 1);
  }

  /** A descriptor's number where it is one that is wanted, else a small number. */
  #bytes(fd: Sample["keyFd"], size: number, number: number): string {
    const bytes = Buffer.alloc(size);
    bytes.writeUInt32LE(fd === undefined ? number : this.#open(fd), 0);
    return bytes.toString("hex");
  }

  #open(kind: NonNullable<Sample["keyFd"]>): number {
    if (kind === "map") return this.#inner;
    return this.#service.open({ kind, reuseport: true, ...(kind === "prog" ? { progType: 6 } : {}) }).ret;
  }
}

/** yes, an errno, or what only a kernel does. */
export function cell(type: ServedType, command: CommandName): string {
  const probe = new Probe(type);
  const { kernelOnly } = SAMPLES[type];
  if (probe.create().errno !== null) return KERNEL_ONLY;
  const errno = probe.ask(command);
  if (kernelOnly === undefined) return KNOWN.has(errno) ? "yes" : (errno as string);
  if (command === "memory" && SAMPLES[type].values === "none") return KERNEL_ONLY;
  return errno === "ENOENT" ? KERNEL_ONLY : (errno ?? "yes");
}

/** Flags that the sample's creation can be had with; those that it must have are bold. */
function flags(type: ServedType): string {
  const probe = new Probe(type);
  const { map_flags: needed = 0 } = SAMPLES[type].attr;
  const named = Object.entries(BPF_F).filter(([name]) => name !== "BPF_F_TOKEN_FD" && name !== "BPF_F_PATH_FD");
  const shown = named.flatMap(([name, bit]) => {
    const short = name.replace("BPF_F_", "");
    if ((needed & bit) !== 0)
      return probe.create({ map_flags: needed & ~bit }).errno === null ? [short] : [`**${short}**`];
    return probe.create({ map_flags: needed | bit, numa_node: -1 }).errno === null ? [short] : [];
  });
  return shown.join(", ");
}

interface Judgement {
  readonly kernel: string;
  readonly date: string;
  readonly commands: Readonly<Record<string, number>>;
  readonly seeds: readonly number[];
}

function judgement(): Judgement {
  return JSON.parse(readFileSync(new URL("../conformance/judged.json", import.meta.url), "utf8")) as Judgement;
}

function short(type: ServedType): string {
  return type.replace("BPF_MAP_TYPE_", "");
}

function row(cells: readonly string[]): string {
  return `| ${cells.join(" | ")} |`;
}

/** The whole page. */
export function compatibilityPage(): string {
  const judged = judgement();
  const total = Object.values(judged.commands).reduce((sum, count) => sum + count, 0);
  const notes = [...new Set(TYPES.flatMap((type) => SAMPLES[type].kernelOnly ?? []))];
  const mark = (type: ServedType, text: string): string =>
    text === KERNEL_ONLY ? `${text} <sup>${notes.indexOf(SAMPLES[type].kernelOnly as string) + 1}</sup>` : text;
  return `${[
    "# Compatibility",
    "",
    "`npm run compatibility` writes this page from the answers of the service; a test compares it with them.",
    "",
    `The service was compared with Linux ${judged.kernel} on ${judged.date}: ${total.toLocaleString("en")} random commands (${judged.seeds.length} seeds, in`,
    "`conformance/judged.json`) and the recorded transcripts in `conformance/transcripts/` got equal answers, down to errno, bytes",
    "and counts. `npm run conformance` compares it with the kernel that you run it on.",
    "",
    "## Commands by map type",
    "",
    "`yes`: the command works as in the kernel. An errno: the kernel refuses the command on this type with this errno, and so does",
    "mapledger. All types can be created, duplicated, pinned, opened by id and described (BPF_OBJ_GET_INFO_BY_FD), unless a note",
    "says otherwise. `memory` is the memory that mmap(2) would map, at `.../memory`.",
    "",
    row(["map type", ...COMMANDS.map((command) => command.replaceAll("_", "&#8203;_"))]),
    row(["---", ...COMMANDS.map(() => "---")]),
    ...TYPES.map((type) => row([short(type), ...COMMANDS.map((command) => mark(type, cell(type, command)))])),
    "",
    ...notes.map((note, at) => `${at + 1}. Kernel only: ${note}.`),
    "",
    "## Keys, values and flags",
    "",
    "Flags in bold are required. All types know BPF_F_TOKEN_FD, but it needs a token, and there are none. The last column has the",
    "number of random commands that were compared.",
    "",
    row(["map type", "keys", "values", "map_flags", "commands compared"]),
    row(["---", "---", "---", "---", "---:"]),
    ...TYPES.map((type) => {
      const { keys, values } = SAMPLES[type];
      const count = judged.commands[short(type)];
      return row([short(type), keys, values, flags(type), count === undefined ? "" : count.toLocaleString("en")]);
    }),
    "",
    "## bpftool",
    "",
    "The `formatted` form of keys and values is what `bpftool -j map dump` of Debian 12 prints, to the byte; it differs where that is no",
    "JSON, or another value than there is: [docs/typed.md](docs/typed.md#where-bpftool-is-not-followed) lists each such place.",
    "",
    "## Choices where the kernel leaves freedom",
    "",
    "- **Order of hash maps.** The kernel only promises that the order is stable while nothing changes. mapledger has a fixed order.",
    "  Batches consist of whole buckets, as in the kernel.",
    "- **LRU maps** hold `max_entries` elements and then evict the least recently updated one, which the event names. The kernel evicts",
    "  earlier, in groups for each CPU, and also by updates that fail. `mirror_shape`, when the map is created, selects which of the",
    "  two a mirrored kernel map does: [docs/mirror.md](docs/mirror.md#map-types).",
    "- **Inner LRU maps with BPF_F_NO_COMMON_LRU** must have the `mirror_shape` of their template (EINVAL): the kernel compares the",
    "  flags of kernel maps, and a roomy kernel map does not have this flag.",
    "- **Bloom filters** never have false positives. The kernel's sometimes do.",
    "- **Positions of batches** are opaque, and four bytes on hash maps, as in the kernel; their numbers differ.",
    "- **Objects that the kernel frees after a grace period** (inner maps, sockets of a closed array, ids of program arrays) are freed at",
    "  once.",
    "- **Programs** run inside a kernel only. Data that they would write does not exist here, and a program does not keep a map alive.",
  ].join("\n")}\n`;
}
