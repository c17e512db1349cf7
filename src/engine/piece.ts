/**
 * The common parts of `batch_pieces.ts` and `memory_pieces.ts`: the size of a piece, the map that all pieces of a
 * command mean, and answers of commands that end early.
 */

import { ERRNO } from "../abi/errno.ts";
import type { BatchCommand, MemoryCommand, Part } from "../syscall/command.ts";
import type { OpenMap } from "../syscall/open_map.ts";
import type { State } from "../syscall/state.ts";
import type { DoneInPart, NotDone, Ran, Reply, Request } from "./request.ts";

export type BatchRequest = Request & BatchCommand;
export type MemoryRequest = Request & MemoryCommand;

/**
 * The pieces of one command. The generator yields a piece and gets its reply; it returns the reply to the whole
 * command. If it yields null, it has done work without a command, and goes on in the next turn.
 */
export type Pieces = Generator<Request | null, Reply, Reply>;

/** The most elements that one piece writes or takes out, which takes the engine 10 ms. */
export const WRITTEN_ELEMENTS = 1024;
/** The most elements that one piece reads, which takes 10 ms for a trie, whose walk is the slowest. */
export const READ_ELEMENTS = 2048;
/** The most bytes of keys and values in one piece, unless a single element has more. */
export const PIECE_BYTES = 1024 * 1024;

/**
 * Makes all pieces of a command mean the map of the first one: by its id if the command names it by name or pin. If the
 * command names a descriptor, `holds` is asked before each piece. It is false if the descriptor was closed and opened
 * again for another file; a descriptor that is only closed is refused by the piece itself.
 */
export function sameMap(state: State, request: BatchRequest | MemoryRequest, map: OpenMap) {
  const { target } = request;
  const { id } = map.map;
  const asked = target.by === "fd" ? target : ({ by: "id", id } as const);
  return {
    target: asked,
    holds(): boolean {
      const file = target.by === "fd" ? state.fd(request.session, target.fd) : undefined;
      return file === undefined || file.file === map.file;
    },
    /** The answer if `holds` is false, after `count` elements were done. */
    gone({ seq, outcome }: Ran, count: number | null): Ran {
      const detail = "the descriptor was closed, and opened again for something else, while the command ran";
      const out = count === null ? outcome.out : { count };
      return { seq, outcome: { ...outcome, ret: -1, errno: ERRNO.EBADF, detail, out } };
    },
  };
}

export function partOf(at: number, of: number, seq: number | null): Part {
  return seq === null ? { at, of } : { at, of, seq };
}

export function withCount({ seq, outcome }: Ran, count: number): Ran {
  const { session, quota } = outcome.out ?? {};
  const out = { ...(session === undefined ? {} : { session }), ...(quota === undefined ? {} : { quota }), count };
  return { seq, outcome: { ...outcome, out } };
}

/** Adds to the failure of a piece how much the pieces before it have done. */
export function failedAt(failure: NotDone, at: number, of: number, what: DoneInPart["what"]): NotDone {
  if (at === 0) return failure;
  return { ...failure, done: { count: at, of, what } };
}

export function elementsIn(elementBytes: number, most: number): number {
  return Math.max(1, Math.min(most, Math.floor(PIECE_BYTES / Math.max(1, elementBytes))));
}

export function slice(buffer: Buffer | null, from: number, to?: number): Buffer | null {
  return buffer === null ? null : buffer.subarray(from, to);
}

export function lengthOf(buffer: Buffer | null): number {
  return buffer === null ? 0 : buffer.length;
}
