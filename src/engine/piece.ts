/** A piece of a large command, and its answer. */

import { ERRNO } from "../abi/errno.ts";
import type { BatchCommand, MemoryCommand, Part } from "../syscall/command.ts";
import type { OpenMap } from "../syscall/open_map.ts";
import type { State } from "../syscall/state.ts";
import type { DoneInPart, NotDone, Ran, Reply, Request } from "./request.ts";

export type BatchRequest = Request & BatchCommand;
export type MemoryRequest = Request & MemoryCommand;

/**
 * The pieces of one command, one after the other; each is answered by its reply. null: something was done that is no command, and the
 * next turn is to come. What is returned is the whole's.
 */
export type Pieces = Generator<Request | null, Reply, Reply>;

/** What one piece writes or takes out at most: 10 ms of the engine's. */
export const WRITTEN_ELEMENTS = 1024;
/** What one reads: as long, where a trie's walk is the slowest. */
export const READ_ELEMENTS = 2048;
/** What the keys and values of one have, unless a single element has more. */
export const PIECE_BYTES = 1024 * 1024;

/** That later pieces mean the map that the first one meant, whatever has become of its name, its pin or the descriptor. */
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
    /** The descriptor is another map's by now: `count` elements were done before. */
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

/** The log has refused a piece: the ones before it have happened. */
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
