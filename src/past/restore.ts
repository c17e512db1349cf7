/**
 * Plans the commands that restore a map. The thread of the past makes the plan from two moments; the engine runs it as
 * one (`runWhole`) if no event has changed the map since, and otherwise asks for a new plan.
 */

import { CMD } from "../abi/service.ts";
import { MADE, Whole } from "../engine/atomic_requests.ts";
import { batch, inBatches, update, updates } from "../engine/batches.ts";
import { createAttr } from "../engine/create_attr.ts";
import type { Request } from "../engine/request.ts";
import { u32Buffer } from "../maps/common.ts";
import type { Element, MapRecord } from "../maps/map.ts";
import type { Reference } from "../maps/map_facts.ts";
import type { Action, RestoreNote, Target } from "../syscall/command.ts";
import { elementsOf } from "../syscall/elements.ts";
import { OPERATOR, OpenMap } from "../syscall/open_map.ts";
import type { State } from "../syscall/state.ts";
import { changedElements } from "./diff.ts";

/**
 * A plan that restores a map: ordinary commands, in an order in which each succeeds. Elements are deleted first if the
 * map would otherwise have no room. A freed map is created again by a session of the restore's own, filled, and pinned
 * at its former pathnames.
 */
export interface RestorePlan {
  readonly requests: readonly Request[];
  readonly counts: RestoreCounts;
}

/** The elements that the commands add, change and remove. */
export interface RestoreCounts {
  readonly added: number;
  readonly changed: number;
  readonly removed: number;
}

/** The caller and reason of a restore; `session`, if named, gets a descriptor of a map that is created again. */
export interface RestoreFor {
  readonly caller: string;
  readonly note: RestoreNote;
  readonly session: number | null;
}

/** The most elements of a batch. */
const BATCH_ELEMENTS = 8192;

/** `then`: the map to restore; `now`: the present state. Returns the reason if it cannot be restored. */
export function planRestore(then: OpenMap, thenState: State, now: State, who: RestoreFor): RestorePlan | string {
  const { map } = then;
  const living = now.map(map.id);
  const plan = new Plan(who);
  if (living !== undefined) {
    const refusal = fill(plan, then, new OpenMap(now, living, OPERATOR), now);
    plan.end();
    return refusal ?? plan;
  }
  const pathnames = [...thenState.bpffs.pinned()].filter((pin) => pin.map === map.id).map(({ pathname }) => pathname);
  if (pathnames.length === 0 && who.session === null)
    return "the map was not pinned then: name a session that gets a descriptor of it";
  const refusal = create(plan, then, thenState) ?? fill(plan, then, null, now);
  if (refusal !== null) return refusal;
  const target = { by: "id", id: MADE } as const;
  if (map.frozen) plan.add({ cmd: CMD.BPF_MAP_FREEZE, target, key: null, value: null, flags: 0n });
  for (const pathname of pathnames)
    plan.add({ cmd: CMD.BPF_OBJ_PIN, target, attr: { pathname, fileFlags: 0, pathFd: 0 } });
  if (who.session !== null)
    plan.add({ cmd: CMD.BPF_MAP_GET_FD_BY_ID, attr: { mapId: MADE, openFlags: 0 } }, who.session);
  plan.end();
  return plan;
}

/** Collects the commands of a plan. */
class Plan extends Whole implements RestorePlan {
  readonly counts = { added: 0, changed: 0, removed: 0 };

  constructor({ caller, note }: RestoreFor) {
    super({ caller, restore: note }, `restore of map ${note.map}`);
  }
}

/** Adds the creation of a map with the same definition; returns the reason if it cannot be created again. */
function create(plan: Plan, { map }: OpenMap, thenState: State): string | null {
  if (map.exclusive) return "the map was created with excl_prog_hash, which is not kept: it cannot be created again";
  let btfFd = 0;
  if (map.btf !== null) {
    const { btfId } = map.btf;
    const btf = [...thenState.objects.all()].find((object) => object.kind === "btf" && object.btfId === btfId);
    if (btf?.kind !== "btf") return `its BTF ${btfId} is not known any more`;
    const value = Buffer.from(btf.data, "hex");
    btfFd = plan.open({ cmd: CMD.BPF_BTF_LOAD, value, attr: { btfSize: value.length } });
  }
  const innerMapFd =
    map.inner === null
      ? 0
      : plan.open({ cmd: CMD.BPF_MAP_CREATE, attr: createAttr({ ...TEMPLATE, ...map.inner }, 0, 0) });
  plan.open({ cmd: CMD.BPF_MAP_CREATE, attr: createAttr(map, btfFd, innerMapFd) });
  return null;
}

/** Creation fields that the definition of an inner map does not have. */
const TEMPLATE = { name: "", mapExtra: 0n, numaNode: -1, btf: null } as const;

/** Adds the changes that restore the elements. `now` null: the plan has created the map, which is empty. */
function fill(plan: Plan, then: OpenMap, now: OpenMap | null, state: State): string | null {
  const target: Target = { by: "id", id: now === null ? MADE : then.map.id };
  if (then.type.facts.line) return fillLine(plan, then, now, target);
  const removed: Buffer[] = [];
  const written: Element[] = [];
  for (const { key, before, after } of changedElements(now, then)) {
    plan.counts[before === null ? "added" : after === null ? "removed" : "changed"]++;
    if (after === null) removed.push(key);
    else written.push({ key, value: after });
  }
  const refusal = checkPossible(then, removed, written, state);
  if (refusal !== null) return refusal;
  if (then.type.facts.asks) {
    for (const { value } of written) plan.add(push(target, value));
    return null;
  }
  const hasRoom = now !== null && hasRoomBeside(now, plan.counts.added);
  if (!hasRoom) addRemoved(plan, then, target, removed);
  if (holdsMaps(then)) fillMaps(plan, then.map, now === null, written);
  else for (const action of updates(then.type, target, written, BATCH_ELEMENTS)) plan.add(action);
  if (hasRoom) addRemoved(plan, then, target, removed);
  return null;
}

/**
 * If the map has room for both, elements are written before others are deleted, so that a program always finds one of
 * them. A map that evicts elements to make room could evict the wrong ones.
 */
function hasRoomBeside(now: OpenMap, added: number): boolean {
  return !now.type.facts.evicts && now.entryCount() + added <= now.map.maxEntries;
}

function addRemoved(plan: Plan, { type }: OpenMap, target: Target, removed: readonly Buffer[]): void {
  if (type.batch.delete === null)
    for (const keys of inBatches(removed, BATCH_ELEMENTS))
      plan.add(batch(CMD.BPF_MAP_DELETE_BATCH, target, keys, null));
  else for (const key of removed) plan.add({ cmd: CMD.BPF_MAP_DELETE_ELEM, target, key, value: null, flags: 0n });
}

/** Empties a queue or stack, and pushes its former values in their order. */
function fillLine(plan: Plan, then: OpenMap, now: OpenMap | null, target: Target): null {
  const values = [...elementsOf(then, null)].map(({ value }) => value);
  const held = now === null ? [] : [...elementsOf(now, null)].map(({ value }) => value);
  if (values.length === held.length && values.every((value, at) => value.equals(held[at] as Buffer))) return null;
  for (const _ of held)
    plan.add({ cmd: CMD.BPF_MAP_LOOKUP_AND_DELETE_ELEM, target, key: null, value: null, flags: 0n });
  for (const value of values) plan.add(push(target, value));
  plan.counts.removed = held.length;
  plan.counts.added = values.length;
  return null;
}

/**
 * The values are descriptors: the plan's session opens one of the outer map, and one for each inner map that is written.
 */
function fillMaps(plan: Plan, map: MapRecord, made: boolean, written: readonly Element[]): void {
  if (written.length === 0) return;
  const open = (mapId: number): number => plan.open({ cmd: CMD.BPF_MAP_GET_FD_BY_ID, attr: { mapId, openFlags: 0 } });
  const outer = open(made ? MADE : map.id);
  for (const [id, elements] of Map.groupBy(written, ({ value }) => value.readUInt32LE(0))) {
    const fd = open(id);
    for (const { key } of elements) plan.add(update({ by: "fd", fd: outer }, { key, value: u32Buffer(fd) }), MADE);
    plan.close(fd);
  }
}

/** The reason why no command can restore some elements; null if commands can. */
function checkPossible(
  map: OpenMap,
  removed: readonly Buffer[],
  written: readonly Element[],
  state: State,
): string | null {
  const { asks, keyFd, value } = map.type.facts;
  if (asks && removed.length > 0)
    return `${removed.length} values have been added since: nothing takes them out of a bloom filter`;
  if (keyFd !== null && removed.length + written.length > 0)
    return "its keys are descriptors of objects: no command of a restore has them";
  if (value?.at === 0 && !holdsMaps(map) && written.length > 0)
    return `${written.length} values are descriptors of objects: no command of a restore has them`;
  if (value !== null && value.at > 0 && written.some((element) => hasReference(element, value)))
    return "some of its values have programs: no command of a restore has their descriptors";
  if (!holdsMaps(map)) return null;
  const gone = written.find(({ value }) => state.map(value.readUInt32LE(0)) === undefined);
  return gone === undefined
    ? null
    : `map ${gone.value.readUInt32LE(0)}, which it held, has been freed: restore it first`;
}

function holdsMaps({ type }: OpenMap): boolean {
  return type.facts.value?.answers === "map";
}

/** Whether a value has a descriptor at the place where only some values have one. */
function hasReference({ value }: Element, { at }: Reference): boolean {
  return value.length > at && value.readUInt32LE(at) !== 0;
}

function push(target: Target, value: Buffer): Action {
  return { cmd: CMD.BPF_MAP_UPDATE_ELEM, target, key: null, value, flags: 0n };
}
