import type { DoorAttr, DoorRequest } from "../src/codec/door.ts";
import type { ObjectFacts } from "../src/maps/object.ts";
import type { ObjectSpec } from "../src/syscall/command.ts";

/** What a subject answers: as the syscall door does. `errno` null is success. */
export interface Answer {
  readonly ret: number;
  readonly errno: string | null;
  readonly attr: DoorAttr;
  /** The rule that chose the errno; a kernel does not tell. */
  readonly detail?: string;
  /** What was opened that is no map. */
  readonly facts?: ObjectFacts;
}

export interface MemoryAnswer {
  readonly errno: string | null;
  readonly data: string;
}

/** What the syscall door has no words for: raw access to the attribute. */
export interface Raw {
  /** The size argument of the system call. */
  readonly size?: number;
  /** Byte offset in the attribute: hex bytes written over it. */
  readonly poke?: Readonly<Record<string, string>>;
  /** No attribute at all. */
  readonly nullAttr?: boolean;
  /** `pathname` is a pointer that faults. */
  readonly badPath?: boolean;
}

/**
 * Who is asked: the service, or a kernel. Requests are those of the syscall door. An output's field (`value` of a
 * lookup, `next_key`, `keys`, `values`, `out_batch`, `info`) is left out where the buffer fits, and otherwise as many
 * zero bytes as there is room for: none is a null or faulting pointer.
 */
export interface Subject {
  /** A directory on bpffs for pins, 23 bytes long as it was when the transcripts were recorded. */
  readonly directory: string;
  /** Whether `raw` is understood. */
  readonly takesRaw: boolean;
  /** Whether nobody else makes maps, so that the next id is known. */
  readonly ownsIds: boolean;
  bpf(request: DoorRequest, raw?: Raw): Answer;
  close(fd: number): Answer;
  dup(fd: number): Answer;
  /** A descriptor of something that is no map. `path` of a directory is below the subject's own. */
  open(spec: ObjectSpec): Answer;
  /** Whether mmap(2) of whole pages of a map's memory succeeds: its errno, or null. */
  mapMemory(fd: number, offset: number, length: number, writable: boolean): string | null;
  /** What such a mapping shows, and a store through it. */
  readMemory(fd: number, offset: number, length: number): MemoryAnswer;
  writeMemory(fd: number, offset: number, data: string): MemoryAnswer;
  changePath(call: "unlink" | "mkdir" | "rmdir", pathname: string): Answer;
  /** rmdir(2) of a cgroup that `open` has made, by its descriptor there. */
  removeCgroup(fd: number): void;
  /** Waits for what was let go of to be gone, which takes a kernel some milliseconds; false if all is gone already. */
  settle(ms?: number): boolean;
  /** Lets go of everything. */
  end(): void;
}
