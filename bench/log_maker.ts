import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BPF_F, BPF_MAP_TYPE } from "../src/abi/bpf.ts";
import { CMD } from "../src/abi/service.ts";
import { IGNORE } from "../src/engine/followers.ts";
import { MemoryCells } from "../src/engine/memory.ts";
import type { Event } from "../src/log/event.ts";
import type { CreateAttr } from "../src/maps/map.ts";
import { SqliteEventLog } from "../src/sqlite/event_log.ts";
import type { Action, ElementCommand } from "../src/syscall/command.ts";
import { execute } from "../src/syscall/execute.ts";
import type { Outcome } from "../src/syscall/outcome.ts";
import { State } from "../src/syscall/state.ts";
import { createAttr, HOST } from "../test/support/commands.ts";
import { Chance } from "./chance.ts";

/** A log on disk, for whatever is measured over history. Its events follow from their number. */
export interface MadeLog {
  /** Holds events.sqlite and nothing else at first: a data directory whose state has been thrown away. */
  readonly folder: string;
  readonly events: number;
  /** Times of its first and last event; they ascend, a millisecond an event on average. */
  readonly firstUs: number;
  readonly lastUs: number;
  /** Ids of its hash maps: any of them has most of the keys hashKey(0) to hashKey(HASH_KEYS - 1). */
  readonly hashMaps: readonly number[];
  remove(): void;
}

/** Keys of each of the hash maps, of 8 bytes, with values of 64. */
export const HASH_KEYS = 50_000;

const HASH_MAPS = 4;
const SESSIONS = 6;
const CALLERS = ["alice", "bob", "collector"] as const;
const VALUE_BYTES = 64;
const ARRAY_ENTRIES = 4096;
const PREFIXES = 5000;
const LRU_ENTRIES = 10_000;
const LRU_KEYS = 15_000;
const LINE_ENTRIES = 1024;
const BATCH_PAIRS_MAX = 64;
const FIRST_US = Date.UTC(2026, 0, 1) * 1000;
/** Commands that one batch of the engine has at most: they bear one time. */
const MOMENT_COMMANDS_MAX = 31;
const MEAN_US = 1000;
const TRANSACTION_EVENTS = 10_000;
const SEED = 20_260_101;

const { BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_LPM_TRIE, BPF_MAP_TYPE_QUEUE, BPF_MAP_TYPE_LRU_HASH } =
  BPF_MAP_TYPE;

/** The maps: ids ascend from 1 in this order, and every session has each of them open at fd 2 + id. */
const MAPS: readonly Partial<CreateAttr>[] = [
  ...Array.from({ length: HASH_MAPS }, (_, at) => ({
    mapName: name(`flows${at}`),
    mapType: BPF_MAP_TYPE_HASH,
    keySize: 8,
    maxEntries: HASH_KEYS,
  })),
  { mapName: name("counters"), mapType: BPF_MAP_TYPE_ARRAY, keySize: 4, maxEntries: ARRAY_ENTRIES },
  {
    mapName: name("routes"),
    mapType: BPF_MAP_TYPE_LPM_TRIE,
    keySize: 8,
    maxEntries: PREFIXES,
    mapFlags: BPF_F.BPF_F_NO_PREALLOC,
  },
  { mapName: name("jobs"), mapType: BPF_MAP_TYPE_QUEUE, keySize: 0, maxEntries: LINE_ENTRIES },
  { mapName: name("recent"), mapType: BPF_MAP_TYPE_LRU_HASH, keySize: 8, maxEntries: LRU_ENTRIES },
];
const ARRAY_FD = HASH_MAPS + 3;
const TRIE_FD = ARRAY_FD + 1;
const LINE_FD = ARRAY_FD + 2;
const LRU_FD = ARRAY_FD + 3;

/** Writes a log of so many events, each as the core decided it, into a temporary folder: the same events at every call. */
export function makeLog(events: number): MadeLog {
  const folder = mkdtempSync(join(tmpdir(), "mapledger-log-"));
  const writer = new LogWriter(new SqliteEventLog(join(folder, "events.sqlite")), events);
  prepare(writer);
  const users = Array.from({ length: SESSIONS }, (_, at) => new User(at + 1, writer));
  const chance = writer.chance;
  while (!writer.full) (users[chance.below(SESSIONS)] as User).act();
  const lastUs = writer.close();
  const hashMaps = Array.from({ length: HASH_MAPS }, (_, at) => at + 1);
  return { folder, events, firstUs: FIRST_US, lastUs, hashMaps, remove: () => rmSync(folder, { recursive: true }) };
}

/** The key of an element of a hash map, by its number. */
export function hashKey(number: number): Buffer {
  const key = Buffer.alloc(8);
  key.writeUInt32LE(number, 0);
  key.writeUInt32LE(Math.imul(number, 0x9e3779b1) >>> 0, 4);
  return key;
}

/** Sessions, and the maps that all of them have open. */
function prepare(writer: LogWriter): void {
  for (let session = 1; session <= SESSIONS; session++)
    writer.run(0, callerOf(session), {
      cmd: CMD.SESSION_OPEN,
      attr: { name: `worker ${session}`, ttlMs: 86_400_000 },
    });
  for (const attr of MAPS)
    writer.run(1, callerOf(1), { cmd: CMD.BPF_MAP_CREATE, attr: createAttr({ valueSize: VALUE_BYTES, ...attr }) });
  for (let session = 2; session <= SESSIONS; session++)
    for (let mapId = 1; mapId <= MAPS.length; mapId++)
      writer.run(session, callerOf(session), { cmd: CMD.BPF_MAP_GET_FD_BY_ID, attr: { mapId, openFlags: 0 } });
}

/** Decides commands, and appends their events in large transactions. */
class LogWriter {
  readonly chance = new Chance(SEED);
  readonly #log: SqliteEventLog;
  readonly #events: number;
  readonly #state = new State(new MemoryCells(), HOST, IGNORE);
  #unwritten: Event[] = [];
  #seq = 0;
  #timeUs = FIRST_US;
  #leftOfMoment = 0;

  constructor(log: SqliteEventLog, events: number) {
    this.#log = log;
    this.#log.possibleCpus(HOST.possibleCpus, HOST.possibleCpus);
    this.#events = events;
  }

  get full(): boolean {
    return this.#seq >= this.#events;
  }

  get seq(): number {
    return this.#seq;
  }

  /** Behind the last event nothing happens any more. */
  run(session: number, caller: string, action: Action): Outcome | null {
    if (this.full) return null;
    this.#pass();
    const command = { session, caller, timeUs: this.#timeUs, ...action };
    const outcome = execute(this.#state, command);
    this.#unwritten.push({ seq: ++this.#seq, command, outcome });
    if (this.#unwritten.length === TRANSACTION_EVENTS) this.#write();
    return outcome;
  }

  /** Answers the time of the last event. */
  close(): number {
    this.#write();
    this.#log.close();
    return this.#timeUs;
  }

  #pass(): void {
    if (this.#leftOfMoment-- > 0) return;
    this.#leftOfMoment = this.chance.below(MOMENT_COMMANDS_MAX);
    if (this.#seq > 0) this.#timeUs += 1 + this.chance.below(MEAN_US * (MOMENT_COMMANDS_MAX + 1));
  }

  #write(): void {
    if (this.#unwritten.length > 0) this.#log.append(this.#unwritten);
    this.#unwritten = [];
  }
}

type Cmd = ElementCommand["cmd"];

/** A session and what it does all day. */
class User {
  readonly #session: number;
  readonly #writer: LogWriter;
  readonly #chance: Chance;
  /** A map of its own for a while. */
  #scratchFd: number | null = null;

  constructor(session: number, writer: LogWriter) {
    this.#session = session;
    this.#writer = writer;
    this.#chance = writer.chance;
  }

  /** In thousandths: what happens how often. */
  act(): void {
    const dice = this.#chance.below(1000);
    if (dice < 480) this.#element(CMD.BPF_MAP_UPDATE_ELEM, this.#hashFd(), this.#hashKey(), this.#value());
    else if (dice < 740) this.#element(CMD.BPF_MAP_LOOKUP_ELEM, this.#hashFd(), this.#hashKey());
    else if (dice < 790) this.#element(CMD.BPF_MAP_DELETE_ELEM, this.#hashFd(), this.#hashKey());
    else if (dice < 800) this.#element(CMD.BPF_MAP_GET_NEXT_KEY, this.#hashFd(), this.#hashKey());
    else if (dice < 850) this.#element(CMD.BPF_MAP_UPDATE_ELEM, ARRAY_FD, this.#index(), this.#value());
    else if (dice < 870) this.#element(CMD.BPF_MAP_LOOKUP_ELEM, ARRAY_FD, this.#index());
    else if (dice < 890) this.#element(CMD.BPF_MAP_UPDATE_ELEM, TRIE_FD, this.#prefix(), this.#value());
    else if (dice < 905) this.#element(CMD.BPF_MAP_LOOKUP_ELEM, TRIE_FD, this.#prefix());
    else if (dice < 910) this.#element(CMD.BPF_MAP_DELETE_ELEM, TRIE_FD, this.#prefix());
    else if (dice < 930) this.#element(CMD.BPF_MAP_UPDATE_ELEM, LINE_FD, null, this.#value());
    else if (dice < 950) this.#element(CMD.BPF_MAP_LOOKUP_AND_DELETE_ELEM, LINE_FD, null);
    else if (dice < 985) this.#element(CMD.BPF_MAP_UPDATE_ELEM, LRU_FD, this.#recentKey(), this.#value());
    else if (dice < 996) this.#element(CMD.BPF_MAP_LOOKUP_ELEM, LRU_FD, this.#recentKey());
    else if (dice < 998) this.#batch(CMD.BPF_MAP_UPDATE_BATCH);
    else if (dice < 999) this.#batch(CMD.BPF_MAP_DELETE_BATCH);
    else this.#scratch();
  }

  #run(action: Action): Outcome | null {
    return this.#writer.run(this.#session, callerOf(this.#session), action);
  }

  #element(cmd: Cmd, fd: number, key: Buffer | null, value: Buffer | null = null): void {
    this.#run({ cmd, target: { by: "fd", fd }, key, value, flags: 0n });
  }

  #batch(cmd: typeof CMD.BPF_MAP_UPDATE_BATCH | typeof CMD.BPF_MAP_DELETE_BATCH): void {
    const count = 1 + this.#chance.below(BATCH_PAIRS_MAX);
    const key = Buffer.concat(Array.from({ length: count }, () => this.#hashKey()));
    const value =
      cmd === CMD.BPF_MAP_UPDATE_BATCH ? Buffer.concat(Array.from({ length: count }, () => this.#value())) : null;
    const attr = { count, elemFlags: 0n, inBatch: null, outBatch: null };
    this.#run({ cmd, target: { by: "fd", fd: this.#hashFd() }, key, value, flags: 0n, attr });
  }

  /** Makes a map, or writes to it, or closes it again, which frees it. */
  #scratch(): void {
    if (this.#scratchFd === null) {
      const attr = createAttr({ mapName: name("scratch"), maxEntries: 16 });
      const outcome = this.#run({ cmd: CMD.BPF_MAP_CREATE, attr });
      if (outcome?.errno === 0) this.#scratchFd = outcome.ret;
    } else if (this.#chance.below(4) > 0) {
      this.#element(CMD.BPF_MAP_UPDATE_ELEM, this.#scratchFd, this.#index(), this.#value().subarray(0, 8));
    } else {
      this.#run({ cmd: CMD.CLOSE, fd: this.#scratchFd, attr: { reason: "close" } });
      this.#scratchFd = null;
    }
  }

  #hashFd(): number {
    return 3 + this.#chance.below(HASH_MAPS);
  }

  #hashKey(): Buffer {
    return hashKey(this.#chance.below(HASH_KEYS));
  }

  #recentKey(): Buffer {
    return hashKey(this.#chance.below(LRU_KEYS));
  }

  #index(): Buffer {
    const key = Buffer.alloc(4);
    key.writeUInt32LE(this.#chance.below(ARRAY_ENTRIES));
    return key;
  }

  /** 10.0.0.0/8 to 10.x.y.z/32. */
  #prefix(): Buffer {
    const key = Buffer.alloc(8);
    key.writeUInt32LE(8 + this.#chance.below(25), 0);
    key.writeUInt32BE(0x0a000000 + this.#chance.below(2 * PREFIXES) * 1543, 4);
    return key;
  }

  /** No two values are the same. */
  #value(): Buffer {
    const value = Buffer.alloc(VALUE_BYTES, this.#chance.below(256));
    value.writeUInt32LE(this.#writer.seq, 0);
    value.writeUInt32LE(this.#chance.below(2 ** 32), 4);
    return value;
  }
}

function callerOf(session: number): string {
  return CALLERS[session % CALLERS.length] as string;
}

function name(text: string): Buffer {
  const bytes = Buffer.alloc(16);
  bytes.write(text, "latin1");
  return bytes;
}
