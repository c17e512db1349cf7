/**
 * The outcome of a command. A replay decides nothing: `redo` does what the event says. So `out` has each choice that
 * the command does not show:
 *
 *     stored_keys, stored_values   a descriptor became an object or a map; the place of a value that a queue or stack
 *                                  took or gave; elements that a store to memory covers in part
 *     shown_values                 pages show other values than the stored ones
 *     emptied, unchanged           an update emptied a slot; there was nothing to do
 *     evicted                      elements that made room for others
 *     known_as                     a trie kept a key with other bits after its prefix
 *     gone                         elements that went with an object, an open file or an interface
 *     freed                        maps that nothing holds any more
 *     deferred                     elements that go later, as the kernel frees maps by its workqueue: if maps and objects
 *                                  take more than 2,048 elements along in one turn, FREE_DEFERRED events record them,
 *                                  2,048 elements each
 */

import type { Refusal } from "../maps/refusal.ts";

/**
 * The length and SHA-256 of an answer of which the event keeps only the beginning: of its keys and of its values, end
 * to end.
 */
export interface CutAnswer {
  readonly key?: Digest;
  readonly value?: Digest;
}

interface Digest {
  readonly bytes: number;
  /** In hex. */
  readonly sha256: string;
}

/**
 * Work that an event has deferred because it would take too long at once, as bpf_map_free_deferred() of
 * kernel/bpf/syscall.c does.
 */
export interface Deferred {
  readonly maps?: readonly number[];
  readonly objects?: readonly number[];
  /** Maps that must be searched for elements of removed interfaces. */
  readonly interfaces?: readonly number[];
}

/** Outputs besides key and value, with the names of union bpf_attr; bytes are in hex. */
export interface Out {
  readonly count?: number;
  /**
   * The keys without an element that a delete batch has skipped, by index from 0. Events do not have it: see
   * `withoutAbsent`.
   */
  readonly absent?: readonly number[];
  readonly out_batch?: string;
  readonly next_id?: number;
  readonly info_len?: number;
  readonly hash?: string;
  /** The bytes at the pointer `name` of struct bpf_btf_info, before the NUL. */
  readonly name?: string;
  /** The id of the BTF that was loaded, or that a descriptor was opened of. */
  readonly btf_id?: number;
  /** The session that was opened. */
  readonly session_id?: number;
  /** The id that BPF_MAP_CREATE has used up, even if it then found no free descriptor. */
  readonly map_id?: number;
  /** The elements were deleted although the answer could not be written (EFAULT). */
  readonly taken?: true;
  /** The answer has ids of objects, where an update takes descriptors. */
  readonly ids?: true;
  /** More elements follow this page. */
  readonly more?: boolean;
  /** The pin or directory that was made or removed: absolute, without "." and "..". */
  readonly pathname?: string;
  /** The maps that were freed, because their last reference was released. */
  readonly freed?: readonly number[];
  /**
   * Of freed maps, ended objects and removed interfaces: those whose elements are deleted later, by FREE_DEFERRED
   * events.
   */
  readonly deferred?: Deferred;
  /** The bytes of the map's memory. */
  readonly memory?: number;
  /** The object that the opened descriptor refers to. */
  readonly object?: number;
  /** Elements that were stored or removed, end to end, if they are not the key and value given: see MapStore.stored. */
  readonly stored_keys?: string;
  readonly stored_values?: string;
  /** The stored value as lookups and pages show it, if it is not the beginning of the stored bytes. */
  readonly shown_values?: string;
  /** The update has emptied the slot. */
  readonly emptied?: true;
  /** The command succeeded but changed nothing: the element was absent already, or had this value already. */
  readonly unchanged?: true;
  /**
   * Elements that were deleted although the command does not name them, because the object, open file or interface that
   * they belonged to has ended, was closed or was removed.
   */
  readonly gone?: readonly (readonly [map: number, key: string])[];
  /** Elements that were evicted, each with the number of elements that the command had stored before. */
  readonly evicted?: readonly (readonly [after: number, key: string])[];
  /**
   * Keys of a trie under which elements were stored until now, if the given keys differ in bits after the prefix; each
   * with the number of elements stored before.
   */
  readonly known_as?: readonly (readonly [after: number, key: string])[];
  /** The value that a lookup took as input. */
  readonly asked?: string;
  /** Only in events: key and value are cut, and these are the length and SHA-256 of the whole. */
  readonly answer?: CutAnswer;
  /** The caller's quota that the command would exceed. */
  readonly quota?: string;
  /** Why the command did not run: there is no such session, it has ended, or it is another caller's. */
  readonly session?: "unknown" | "ended" | "foreign";
}

/** The result of a command. */
export interface Outcome {
  /** The return value of bpf(2): -1, 0, or the descriptor that was opened. */
  readonly ret: number;
  /** 0, or a number of ERRNO. */
  readonly errno: number;
  /** The rule that chose the errno. */
  readonly detail: string | null;
  /** The map that the command named; 0 if it names none, or none was found. */
  readonly map: number;
  /** The keys that were answered. */
  readonly key: Buffer | null;
  /** The value, next key, values or info that was answered. */
  readonly value: Buffer | null;
  readonly out: Out | null;
}

export function done(
  map: number,
  value: Buffer | null = null,
  out: Out | null = null,
  key: Buffer | null = null,
): Outcome {
  return { ret: 0, errno: 0, detail: null, map, key, value, out };
}

/** The outcome of a command that opened a descriptor. */
export function opened(fd: number, map: number, out: Out | null = null): Outcome {
  return { ret: fd, errno: 0, detail: null, map, key: null, value: null, out };
}

export function failed(refusal: Refusal, map = 0, out: Out | null = null, key: Buffer | null = null): Outcome {
  const told = refusal.quota === null ? out : { ...out, quota: refusal.quota };
  return { ret: -1, errno: refusal.number, detail: refusal.detail, map, key, value: null, out: told };
}
