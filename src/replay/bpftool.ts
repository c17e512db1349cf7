/** Replays a log as a batch file of bpftool. Commands that bpftool does not have are written as comments. */

import { mapTypeName } from "../abi/bpf.ts";
import { CMD, cmdName, UNKNOWN_CMD } from "../abi/service.ts";
import { visible } from "../codec/visible.ts";
import type { Event } from "../log/event.ts";
import { isOfMaps, isPerCpu } from "../maps/facts.ts";
import type { CreateAttr } from "../maps/map.ts";
import { fdInValue, hasFdKeys } from "../maps/references.ts";
import { type BatchCommand, cmdNumber, type ElementCommand, type PinCommand } from "../syscall/command.ts";
import type { Answer } from "./answer.ts";
import type { Call } from "./call.ts";
import type { Target, Write } from "./target.ts";

/** The pins of maps that a batch file creates: bpftool has no descriptors, so its commands name maps by pin. */
const PINS = "/sys/fs/bpf/replay_map_";
/** bpftool's limits on a line of a batch file: BATCH_LINE_LEN_MAX and BATCH_ARG_NB_MAX, tools/bpf/bpftool/main.c. */
const LINE_CHARACTERS_MAX = 65_000;
const WORDS_MAX = 4000;

const HEAD = `# Commands of a mapledger's log, written by mapledger replay --to bpftool: for bpftool batch file FILE.
# Maps are pinned at ${PINS}ID. Commands that bpftool does not have are comments.
`;

const UPDATE_FLAGS = ["any", "noexist", "exist"] as const;

/**
 * A command to run by hand. In a batch file dump and show leave an errno behind, which bpftool 7.1 reports as an error
 * of the file after it has run all lines.
 */
const SHOWS = (what: string, map: string): string => `by hand: bpftool map ${what} ${map}`;

/** Thrown if a command has no line in a batch file. */
class Unsayable {
  readonly why: string;

  constructor(why: string) {
    this.why = why;
  }
}

/**
 * A batch file for bpftool. bpftool stops at the first command that fails, so commands that were refused when recorded
 * are written as comments.
 */
export class BpftoolTarget implements Target {
  readonly answers = false;
  readonly window = 1;
  readonly #write: Write;
  readonly #maps = new Map<number, CreateAttr>();
  /** Maps by their open descriptors; the keys are "session fd". */
  readonly #fds = new Map<string, number>();
  #begun = false;

  constructor(write: Write) {
    this.#write = write;
  }

  async send(_call: Call, event: Event, recorded: Answer): Promise<Answer> {
    if (!this.#begun) await this.#write(HEAD);
    this.#begun = true;
    await this.#write(this.#text(event, recorded));
    this.#follow(event, recorded);
    return recorded;
  }

  #text(event: Event, { errno, ret }: Answer): string {
    const { seq, command } = event;
    const name = `${seq} ${cmdName(cmdNumber(command)) ?? "a command of another kind"}`;
    if (errno !== null) return `${visible(`# ${name}: ${errno}`)}\n`;
    try {
      const lines = this.#lines(event);
      for (const line of lines) {
        if (!/^[\x20-\x7e]+$/.test(line)) throw new Unsayable("the line has characters that a batch file cannot quote");
        if (line.length > LINE_CHARACTERS_MAX || line.split(" ").length > WORDS_MAX)
          throw new Unsayable("the line is too long for bpftool");
      }
      return `${visible(`# ${name}: returned ${ret}`)}\n${lines.map((line) => `${line}\n`).join("")}`;
    } catch (thrown) {
      if (thrown instanceof Unsayable) return `${visible(`# ${name}: returned ${ret}; ${thrown.why}`)}\n`;
      throw thrown;
    }
  }

  #lines(event: Event): string[] {
    const { command, outcome } = event;
    const map = `pinned ${PINS}${outcome.map}`;
    switch (command.cmd) {
      case CMD.BPF_MAP_CREATE:
        return [this.#create(command.session, command.attr, outcome.map)];
      case CMD.BPF_MAP_LOOKUP_ELEM:
        return [command.key === null ? `map peek ${map}` : `map lookup ${map}${this.#key(event, command.key)}`];
      case CMD.BPF_MAP_UPDATE_ELEM:
        return [this.#update(event, command)];
      case CMD.BPF_MAP_DELETE_ELEM:
        return [`map delete ${map}${this.#key(event, command.key)}`];
      case CMD.BPF_MAP_LOOKUP_AND_DELETE_ELEM:
        if (command.key !== null) throw new Unsayable("bpftool has this command for queues and stacks only");
        return [`map dequeue ${map}`];
      case CMD.BPF_MAP_GET_NEXT_KEY:
        return [`map getnext ${map}${command.key === null ? "" : this.#key(event, command.key)}`];
      case CMD.BPF_MAP_FREEZE:
        return [`map freeze ${map}`];
      case CMD.BPF_MAP_UPDATE_BATCH:
      case CMD.BPF_MAP_DELETE_BATCH:
        return this.#batch(event, command);
      case CMD.BPF_MAP_LOOKUP_BATCH:
      case CMD.MAP_ELEMENTS:
        throw new Unsayable(SHOWS("dump", map));
      case CMD.BPF_OBJ_GET_INFO_BY_FD:
        throw new Unsayable(SHOWS("show", map));
      case CMD.BPF_OBJ_PIN:
        return [`map pin ${map} ${pathname(event, command)}`];
      case CMD.BPF_OBJ_GET:
      case CMD.BPF_MAP_GET_FD_BY_ID:
      case CMD.DUP:
      case CMD.CLOSE:
        throw new Unsayable("bpftool has no descriptors");
      case CMD.SESSION_OPEN:
      case CMD.SESSION_RENEW:
      case CMD.SESSION_END:
        throw new Unsayable("bpftool has no sessions");
      case UNKNOWN_CMD:
        throw new Unsayable("the command is unknown");
      default:
        throw new Unsayable("bpftool has no such command");
    }
  }

  #create(session: number, attr: CreateAttr, map: number): string {
    const type = mapTypeName(attr.mapType);
    if (type === undefined) throw new Unsayable("the map type is unknown");
    const unsaid = [
      attr.mapExtra !== 0n,
      attr.btfFd !== 0,
      attr.btfVmlinuxValueTypeId !== 0,
      attr.mapIfindex !== 0,
      attr.exclProgHash !== null,
    ];
    if (unsaid.includes(true))
      throw new Unsayable("bpftool creates maps without map_extra, BTF, a device or a program's hash");
    const end = attr.mapName.indexOf(0);
    const name = attr.mapName.toString("latin1", 0, end === -1 ? undefined : end) || `map_${map}`;
    // bpf_obj_name_cpy(), kernel/bpf/syscall.c
    if (!/^[A-Za-z0-9_.]+$/.test(name)) throw new Unsayable("the kernel does not allow this map name");
    const numbers = [attr.keySize, attr.valueSize, attr.maxEntries, attr.mapFlags];
    if (!numbers.every(Number.isSafeInteger)) throw new Unsayable("a size is not an integer");
    const sizes = `key ${attr.keySize} value ${attr.valueSize} entries ${attr.maxEntries}`;
    const inner = isOfMaps(attr.mapType) ? ` inner_map pinned ${PINS}${this.#mapAt(session, attr.innerMapFd)}` : "";
    const flags = attr.mapFlags === 0 ? "" : ` flags ${attr.mapFlags}`;
    return `map create ${PINS}${map} type ${type.slice("BPF_MAP_TYPE_".length).toLowerCase()} ${sizes} name ${name}${flags}${inner}`;
  }

  #update(event: Event, { key, value, flags }: ElementCommand): string {
    const flag = UPDATE_FLAGS[Number(flags)];
    if (flag === undefined) throw new Unsayable(`flags ${flags}: bpftool has only any (0), noexist (1) and exist (2)`);
    if (key === null) return `map push pinned ${PINS}${event.outcome.map}${this.#value(event, value)}`;
    return `map update pinned ${PINS}${event.outcome.map}${this.#key(event, key)}${this.#value(event, value)} ${flag}`;
  }

  /** One command for each element that the batch has done. */
  #batch(event: Event, command: BatchCommand): string[] {
    const { map, out } = event.outcome;
    const { keySize } = this.#attr(map);
    const count = out?.count ?? 0;
    const keys = command.key ?? Buffer.alloc(0);
    const values = command.value ?? Buffer.alloc(0);
    const valueBytes = count === 0 ? 0 : Math.floor(values.length / command.attr.count);
    return Array.from({ length: count }, (_, at) => {
      const key = this.#key(event, keys.subarray(at * keySize, (at + 1) * keySize));
      if (command.cmd === CMD.BPF_MAP_DELETE_BATCH) return `map delete pinned ${PINS}${map}${key}`;
      const value = this.#value(event, values.subarray(at * valueBytes, (at + 1) * valueBytes));
      return `map update pinned ${PINS}${map}${key}${value} any`;
    });
  }

  #key({ outcome }: Event, key: Buffer | null): string {
    const { mapType, keySize } = this.#attr(outcome.map);
    if (hasFdKeys(mapType)) throw new Unsayable("the map's keys are descriptors, which bpftool does not have");
    return key === null ? "" : ` key hex ${hexBytes(key.subarray(0, keySize))}`;
  }

  #value({ command, outcome }: Event, value: Buffer | null): string {
    const { mapType, valueSize } = this.#attr(outcome.map);
    const given = value ?? Buffer.alloc(0);
    if (isOfMaps(mapType)) return ` value pinned ${PINS}${this.#mapAt(command.session, given.readInt32LE(0))}`;
    if (fdInValue(mapType, valueSize) !== null)
      throw new Unsayable("the map's values are descriptors, which bpftool does not have");
    if (isPerCpu(mapType) && !isAlikeForAll(given, valueSize))
      throw new Unsayable("the CPUs have different values, and bpftool writes one for all");
    return ` value hex ${hexBytes(given.subarray(0, valueSize))}`;
  }

  #attr(map: number): CreateAttr {
    const attr = this.#maps.get(map);
    if (attr === undefined) throw new Unsayable("no command in this file creates the map");
    return attr;
  }

  #mapAt(session: number, fd: number): number {
    const map = this.#fds.get(`${session} ${fd}`);
    if (map === undefined) throw new Unsayable("no command in this file opens the map of a descriptor");
    return map;
  }

  /** Keeps track of open descriptors and of created maps. */
  #follow({ command, outcome }: Event, { errno, ret }: Answer): void {
    if (errno !== null) return;
    if (command.cmd === CMD.CLOSE) this.#fds.delete(`${command.session} ${command.fd}`);
    else if (outcome.map !== 0 && (ret as number) > 0) this.#fds.set(`${command.session} ${ret}`, outcome.map);
    if (command.cmd === CMD.BPF_MAP_CREATE) this.#maps.set(outcome.map, command.attr);
  }
}

function pathname({ outcome }: Event, { attr }: PinCommand): string {
  const path = outcome.out?.pathname ?? attr.pathname ?? "";
  if (!/^[\x21-\x7e]+$/.test(path) || /["'#\\]/.test(path))
    throw new Unsayable("the path has characters that a batch file cannot quote");
  // Outside bpffs, bpftool would mount one over the directory.
  if (!path.startsWith("/sys/fs/bpf/") || path.split("/").includes(".."))
    throw new Unsayable("the path is not below /sys/fs/bpf");
  return path;
}

/** Whether all CPUs have the same value. Each CPU's slot is the value size rounded up to 8 bytes. */
function isAlikeForAll(value: Buffer, valueSize: number): boolean {
  const slot = Math.ceil(valueSize / 8) * 8;
  for (let at = slot; at < value.length; at += slot)
    if (!value.subarray(at, at + valueSize).equals(value.subarray(0, valueSize))) return false;
  return true;
}

function hexBytes(bytes: Buffer): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
}
