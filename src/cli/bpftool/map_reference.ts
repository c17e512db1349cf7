/** MAP := { id MAP_ID | name MAP_NAME | pinned FILE }: read from words, and found at the service. */

import { resolve } from "node:path";
import { BPF_F, type MapTypeName, OBJ_NAME_LEN } from "../../abi/bpf.ts";
import { ID_MAX } from "../../abi/limits.ts";
import type { Api, Refused } from "../../client/api.ts";
import { codeOf, Failure, isErrno, refusal } from "./failure.ts";
import { readNumber, type Words } from "./words.ts";

export type Reference =
  | { readonly by: "id"; readonly id: number }
  | { readonly by: "name"; readonly name: string }
  | { readonly by: "pinned"; readonly path: string };

/** What the service says of a map, as far as commands use it. */
export interface MapFacts {
  readonly id: number;
  readonly map_type: MapTypeName;
  readonly key_size: number;
  readonly value_size: number;
  readonly max_entries: number;
  readonly map_flags: readonly (keyof typeof BPF_F)[];
  readonly name: string;
  readonly frozen: boolean;
  readonly btf: { readonly btf_id: number } | null;
  readonly entries: number;
  /** null: its values are not per CPU. */
  readonly possible_cpus: number | null;
  readonly pinned: readonly string[];
  readonly pins: number;
}

/** A moment of the log; null: now. */
export type At = string | null;

const U32_MAX = 2 ** 32 - 1;
const PAGE = 1000;
const BPFFS = "/sys/fs/bpf";

export function readReference(words: Words): Reference {
  if (words.takes("id")) return { by: "id", id: readId(words) };
  if (words.takes("name")) {
    const name = words.next("a name");
    if (name === "" || Buffer.byteLength(name) >= OBJ_NAME_LEN) throw new Failure("can't parse name");
    return { by: "name", name };
  }
  if (words.takes("pinned")) return { by: "pinned", path: pathname(words.next("a path")) };
  throw new Failure(`expected 'id', 'name' or 'pinned', got: '${words.first ?? ""}'?`);
}

/** A u32, as bpftool reads it. */
export function readId(words: Words): number {
  const text = words.next("an id");
  const id = readNumber(text, U32_MAX);
  if (id === null) throw new Failure(`can't parse ${text} as ID`);
  return id;
}

/** Throws a Failure if no object can have the id: the service does not take it. */
export function checkId(id: number, doing: string): void {
  if (id > ID_MAX) throw new Failure(`${doing} (${id}): No such file or directory`);
}

/** In a directory of bpffs a relative path begins there; elsewhere it begins at /sys/fs/bpf. */
export function pathname(given: string): string {
  const here = process.cwd();
  const begin = here === BPFFS || here.startsWith(`${BPFFS}/`) ? here : BPFFS;
  // A path's "..", and its end in a slash, are for the service to judge.
  return given.startsWith("/") ? given : given.startsWith("./") ? resolve(begin, given) : `${begin}/${given}`;
}

/** The reference as the API has it: an id, name:NAME or pinned:PATH. */
export function referenceText(reference: Reference): string {
  switch (reference.by) {
    case "id":
      return String(reference.id);
    case "name":
      return `name:${reference.name}`;
    case "pinned":
      return `pinned:${reference.path}`;
  }
}

/** The map's part of a route's path. */
export function pathOf(reference: Reference): string {
  return `/v1/maps/${encodeURIComponent(referenceText(reference))}`;
}

/** The one map; throws bpftool's Failure if there is none, or more than one. */
export async function findMap(api: Api, reference: Reference, at: At): Promise<MapFacts> {
  if (reference.by === "id") checkId(reference.id, "get map by id");
  try {
    return await api.get<MapFacts>(pathOf(reference), { at });
  } catch (error) {
    throw notFound(reference, error);
  }
}

/** All maps with the name; otherwise the one map. */
export async function findMaps(api: Api, reference: Reference, at: At): Promise<readonly MapFacts[]> {
  if (reference.by !== "name") return [await findMap(api, reference, at)];
  const found: MapFacts[] = [];
  for await (const map of allMaps(api, at)) if (map.name === reference.name) found.push(map);
  if (found.length === 0) throw new Failure(`no map has the name ${reference.name}`);
  return found;
}

/** By id. */
export async function* allMaps(api: Api, at: At): AsyncIterable<MapFacts> {
  for (let after: number | null = 0; after !== null; ) {
    const page: { maps: MapFacts[]; next: number | null } = await api.get("/v1/maps", { limit: PAGE, after, at });
    yield* page.maps;
    after = page.next;
  }
}

/** All paths at which a map is pinned: the service lists the first of them with the map. */
export async function allPins(api: Api, map: MapFacts, at: At): Promise<readonly string[]> {
  if (map.pins === map.pinned.length) return map.pinned;
  const found: string[] = [];
  for (let after: string | null = ""; after !== null; ) {
    const page: { pins: { pathname: string; map_id: number }[]; next: string | null } = await api.get("/v1/pins", {
      limit: PAGE,
      after,
      at,
    });
    for (const pin of page.pins) if (pin.map_id === map.id) found.push(pin.pathname);
    after = page.next;
  }
  return found;
}

/** A key for a map without keys: ___bpf_copy_key(), kernel/bpf/syscall.c, refuses it before the map's type is asked. */
export function noKeys(doing: string, { map_type: type }: MapFacts): Failure {
  return new Failure(`${doing}: Invalid argument`, codeOf("EINVAL"), `${type} has no keys`);
}

/** "hash" for BPF_MAP_TYPE_HASH. */
export function typeWord(type: MapTypeName): string {
  return type.slice("BPF_MAP_TYPE_".length).toLowerCase();
}

export function flagsOf({ map_flags: names }: MapFacts): number {
  return names.reduce((flags, name) => flags | BPF_F[name], 0);
}

function notFound(reference: Reference, error: unknown): Failure {
  switch (reference.by) {
    case "id":
      return refusal(`get map by id (${reference.id})`, error, 255);
    case "pinned":
      return refusal(`bpf obj get (${reference.path})`, error, 255);
    case "name":
      if (isErrno(error, "ENOENT")) return new Failure(`no map has the name ${reference.name}`);
      if (isErrno(error, "EINVAL"))
        return new Failure("several maps match this handle", 255, (error as Refused).problem.detail ?? null);
      return refusal(`get map by name (${reference.name})`, error, 255);
  }
}
