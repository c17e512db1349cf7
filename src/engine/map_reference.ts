import type { Target } from "../syscall/command.ts";
import type { State } from "../syscall/state.ts";

/** A reference to a map, in a query. */
export type MapReference = { id: number } | { name: string } | { pinned: string };

/** The ids of the maps that a reference names; more than one if several maps have the name. An id need not exist. */
export function referenced(state: State, reference: MapReference): number[] {
  if ("id" in reference) return [reference.id];
  if ("name" in reference) return state.names.ids(reference.name);
  const id = state.bpffs.pinAt(reference.pinned);
  return id === undefined ? [] : [id];
}

export function targetOf(reference: MapReference): Exclude<Target, { by: "fd" }> {
  if ("id" in reference) return { by: "id", id: reference.id };
  if ("name" in reference) return { by: "name", name: reference.name };
  return { by: "pinned", pathname: reference.pinned };
}
