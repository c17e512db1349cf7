/**
 * The facts of every command, for all code that runs commands or reads their events. A row begins with the facts of its
 * family, and names the facts in which it differs. `execute.ts` has the functions that carry commands out.
 */

import { CMD, type KnownCmdName } from "../abi/service.ts";

export interface CommandFacts {
  /** Clients send it, and replays send it again. If false, only the service issues it, by itself or for an operator. */
  readonly sent: boolean;
  /** It may change the state, so it has a `redo`. */
  readonly changesState: boolean;
  /**
   * The effect of a success. "map": it changes elements of a map, or freezes the map. "names": it creates a map, or
   * makes or removes a pin or a directory. null: neither.
   */
  readonly changes: "map" | "names" | null;
  /**
   * It never changes an element, makes a map or frees one. Pinning is such a command; CLOSE is not: it may free a map.
   */
  readonly leavesMaps: boolean;
  /** It may add a cell to the state. If false, it changes at most the cell of its session, which exists already. */
  readonly addsCells: boolean;
  /** It names elements: one, or those of a batch. */
  readonly elements: "one" | "batch" | null;
  /** It walks a map, so its answer depends on the map's order. */
  readonly walks: boolean;
  /** It answers the values that it deletes. */
  readonly takes: boolean;
  /**
   * Where its event keeps the answer. "value": in the column `value`. "info": in the column `value`, and BTF that was
   * answered beside it in the column `key`. "elements": keys and values, in the columns `key` and `value`. "page": nowhere, because the state as of the event's seq has it. null: the event's `ret` is the whole
   * answer, and these columns have the key and value that the caller sent.
   */
  readonly answers: "value" | "info" | "elements" | "page" | null;
  /** It opens a descriptor: of a map, of BTF, of another object, or a duplicate of an open one. */
  readonly opens: "map" | "btf" | "object" | "copy" | null;
  /** A replay may send it before earlier commands are answered, and later ones before it is answered. */
  readonly runsBeside: boolean;
  /** The things by which a large command is split to run in pieces; null: it is never split. */
  readonly pieces: "elements read" | "elements written" | "memory" | "maps" | null;
  /** Its event sets a fact of the ledger (`sqlite/facts.ts`), such as the checkpoint or the signing key. */
  readonly setsFact: boolean;
  /** It begins, renews or ends the lease of its session. Any other command of a session uses the lease. */
  readonly lease: boolean;
  /** The index reads the attr of its event: the key size of a map, or the peer of a session. */
  readonly indexedAttr: boolean;
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
  lease: false,
  indexedAttr: false,
};

/** A read of a client. */
const READ: CommandFacts = { sent: true, changesState: false, ...NONE, leavesMaps: true, addsCells: false };
/** A change by a client. */
const CHANGE: CommandFacts = { sent: true, changesState: true, ...NONE };
const CHANGE_MAP: CommandFacts = { ...CHANGE, changes: "map" };
const CHANGE_NAMES: CommandFacts = { ...CHANGE, changes: "names" };
/** A note of the service itself, or an operator's order. */
const NOTE: CommandFacts = { sent: false, changesState: false, ...NONE };
const ORDER: CommandFacts = { sent: false, changesState: true, ...NONE };

const FACTS: Readonly<Record<KnownCmdName, CommandFacts>> = {
  BPF_MAP_CREATE: { ...CHANGE_NAMES, opens: "map", indexedAttr: true },
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
  BPF_BTF_LOAD: { ...CHANGE, opens: "btf" },
  BPF_BTF_GET_NEXT_ID: READ,
  BPF_BTF_GET_FD_BY_ID: { ...CHANGE, leavesMaps: true, opens: "btf" },
  BPF_OBJ_PIN: { ...CHANGE_NAMES, leavesMaps: true },
  BPF_OBJ_GET: { ...CHANGE, leavesMaps: true, opens: "map" },
  BPF_MAP_GET_NEXT_ID: { ...READ, pieces: "maps" },
  BPF_MAP_GET_FD_BY_ID: { ...CHANGE, leavesMaps: true, opens: "map" },
  BPF_OBJ_GET_INFO_BY_FD: { ...READ, answers: "info", runsBeside: true },
  SESSION_OPEN: { ...CHANGE, lease: true, indexedAttr: true },
  SESSION_RENEW: { ...CHANGE, addsCells: false, lease: true },
  SESSION_END: { ...CHANGE, lease: true },
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
