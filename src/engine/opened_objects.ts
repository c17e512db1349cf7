/**
 * The real objects behind descriptors that the batch under way opens. They are kept if its events become durable, and
 * closed otherwise.
 */

import type { OpenCommand } from "../syscall/command.ts";
import { checkSession } from "../syscall/guards.ts";
import type { Outcome } from "../syscall/outcome.ts";
import type { State } from "../syscall/state.ts";
import type { Mirror, OpenedObject } from "./ports.ts";

/** A request that opens a real object. */
export type OpenRequest = OpenCommand & { readonly session: number; readonly caller: string };

/**
 * The request with the object's facts, or the reason why there is none, in `attr.found`; `object` null: no real object
 * was opened.
 */
export interface Opened {
  readonly request: OpenRequest;
  readonly object: OpenedObject | null;
}

export class OpenedObjects {
  readonly #state: State;
  readonly #mirror: Pick<Mirror, "off" | "openObject" | "heldObject">;
  readonly #opened: [object: OpenedObject, id: number][] = [];

  constructor(state: State, mirror: Pick<Mirror, "off" | "openObject" | "heldObject">) {
    this.#state = state;
    this.#mirror = mirror;
  }

  /** The number of opened objects: drop() closes those that are opened later. */
  get length(): number {
    return this.#opened.length;
  }

  /** Whether real objects are opened for a session: the mirror is on, and the session is the caller's. */
  opensFor(session: number, caller: string): boolean {
    return this.#mirror.off === null && checkSession(this.#state, { session, caller, timeUs: 0 }) === null;
  }

  /**
   * Opens the real object, unless that was done outside the engine's thread, and puts its facts into the command.
   * Nothing is opened for a session that is not the caller's.
   */
  open(request: OpenRequest, timeUs: number): Opened {
    const { held, found, ...spec } = request.attr;
    const taken =
      held !== undefined && found !== undefined && "facts" in found ? this.#mirror.heldObject(found.facts, held) : null;
    if (checkSession(this.#state, { ...request, timeUs }) !== null) {
      taken?.drop();
      return { request: { ...request, attr: spec }, object: null };
    }
    const object = found === undefined ? this.#mirror.openObject(spec) : taken;
    const known = object?.found ?? found;
    return { request: { ...request, attr: known === undefined ? spec : { ...spec, found: known } }, object };
  }

  /** Call when the command was decided. If its outcome names no object, the real object is closed. */
  decided(object: OpenedObject, outcome: Outcome): void {
    if (outcome.out?.object === undefined) object.drop();
    else this.#opened.push([object, outcome.out.object]);
  }

  /** Closes the objects of commands from this point on, which were rolled back. */
  drop(length: number): void {
    for (const [object] of this.#opened.splice(length)) object.drop();
  }

  /** Call when the batch is durable. */
  keep(): void {
    if (this.#opened.length === 0) return;
    for (const [object, id] of this.#opened.splice(0)) object.keep(id);
  }
}
