import { ERRNO } from "../abi/errno.ts";
import { CMD } from "../abi/service.ts";
import { memoryBytes } from "../maps/array.ts";
import { isRefusal } from "../maps/refusal.ts";
import type { BatchCommand, MemoryCommand, NextIdCommand, Part } from "../syscall/command.ts";
import { commandFacts } from "../syscall/command_facts.ts";
import { elementsDone } from "../syscall/effects.ts";
import { idsShown } from "../syscall/elements.ts";
import { checkSession, openMap } from "../syscall/guards.ts";
import type { Outcome } from "../syscall/outcome.ts";
import type { OpenMap, State } from "../syscall/state.ts";
import type { DoneInPart, NotDone, Ran, Reply, Request } from "./request.ts";

/**
 * Large commands are run in pieces, with others' commands between them: the kernel's batches, and loads and stores through a
 * mapping, are not one moment either. Each piece is a command with an event of its own, whose `part` says which part of which
 * command it is. A walk of ids by what globs cover is one command, before which maps are looked at, a piece of them a turn.
 */

/** What one piece writes or takes out at most: 10 ms of the engine's. */
const WRITTEN_ELEMENTS = 1024;
/** Of a map that lets go of an element for each that comes. */
const EVICTING_ELEMENTS = 256;
/** What one reads: as long, where a trie's walk is the slowest. */
const READ_ELEMENTS = 2048;
/** What the keys and values of one have, unless a single element has more. */
const PIECE_BYTES = 1024 * 1024;
/** A batch that reads ends behind so many bytes with fewer elements than were asked for, as one of the kernel's may. */
const ANSWER_BYTES = 16 * 1024 * 1024;
/** Of a batch that reads, whose bytes only the map can tell: from here on it is looked at. */
const UNKNOWN_ELEMENTS = 16;

type BatchRequest = Request & BatchCommand;
type MemoryRequest = Request & MemoryCommand;
export type WalkRequest = Request & NextIdCommand & { readonly limits: number };
export type LargeRequest = BatchRequest | MemoryRequest | WalkRequest;

/**
 * The pieces of one command, one after the other; each is answered by its reply. null: something was done that is no command, and the
 * next turn is to come. What is returned is the whole's.
 */
type Pieces = Generator<Request | null, Reply, Reply>;

/** The engine as pieces see it. */
export interface LargeEngine {
  readonly state: State;
  readonly callerLimits: {
    /** Whether so few maps are to be looked at for a walk that it runs at once. */
    isNear(request: WalkRequest): boolean;
    /** Looks at some of them; answers whether that was enough. */
    walk(request: WalkRequest): boolean;
  };
}

/** Whether a command may need pieces, as far as can be told without its map: it then runs behind what came with it. */
export function mayBeLarge(request: Request): request is LargeRequest {
  if ("unknown" in request) return false;
  switch (commandFacts(request.cmd)?.pieces ?? null) {
    case "elements read":
      return (request as BatchRequest).attr.count > UNKNOWN_ELEMENTS;
    case "elements written": {
      const { key, value, attr } = request as BatchRequest;
      return attr.count > EVICTING_ELEMENTS || lengthOf(key) + lengthOf(value) > PIECE_BYTES;
    }
    case "memory":
      return (request as MemoryRequest).attr.length > WRITTEN_ELEMENTS;
    case "maps":
      return request.limits !== undefined;
    case null:
      return false;
  }
}

/** Whether it does, or nobody can say yet: what came with it may make its map. */
export function isLarge(engine: LargeEngine, request: LargeRequest): boolean {
  if (isWalk(request)) return !engine.callerLimits.isNear(request);
  const { state } = engine;
  const map = mapOf(state, request);
  return map === null || piecesOn(state, request, map) !== null;
}

/** The pieces of a command, by what its map is when the first is asked for; a command that is refused is one. */
export function* piecesOf(engine: LargeEngine, request: LargeRequest): Pieces {
  if (isWalk(request)) {
    while (!engine.callerLimits.walk(request)) yield null;
    return yield request;
  }
  const { state } = engine;
  const map = mapOf(state, request);
  const pieces = map === null ? null : piecesOn(state, request, map);
  return pieces === null ? yield request : yield* pieces;
}

/** null: the command is refused. */
function mapOf(state: State, request: BatchRequest | MemoryRequest): OpenMap | null {
  const origin = { ...request, timeUs: 0 };
  if (checkSession(state, origin) !== null) return null;
  const map = openMap(state, origin, request.target);
  return isRefusal(map) ? null : map;
}

/** null: one is enough. */
function piecesOn(state: State, request: BatchRequest | MemoryRequest, map: OpenMap): Pieces | null {
  if (isMemory(request)) return memoryPieces(state, request, map);
  return commandFacts(request.cmd)?.pieces === "elements read"
    ? readPieces(state, request, map)
    : writePieces(state, request, map);
}

function isWalk(request: LargeRequest): request is WalkRequest {
  return request.cmd === CMD.BPF_MAP_GET_NEXT_ID;
}

function isMemory(request: BatchRequest | MemoryRequest): request is MemoryRequest {
  return commandFacts(request.cmd)?.pieces === "memory";
}

/** An update or a delete batch: its elements, one after the other; the first that is refused ends it. */
function writePieces(state: State, request: BatchRequest, map: OpenMap): Pieces | null {
  const { key, value, attr } = request;
  const { count } = attr;
  const keyBytes = map.map.keySize;
  const updates = request.cmd === CMD.BPF_MAP_UPDATE_BATCH;
  const valueBytes = updates ? map.type.valueBytes(map.map, state.host) : 0;
  const size = elementsIn(keyBytes + valueBytes, map.type.facts.evicts ? EVICTING_ELEMENTS : WRITTEN_ELEMENTS);
  if (count <= size) return null;
  // What is refused for its length is refused before anything is done.
  if (
    request.exact === true &&
    (lengthOf(key) !== keyBytes * count || (updates && lengthOf(value) !== valueBytes * count))
  )
    return null;
  return (function* (): Pieces {
    const same = sameMap(state, request, map);
    let first: number | null = null;
    let last: Ran | null = null;
    let done = 0;
    for (let at = 0; at < count; at += size) {
      if (last !== null && !same.holds()) return same.gone(last, done);
      const most = Math.min(size, count - at);
      const piece: BatchRequest = {
        ...request,
        target: same.target,
        key: slice(key, at * keyBytes, (at + size) * keyBytes),
        value: updates ? slice(value, at * valueBytes, (at + size) * valueBytes) : value,
        attr: { ...attr, count: most, ...(attr.ifPresent !== undefined && { ifPresent: most }) },
        part: partOf(at, count, first),
      };
      const reply: Reply = yield piece;
      if ("failure" in reply) return failedAt(reply, at, count, "elements");
      first ??= reply.seq;
      last = reply;
      const { outcome } = reply;
      const isWhole = outcome.errno !== 0 && at === 0 && outcome.out?.count === piece.attr.count;
      done += elementsDone(piece, outcome);
      if (outcome.errno !== 0) return withCount(reply, isWhole ? count : done);
    }
    return withCount(last as Ran, done);
  })();
}

/**
 * A batch that reads or takes out, each piece from where the last one ended. What later pieces are refused stands in no answer:
 * that has what was read until then, as if the walk had ended there; but for EFAULT, which is the caller's.
 */
function readPieces(state: State, request: BatchRequest, map: OpenMap): Pieces | null {
  const { attr } = request;
  const { count } = attr;
  const keyBytes = map.map.keySize;
  const valueBytes = map.type.valueBytes(map.map, state.host);
  const size = elementsIn(keyBytes + valueBytes, takesOut(request) ? WRITTEN_ELEMENTS : READ_ELEMENTS);
  if (count <= size) return null;
  const most = Math.max(1, Math.min(count, Math.floor(ANSWER_BYTES / (keyBytes + valueBytes))));
  return (function* (): Pieces {
    const same = sameMap(state, request, map);
    const keys: Buffer[] = [];
    const values: Buffer[] = [];
    let got = 0;
    let first: number | null = null;
    let last: Ran | null = null;
    let position = attr.inBatch;
    let next = Math.min(size, most);
    const answer = (ran: Ran, errno: number, detail: string | null): Ran => {
      const place = position === attr.inBatch ? {} : { out_batch: position?.toString("hex") };
      const out = { count: got, ...place, ...idsShown(map) };
      const given = { key: Buffer.concat(keys), value: Buffer.concat(values), out: out as Outcome["out"] };
      return { seq: ran.seq, outcome: { ...ran.outcome, ret: errno === 0 ? 0 : -1, errno, detail, ...given } };
    };
    for (;;) {
      if (last !== null && !same.holds()) return answer(last, 0, null);
      const piece: BatchRequest = {
        ...request,
        target: same.target,
        key: slice(request.key, got * keyBytes),
        value: slice(request.value, got * valueBytes),
        attr: { ...attr, count: next, inBatch: position },
        part: partOf(got, count, first),
      };
      const reply: Reply = yield piece;
      if ("failure" in reply) return last === null ? reply : answer(last, 0, null);
      first ??= reply.seq;
      const { outcome } = reply;
      const { errno, key, value, out } = outcome;
      if (errno === ERRNO.ENOSPC && next < count - got) {
        // A bucket has more than a piece.
        next = Math.min(next * 2, count - got);
        continue;
      }
      if (errno !== 0 && (errno !== ERRNO.ENOENT || value === null)) {
        if (errno === ERRNO.EFAULT) return reply;
        // Where the batch is refused as a whole, its count stays as it was given.
        if (got === 0) return out?.count === next ? withCount(reply, count) : reply;
        return answer(last as Ran, 0, null);
      }
      last = reply;
      got += out?.count ?? 0;
      if (key !== null) keys.push(key);
      if (value !== null) values.push(value);
      if (out?.out_batch !== undefined) position = Buffer.from(out.out_batch, "hex");
      if (errno !== 0 || got >= most || out?.count === 0) return answer(reply, errno, outcome.detail);
      next = Math.min(size, most - got);
    }
  })();
}

function takesOut({ cmd }: BatchRequest): boolean {
  return cmd === CMD.BPF_MAP_LOOKUP_AND_DELETE_BATCH;
}

/** Loads or stores, each piece behind the last one. A read that is refused on its way answers what it has read. */
function memoryPieces(state: State, request: MemoryRequest, map: OpenMap): Pieces | null {
  const { cmd, value, attr } = request;
  const memory = memoryBytes(map.map, map.host);
  const start = attr.offset < 0 ? Math.max(memory + attr.offset, 0) : attr.offset;
  const end = Math.min(start + attr.length, memory);
  const reads = cmd === CMD.MEMORY_READ;
  const bytes = Math.ceil(map.type.valueBytes(map.map, state.host) / 8) * 8;
  const size = elementsIn(bytes, reads ? READ_ELEMENTS : WRITTEN_ELEMENTS) * bytes;
  if (end - start <= size || (!reads && start + attr.length > memory)) return null;
  return (function* (): Pieces {
    const same = sameMap(state, request, map);
    const read: Buffer[] = [];
    let first: number | null = null;
    let last: Ran | null = null;
    const answer = (ran: Ran): Ran => ({ seq: ran.seq, outcome: { ...ran.outcome, value: Buffer.concat(read) } });
    for (let at = start; at < end; at += size) {
      const done = at - start;
      if (last !== null && !same.holds()) return reads ? answer(last) : same.gone(last, null);
      const length = Math.min(size, end - at);
      const piece: MemoryRequest = {
        ...request,
        target: same.target,
        value: slice(value, done, done + length),
        attr: { offset: at, length },
        part: partOf(done, end - start, first),
      };
      const reply: Reply = yield piece;
      if ("failure" in reply) {
        if (!reads || last === null) return failedAt(reply, done, end - start, "bytes");
        return answer(last);
      }
      if (reply.outcome.errno !== 0) return reads && last !== null ? answer(last) : reply;
      first ??= reply.seq;
      last = reply;
      if (reply.outcome.value !== null) read.push(reply.outcome.value);
    }
    return reads ? answer(last as Ran) : (last as Ran);
  })();
}

/** That later pieces mean the map that the first one meant, whatever has become of its name, its pin or the descriptor. */
function sameMap(state: State, request: BatchRequest | MemoryRequest, map: OpenMap) {
  const { target } = request;
  const { id } = map.map;
  const asked = target.by === "fd" ? target : ({ by: "id", id } as const);
  return {
    target: asked,
    holds(): boolean {
      const file = target.by === "fd" ? state.fd(request.session, target.fd) : undefined;
      return file === undefined || file.file === map.file;
    },
    /** The descriptor is another map's by now: `count` elements were done before. */
    gone({ seq, outcome }: Ran, count: number | null): Ran {
      const detail = "the descriptor was closed, and opened again for something else, while the command ran";
      const out = count === null ? outcome.out : { count };
      return { seq, outcome: { ...outcome, ret: -1, errno: ERRNO.EBADF, detail, out } };
    },
  };
}

function partOf(at: number, of: number, seq: number | null): Part {
  return seq === null ? { at, of } : { at, of, seq };
}

function withCount({ seq, outcome }: Ran, count: number): Ran {
  const { session, quota } = outcome.out ?? {};
  const out = { ...(session === undefined ? {} : { session }), ...(quota === undefined ? {} : { quota }), count };
  return { seq, outcome: { ...outcome, out } };
}

/** The log has refused a piece: the ones before it have happened. */
function failedAt(failure: NotDone, at: number, of: number, what: DoneInPart["what"]): NotDone {
  if (at === 0) return failure;
  return { ...failure, done: { count: at, of, what } };
}

function elementsIn(elementBytes: number, most: number): number {
  return Math.max(1, Math.min(most, Math.floor(PIECE_BYTES / Math.max(1, elementBytes))));
}

function slice(buffer: Buffer | null, from: number, to?: number): Buffer | null {
  return buffer === null ? null : buffer.subarray(from, to);
}

function lengthOf(buffer: Buffer | null): number {
  return buffer === null ? 0 : buffer.length;
}
