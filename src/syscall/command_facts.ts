/**
 * The facts of every command, once: what an event of it means, beside its command and its outcome, to all who read events. A row
 * begins with the facts of its family, and names the facts in which it differs. `execute.ts` says what a command does.
 */

import { CMD, type KnownCmdName } from "../abi/service.ts";

export interface CommandFacts {
  /** A client sends it, and a replay sends it again; not: the service makes it itself, or an operator's order. */
  readonly sent: boolean;
  /** It changes the state, so that a replay of the log does it again; not: it has no redo. */
  readonly changesState: boolean;
  /** If it succeeds it changes a map's elements or freezes it; or which maps, pins and directories there are. */
  readonly changes: "map" | "names" | null;
  /** It changes neither elements nor the life of a map, whatever becomes of it. */
  readonly leavesMaps: boolean;
  /** It may add a cell to the state; not: it changes none, or only one that is there, its session's. */
  readonly addsCells: boolean;
  /** It is about elements that it names: one, or as many as the batch has. */
  readonly elements: "one" | "batch" | null;
  /** It goes through a map in the order in which the map walks. */
  readonly walks: boolean;
  /** It answers the values that it deletes. */
  readonly takes: boolean;
  /**
   * The columns of its event that have its answer, not the caller's output buffer: the value; keys and values. "page": the value,
   * which is not kept in the log, since the state as of its seq has it.
   */
  readonly answers: "value" | "elements" | "page" | null;
  /** It answers a descriptor: of a map, of another object, of what an open descriptor refers to. */
  readonly opens: "map" | "object" | "copy" | null;
  /** A replay may send it while others of its map are under way. */
  readonly runsBeside: boolean;
  /** A large one runs in pieces of what it goes through: elements that it reads or writes, memory, all maps; null: it runs at once. */
  readonly pieces: "elements read" | "elements written" | "memory" | "maps" | null;
  /** It sets a fact of the ledger. */
  readonly setsFact: boolean;
}

const NONE: Omit<CommandFacts, "sent" | "changesState"> = {
  changes: null,
  leavesMaps: false,
  addsCells: true,
  elements: null,
  walks: false,
  takes: false,
  answers: null,
  opens: null,
  runsBeside: false,
  pieces: null,
  setsFact: false,
};

/** A client reads. */
const READ: CommandFacts = { sent: true, changesState: false, ...NONE, leavesMaps: true, addsCells: false };
/** A client changes something. */
const CHANGE: CommandFacts = { sent: true, changesState: true, ...NONE };
const CHANGE_MAP: CommandFacts = { ...CHANGE, changes: "map" };
const CHANGE_NAMES: CommandFacts = { ...CHANGE, changes: "names" };
/** The service says something, or an operator orders it. */
const NOTE: CommandFacts = { sent: false, changesState: false, ...NONE };
const ORDER: CommandFacts = { sent: false, changesState: true, ...NONE };

const FACTS: Readonly<Record<KnownCmdName, CommandFacts>> = {
  BPF_MAP_CREATE: { ...CHANGE_NAMES, opens: "map" },
  BPF_MAP_LOOKUP_ELEM: { ...READ, elements: "one", answers: "value", runsBeside: true },
  BPF_MAP_UPDATE_ELEM: { ...CHANGE_MAP, elements: "one", runsBeside: true },
  BPF_MAP_DELETE_ELEM: { ...CHANGE_MAP, elements: "one", runsBeside: true },
  BPF_MAP_GET_NEXT_KEY: { ...READ, elements: "one", walks: true, answers: "value", runsBeside: true },
  BPF_MAP_LOOKUP_AND_DELETE_ELEM: { ...CHANGE_MAP, elements: "one", takes: true, answers: "value", runsBeside: true },
  BPF_MAP_FREEZE: { ...CHANGE_MAP, runsBeside: true },
  BPF_MAP_LOOKUP_BATCH: { ...READ, elements: "batch", walks: true, answers: "elements", pieces: "elements read" },
  BPF_MAP_LOOKUP_AND_DELETE_BATCH: {
    ...CHANGE_MAP,
    elements: "batch",
    walks: true,
    takes: true,
    answers: "elements",
    pieces: "elements read",
  },
  BPF_MAP_UPDATE_BATCH: { ...CHANGE_MAP, elements: "batch", runsBeside: true, pieces: "elements written" },
  BPF_MAP_DELETE_BATCH: { ...CHANGE_MAP, elements: "batch", runsBeside: true, pieces: "elements written" },
  BPF_BTF_LOAD: { ...CHANGE, opens: "object" },
  BPF_OBJ_PIN: { ...CHANGE_NAMES, leavesMaps: true },
  BPF_OBJ_GET: { ...CHANGE, leavesMaps: true, opens: "map" },
  BPF_MAP_GET_NEXT_ID: { ...READ, pieces: "maps" },
  BPF_MAP_GET_FD_BY_ID: { ...CHANGE, leavesMaps: true, opens: "map" },
  BPF_OBJ_GET_INFO_BY_FD: { ...READ, answers: "value", runsBeside: true },
  SESSION_OPEN: CHANGE,
  SESSION_RENEW: { ...CHANGE, addsCells: false },
  SESSION_END: CHANGE,
  CLOSE: CHANGE,
  DUP: { ...CHANGE, opens: "copy" },
  OPEN: { ...CHANGE, opens: "object" },
  UNLINK: CHANGE_NAMES,
  MKDIR: CHANGE_NAMES,
  RMDIR: CHANGE_NAMES,
  MAP_ELEMENTS: { ...READ, answers: "page" },
  MEMORY_READ: { ...READ, answers: "page", pieces: "memory" },
  MEMORY_WRITE: { ...CHANGE_MAP, pieces: "memory" },
  OBJECT_END: ORDER,
  INTERFACES: ORDER,
  MIRROR_REFUSED: NOTE,
  MIRROR_RESYNC: NOTE,
  MIRROR_DRIFT: NOTE,
  MIRROR_POLICY: ORDER,
  MIRROR_FOUND: NOTE,
  MIRROR_FOLLOW: ORDER,
  MIRROR_DECIDE: ORDER,
  MIRROR_RECREATE: ORDER,
  MIRROR_TAKE_OVER: ORDER,
  MIRROR_RELEASE: ORDER,
  MIRROR_REPIN: NOTE,
  MIRROR_LEAVE: NOTE,
  MIRROR_FREED: ORDER,
  FREE_DEFERRED: ORDER,
  ARCHIVE: { ...NOTE, addsCells: false, setsFact: true },
  ACCESS_REFUSED: { ...NOTE, addsCells: false },
  CALLERS: { ...NOTE, addsCells: false },
  CERTIFICATES: { ...NOTE, addsCells: false },
  CHECKPOINT: { ...NOTE, addsCells: false, setsFact: true },
  TREE_BEGIN: { ...NOTE, setsFact: true },
  BACKUP_RESTORE: { ...NOTE, setsFact: true },
  KEY_ROTATE: { ...NOTE, setsFact: true },
  CLOCK_STEP: NOTE,
};

/** An array with holes, not an object: numbers lie far apart, and an object would look each up in a hash table. */
const BY_NUMBER = new Array<CommandFacts | undefined>(Math.max(...Object.values(CMD)) + 1);
for (const [name, facts] of Object.entries(FACTS)) BY_NUMBER[CMD[name as KnownCmdName]] = facts;

/** By a command's number; undefined: the command is not about maps, or there is none. */
export function commandFacts(cmd: number): CommandFacts | undefined {
  return BY_NUMBER[cmd];
}

/** By a command's name, as the syscall door has it; undefined: it is no name of a command that has facts. */
export function factsOfNamed(name: unknown): CommandFacts | undefined {
  return typeof name === "string" && Object.hasOwn(FACTS, name) ? FACTS[name as KnownCmdName] : undefined;
}

/** The numbers of all commands with such facts, for statements of SQL. */
export function cmdsThat(holds: (facts: CommandFacts) => boolean): readonly number[] {
  return Object.entries(FACTS)
    .filter(([, facts]) => holds(facts))
    .map(([name]) => CMD[name as KnownCmdName]);
}
