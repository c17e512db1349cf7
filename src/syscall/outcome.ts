import type { Refusal } from "../maps/refusal.ts";

/** What an answer was, of which an event keeps the beginning alone: of its keys and of its values, end to end. */
export interface CutAnswer {
  readonly key?: Digest;
  readonly value?: Digest;
}

interface Digest {
  readonly bytes: number;
  /** In hex. */
  readonly sha256: string;
}

/** As bpf_map_free_deferred() of kernel/bpf/syscall.c: what would take too long in one moment. */
export interface Deferred {
  readonly maps?: readonly number[];
  readonly objects?: readonly number[];
  /** Maps whose elements of interfaces that are gone go later; they are looked through for them. */
  readonly interfaces?: readonly number[];
}

/** Outputs beside key and value, by the names of union bpf_attr; bytes in hex. */
export interface Out {
  readonly count?: number;
  /** Of a delete batch that passes over keys without an element: which these were, from 0. No event has it: see withoutAbsent. */
  readonly absent?: readonly number[];
  readonly out_batch?: string;
  readonly next_id?: number;
  readonly info_len?: number;
  readonly hash?: string;
  /** The session that was opened. */
  readonly session_id?: number;
  /** The id that BPF_MAP_CREATE used up, also where no descriptor was left for it. */
  readonly map_id?: number;
  /** What was taken out is gone although the answer could not be written (EFAULT). */
  readonly taken?: true;
  /** What was read shows ids of what the elements hold, where an update takes descriptors. */
  readonly ids?: true;
  /** A page of elements was not the last. */
  readonly more?: boolean;
  /** Where a pin or directory of bpffs was made or removed: absolute, without "." and "..". */
  readonly pathname?: string;
  /** Maps that nothing holds any more. */
  readonly freed?: readonly number[];
  /** Of maps in `freed`, of objects and of interfaces that are gone, those whose elements go later: FREE_DEFERRED events tell of that. */
  readonly deferred?: Deferred;
  /** Bytes that mmap(2) can reach. */
  readonly memory?: number;
  /** The object that a descriptor was opened of. */
  readonly object?: number;
  /** What was stored or removed, end to end, where it is not what was given: see MapStore.stored. */
  readonly stored_keys?: string;
  readonly stored_values?: string;
  /** Stored values as lookups and pages show them, where they do not begin as they are shown. */
  readonly shown_values?: string;
  /** What an update stored is that the slot is empty. */
  readonly emptied?: true;
  /** All was well, and nothing is other than before: there was nothing to delete, or it was there already. */
  readonly unchanged?: true;
  /** Elements that went though the command does not name them: what they belonged to is gone. */
  readonly gone?: readonly (readonly [map: number, key: string])[];
  /** Elements that had to make room, each with the number of elements that the command had stored before. */
  readonly evicted?: readonly (readonly [after: number, key: string])[];
  /** Keys of a trie as they were kept until then, where those given differ behind the prefix; likewise with a number. */
  readonly known_as?: readonly (readonly [after: number, key: string])[];
  /** The value that a lookup asked for. */
  readonly asked?: string;
  /** In an event: key and value are the beginning of what was answered, which is this. */
  readonly answer?: CutAnswer;
  /** The caller's quota that the command would have been over. */
  readonly quota?: string;
  /** Why a command never ran: there is no such session, or it has ended. */
  readonly session?: "unknown" | "ended" | "foreign";
}

/** What became of a command. */
export interface Outcome {
  /** What bpf(2) returns: -1, 0, or the descriptor that was opened. */
  readonly ret: number;
  /** 0, or a number of ERRNO. */
  readonly errno: number;
  /** The rule that chose the errno. */
  readonly detail: string | null;
  /** The map that was meant, 0 where none was found. */
  readonly map: number;
  /** The keys that were given out. */
  readonly key: Buffer | null;
  /** The value, next key, values or info that was given out. */
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

/** A command that opened a descriptor. */
export function opened(fd: number, map: number, out: Out | null = null): Outcome {
  return { ret: fd, errno: 0, detail: null, map, key: null, value: null, out };
}

export function failed(refusal: Refusal, map = 0, out: Out | null = null, key: Buffer | null = null): Outcome {
  const told = refusal.quota === null ? out : { ...out, quota: refusal.quota };
  return { ret: -1, errno: refusal.number, detail: refusal.detail, map, key, value: null, out: told };
}
