/**
 * The real objects behind descriptors that the batch under way opens. If its events become durable they are kept,
 * otherwise they are closed.
 */

import type { OpenCommand } from "../syscall/command.ts";
import { checkSession } from "../syscall/guards.ts";
import type { Outcome } from "../syscall/outcome.ts";
import type { State } from "../syscall/state.ts";
import type { Mirror, OpenedObject } from "./ports.ts";

/** A request that opens a real object. */
export type OpenRequest = OpenCommand & { readonly session: number; readonly caller: string };

/** The same with what the machine says of the object; `object` null: the machine has none of this kind. */
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

  /** A point to go back to. */
  get length(): number {
    return this.#opened.length;
  }

  /** Whether the machine is asked for the real objects of a session's descriptors. */
  opensFor(session: number, caller: string): boolean {
    return this.#mirror.off === null && checkSession(this.#state, { session, caller, timeUs: 0 }) === null;
  }

  /**
   * Asks the machine for the real object, unless that has been done: its facts come with the command. Nothing is opened for
   * a session that is not the caller's.
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

  /** The command has been decided. */
  decided(object: OpenedObject, outcome: Outcome): void {
    if (outcome.out?.object === undefined) object.drop();
    else this.#opened.push([object, outcome.out.object]);
  }

  /** Commands from this point on have not happened. */
  drop(length: number): void {
    for (const [object] of this.#opened.splice(length)) object.drop();
  }

  /** The batch is durable. */
  keep(): void {
    if (this.#opened.length === 0) return;
    for (const [object, id] of this.#opened.splice(0)) object.keep(id);
  }
}
