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
import { OPERATOR, OpenMap, type State } from "../syscall/state.ts";
import { changedElements } from "./diff.ts";

/**
 * The commands that bring a map back to what it was: ordinary ones, in an order in which each succeeds. Deletions come first
 * where they have to make room. A map that was freed is created again, by a session of the restore's own, filled, and pinned where it
 * was pinned then.
 */
export interface RestorePlan {
  readonly requests: readonly Request[];
  readonly counts: RestoreCounts;
}

/** Elements that the commands add, change and remove. */
export interface RestoreCounts {
  readonly added: number;
  readonly changed: number;
  readonly removed: number;
}

/** Who restores, and why; `session` gets a descriptor of a map that is created again, where one is named. */
export interface RestoreFor {
  readonly caller: string;
  readonly note: RestoreNote;
  readonly session: number | null;
}

/** A batch has at most so many elements. */
const BATCH_ELEMENTS = 8192;

/** `then`: the map as it should be again; `now`: the state at present. A string says why it cannot be done. */
export function planRestore(then: OpenMap, thenState: State, now: State, who: RestoreFor): RestorePlan | string {
  const { map } = then;
  const living = now.map(map.id);
  const plan = new Plan(who);
  if (living !== undefined) {
    const refusal = fill(plan, then, new OpenMap(now, living, OPERATOR), now);
    plan.end();
    return refusal ?? plan;
  }
  const pathnames = [...thenState.pinned()].filter((pin) => pin.map === map.id).map(({ pathname }) => pathname);
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

/** Puts a plan together. */
class Plan extends Whole implements RestorePlan {
  readonly counts = { added: 0, changed: 0, removed: 0 };

  constructor({ caller, note }: RestoreFor) {
    super({ caller, restore: note }, `restore of map ${note.map}`);
  }
}

/** A map of the same definition; a string says what of it cannot be had again. */
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

/** What of a template is not in its shape. */
const TEMPLATE = { name: "", mapExtra: 0n, numaNode: -1, btf: null } as const;

/** Makes the elements what they were. `now` null: the map has been created by the plan, and is empty. */
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
 * Elements are written before others go, where the map has room for both: a program that looks up meanwhile then finds at
 * least one of them. A map that lets go of elements to make room would let go of the wrong ones.
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

/** A queue or stack is emptied, and what it held is pushed in the order in which it stood. */
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

/** Values are descriptors: the plan's session opens one of the outer map, and one of each inner map for as long as it takes. */
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

/** What no command can bring back. */
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

/** Whether the place of a value's descriptor, which not all values have, names anything. */
function hasReference({ value }: Element, { at }: Reference): boolean {
  return value.length > at && value.readUInt32LE(at) !== 0;
}

function push(target: Target, value: Buffer): Action {
  return { cmd: CMD.BPF_MAP_UPDATE_ELEM, target, key: null, value, flags: 0n };
}
