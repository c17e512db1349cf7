/** The maps inside maps of maps. Source: kernel/bpf/map_in_map.c. */

import { BPF_F } from "../abi/bpf.ts";
import { hasOwnLists, lruShapeOf } from "./lru_shape.ts";
import type { CreateAttr, Creator, InnerShape, MapRecord, MapStore } from "./map.ts";
import type { MapFacts } from "./map_facts.ts";
import { type Refusal, refuse } from "./refusal.ts";

/** The map that a descriptor refers to: EBADF, EINVAL. */
function mapAt({ world, session }: Creator, fd: number): MapRecord | Refusal {
  const file = world.fd(session, fd);
  if (file === undefined) return refuse("EBADF", `fd ${fd} is not open`);
  return world.map(file.map) ?? refuse("EINVAL", `fd ${fd} is not a map`);
}

/** bpf_map_meta_alloc(): checks inner_map_fd, the template of the inner maps. The new map keeps no reference to it. */
export function checkTemplate(attr: CreateAttr, creator: Creator): Refusal | null {
  const template = mapAt(creator, attr.innerMapFd);
  if (!("id" in template)) return refuse(template.errno, `inner_map_fd: ${template.detail}`);
  if (template.inner !== null) return refuse("EINVAL", "inner_map_fd: a map of maps cannot be an inner map");
  if (creator.world.factsOf(template).inner === "never")
    return refuse("ENOTSUPP", "inner_map_fd: maps of its type cannot be inner maps");
  return template.exclusive ? refuse("ENOTSUPP", "inner_map_fd: an exclusive map cannot be an inner map") : null;
}

/** The template's properties, for the record of a map of maps. */
export function templateOf(attr: CreateAttr, creator: Creator): { readonly inner: InnerShape } {
  const template = mapAt(creator, attr.innerMapFd) as MapRecord;
  const { type, keySize, valueSize, maxEntries, mapFlags, special, mirrorShape } = template;
  const shape = mirrorShape === undefined ? {} : { mirrorShape };
  return { inner: { type, keySize, valueSize, maxEntries, mapFlags, special, ...shape } };
}

/** bpf_map_fd_get_ptr(): the id of the inner map that a value names by descriptor. */
export function innerMap(store: MapStore, value: Buffer): number | Refusal {
  const map = mapAt(store, value.readInt32LE(0));
  if (!("id" in map)) return map;
  if (map.exclusive) return refuse("ENOTSUPP", `map ${map.id} is exclusive: it cannot be an inner map`);
  const differing = difference(store.map.inner as InnerShape, map, store.world.factsOf(map));
  return differing === null ? map.id : refuse("EINVAL", `map ${map.id} has another ${differing} than the template had`);
}

/**
 * map_meta_equal of struct bpf_map_ops, for the maps and for their kernel maps: the first property that differs; null:
 * they agree.
 */
function difference(inner: InnerShape, map: MapRecord, facts: MapFacts): string | null {
  if (inner.type !== map.type) return "map_type";
  if (inner.keySize !== map.keySize) return "key_size";
  if (inner.valueSize !== map.valueSize) return "value_size";
  if (inner.mapFlags !== map.mapFlags) return "map_flags";
  if (hasOwnLists(map.mapFlags) && lruShapeOf(inner) !== lruShapeOf(map)) return OTHER_SHAPE;
  if (JSON.stringify(inner.special) !== JSON.stringify(map.special)) return "set of special fields";
  if (facts.inner !== "same size" || (map.mapFlags & BPF_F.BPF_F_INNER_MAP) !== 0) return null;
  return inner.maxEntries === map.maxEntries ? null : "max_entries";
}

/**
 * The kernel map of a roomy map has no BPF_F_NO_COMMON_LRU, whatever the map's flags are, and the kernel compares the
 * flags of the kernel maps.
 */
const OTHER_SHAPE = "mirror_shape (with BPF_F_NO_COMMON_LRU the flags of their kernel maps differ)";
