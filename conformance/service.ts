import { attrEnd, BPF_ATTR_BYTES, BPF_ATTR_BYTES_MAX } from "../src/abi/attr.ts";
import { errnoName } from "../src/abi/errno.ts";
import { CMD } from "../src/abi/service.ts";
import type { Usage } from "../src/access/quotas.ts";
import { type DoorRequest, doorAnswer, readDoor } from "../src/codec/door.ts";
import { Engine } from "../src/engine/engine.ts";
import { IGNORE } from "../src/engine/followers.ts";
import { MemoryCells } from "../src/engine/memory.ts";
import type { Mirror } from "../src/engine/ports.ts";
import type { Request } from "../src/engine/request.ts";
import { afterPrefix, type CellKey, type Cells } from "../src/maps/cells.ts";
import { elementsPrefix } from "../src/maps/common.ts";
import type { Host, MirrorShape } from "../src/maps/map.ts";
import { disabledMirror } from "../src/mirror/mirror.ts";
import type { Action, Capability, CreateCommand, MemoryCommand, ObjectSpec } from "../src/syscall/command.ts";
import { redo } from "../src/syscall/execute.ts";
import type { Outcome } from "../src/syscall/outcome.ts";
import { State } from "../src/syscall/state.ts";
import { MemoryLog } from "../test/support/memory_log.ts";
import { noPast } from "../test/support/no_past.ts";
import { noProcesses } from "../test/support/processes.ts";
import { StrictCells } from "../test/support/strict_cells.ts";
import type { Answer, MemoryAnswer, Raw, Subject } from "./subject.ts";

/** The machine that the transcripts were recorded on. */
export const HOST: Host = { possibleCpus: 2, pageBytes: 4096, memoryBytes: 2 ** 34, onlineNodes: [0], ifindexes: [1] };

const CALLER = "conformance";
const TTL_MS = 3_600_000;
/** More than any cell's key. */
const END_OF_CELLS = "\u0100";

const NO_MIRROR = disabledMirror("conformance");

export interface Mirrored {
  readonly mirror?: Mirror;
  /** Is told of each command that is over. */
  readonly ran?: (engine: Engine) => void;
  /** Of all LRU maps. */
  readonly mirrorShape?: MirrorShape;
}

/** The service, in process: the syscall door's codec, the engine, cells and log in memory. */
export class Service implements Subject {
  readonly directory = "/sys/fs/bpf/conformance";
  readonly takesRaw = false;
  readonly ownsIds = true;
  /** What has happened. */
  readonly log = new MemoryLog();
  readonly #engine: Engine;
  readonly #session: number;

  readonly #host: Host;
  readonly #ran: (engine: Engine) => void;
  readonly #mirrorShape: MirrorShape;

  /** Without `capabilities` the session has all of them. */
  constructor(
    asked: { readonly capabilities?: readonly Capability[] } = {},
    host = HOST,
    { mirror = NO_MIRROR, ran = () => {}, mirrorShape = "exact" }: Mirrored = {},
  ) {
    this.#host = host;
    this.#ran = ran;
    this.#mirrorShape = mirrorShape;
    let timeUs = 0;
    this.#engine = new Engine({
      log: this.log,
      store: new MemoryCells(),
      mirror,
      past: noPast,
      clock: { nowUs: () => ++timeUs, nowMs: () => performance.now() },
      host,
      interfaces: () => [1],
      processes: noProcesses,
      graceMs: TTL_MS,
      report(message, error) {
        throw new Error(message, { cause: error });
      },
    });
    const born = this.run({ cmd: CMD.SESSION_OPEN, attr: { name: CALLER, ttlMs: TTL_MS, ...asked } }, 0);
    this.#session = born.outcome.out?.session_id as number;
    this.changePath("mkdir", this.directory);
  }

  bpf(request: DoorRequest, raw: Raw = {}): Answer {
    const read = readDoor({ ...JSON.parse(JSON.stringify(request)), ...behindFields(request.cmd, raw) });
    const action = shaped(read, this.#mirrorShape);
    const { seq, outcome } = this.run(action);
    return JSON.parse(JSON.stringify(doorAnswer(action, outcome, seq)));
  }

  close(fd: number): Answer {
    return this.#call({ cmd: CMD.CLOSE, fd, attr: { reason: "close" } });
  }

  dup(fd: number): Answer {
    return this.#call({ cmd: CMD.DUP, fd });
  }

  open(spec: ObjectSpec): Answer {
    const answer = this.#call({ cmd: CMD.OPEN, attr: spec });
    const { state } = this.#engine;
    const facts = state.object(state.fd(this.#session, answer.ret)?.object ?? 0);
    return facts === undefined ? answer : { ...answer, facts };
  }

  /** An access to the end of the pages is refused as the mapping would be. */
  mapMemory(fd: number, offset: number, length: number, writable: boolean): string | null {
    const { errno } = writable ? this.writeMemory(fd, offset + length, "") : this.readMemory(fd, offset + length, 0);
    return errno;
  }

  readMemory(fd: number, offset: number, length: number): MemoryAnswer {
    return this.#memory({ cmd: CMD.MEMORY_READ, target: { by: "fd", fd }, value: null, attr: { offset, length } });
  }

  writeMemory(fd: number, offset: number, data: string): MemoryAnswer {
    const value = Buffer.from(data, "hex");
    const attr = { offset, length: value.length };
    return this.#memory({ cmd: CMD.MEMORY_WRITE, target: { by: "fd", fd }, value, attr });
  }

  #memory(action: MemoryCommand): MemoryAnswer {
    const { outcome } = this.run(action);
    const errno = outcome.errno === 0 ? null : errnoName(outcome.errno);
    return { errno, data: outcome.value?.toString("hex") ?? "" };
  }

  changePath(call: "unlink" | "mkdir" | "rmdir", pathname: string): Answer {
    const cmd = { unlink: CMD.UNLINK, mkdir: CMD.MKDIR, rmdir: CMD.RMDIR }[call];
    return this.#call({ cmd, attr: { pathname } });
  }

  removeCgroup(fd: number): void {
    const { object = 0 } = this.#engine.state.fd(this.#session, fd) ?? {};
    this.run({ cmd: CMD.OBJECT_END, attr: { object } }, 0);
  }

  /** What is let go of is gone at once. */
  settle(): boolean {
    return false;
  }

  /** Ends the session: its descriptors are closed one by one, each in an event. */
  end(): void {
    this.run({ cmd: CMD.SESSION_END, attr: { reason: "ended by request" } });
  }

  /** A command as the engine takes it, for those that a process has no system call for. Session 0 is the service itself. */
  run(action: Action, session = this.#session): { seq: number; outcome: Outcome } {
    const [reply] = this.#engine.run([{ ...action, session, caller: CALLER } as Request]);
    if (reply === undefined || "failure" in reply) throw new Error(`running command ${action.cmd}: ${reply?.detail}`);
    this.#ran(this.#engine);
    return reply;
  }

  /** How many elements the state says that the map behind a descriptor has. */
  entryCount(fd: number): number {
    const { state } = this.#engine;
    return state.entryCount(state.fd(this.#session, fd)?.map ?? 0);
  }

  /** The keys of the cells that hold a map's elements. */
  cellsOf(map: number): CellKey[] {
    const prefix = elementsPrefix({ id: map });
    return [...this.#engine.state.cells.range(prefix, afterPrefix(prefix))].map(([key]) => key);
  }

  /** All cells: what they are, and what they are when the log is replayed. */
  cells(): { state: Record<string, string>; fold: Record<string, string> } {
    const fold = new StrictCells();
    const replayed = new State(fold, this.#host, IGNORE);
    for (const { command, outcome } of this.log.read(0)) redo(replayed, command, outcome);
    return { state: dump(this.#engine.state.cells), fold: dump(fold) };
  }

  /** Who has how much: as it was kept up, and as it is counted from the state. */
  usage(): { kept: object; counted: object } {
    const { state } = this.#engine;
    const counted = new State(state.cells, this.#host, IGNORE);
    return { kept: amounts(state.charges.usage), counted: amounts(counted.charges.usage) };
  }

  #call(action: Action): Answer {
    const { seq, outcome } = this.run(action);
    return doorAnswer(action, outcome, seq);
  }
}

/** The door makes exact kernel maps alone. */
function shaped(action: Action, mirrorShape: MirrorShape): Action {
  if (action.cmd !== CMD.BPF_MAP_CREATE) return action;
  const { attr } = action as CreateCommand;
  return attr.mirrorShape === undefined ? action : { cmd: CMD.BPF_MAP_CREATE, attr: { ...attr, mirrorShape } };
}

/** What a raw attribute has behind the command's last field, and its size. */
function behindFields(cmd: string | number, { size = BPF_ATTR_BYTES, poke = {} }: Raw): Partial<DoorRequest> {
  const end = attrEnd(String(cmd));
  const tail = Buffer.alloc(Math.max(Math.min(size, BPF_ATTR_BYTES_MAX) - end, 0));
  for (const [offset, bytes] of Object.entries(poke)) Buffer.from(bytes, "hex").copy(tail, Number(offset) - end);
  return { size, tail };
}

/** Of those who have anything. */
function amounts(usage: Usage): object {
  return Object.fromEntries([...usage.all()].filter(([, has]) => Object.values(has).some((amount) => amount !== 0)));
}

function dump(cells: Cells): Record<string, string> {
  const all: Record<string, string> = {};
  for (const [key, value] of cells.range("", END_OF_CELLS))
    all[Buffer.from(key, "latin1").toString("hex")] = value.toString("hex");
  return all;
}
