import { CMD } from "../abi/service.ts";
import type { Event } from "../log/event.ts";
import type { MapType } from "../maps/map.ts";
import { mapType } from "../maps/types.ts";
import type { Answer } from "../replay/answer.ts";
import type { Difference } from "../replay/compare.ts";
import type { Shape } from "../replay/ids.ts";
import { commandFacts } from "../syscall/command_facts.ts";

const NO_ORDER = "a hash's walk has no order";

/**
 * Answers that depend on the position of a walk; and below, answers that depend on the elements that an LRU map still
 * has.
 */
const BY_PLACE: ReadonlySet<string | null> = new Set([null, "ENOENT", "ENOSPC", "EFAULT"]);
const BY_PRESENCE: ReadonlySet<string | null> = new Set([null, "ENOENT", "EEXIST", "E2BIG", "ENOSPC", "EFAULT"]);

/**
 * Judges differences between mapledger and a kernel that the kernel is free to have: the order in which a hash is
 * walked, evictions from an LRU map, the moment when a map is freed, and false positives of a bloom filter. Such a
 * difference gets its reason. If a free answer removed other elements than the recorded one, the two maps differ from
 * then on, and later differences on the same map are free, too.
 */
export class KernelFreedom {
  /** Recorded maps whose elements may differ by now, with the reason. */
  readonly #apart = new Map<number, string>();

  /** null: there is no difference. The same elements in another order are no difference. */
  judge(
    difference: Difference | null,
    { command, outcome }: Event,
    shape: Shape | undefined,
    recorded: Answer,
    got: Answer,
  ): Difference | null {
    const type = mapType(shape?.type ?? -1);
    const facts = commandFacts(command.cmd);
    const walks = facts?.walks === true && type?.facts.ordered === false;
    // A lookup-and-delete batch that both refuse for lack of room has still deleted the first elements that it met.
    if (walks && outcome.out?.taken === true) this.#apart.set(outcome.map, NO_ORDER);
    if (difference === null || (walks && sameElements(recorded, got))) return null;
    const free = reasonFor(command.cmd, type, recorded, got) ?? this.#apart.get(outcome.map);
    if (free === undefined) return difference;
    if (command.cmd === CMD.BPF_MAP_LOOKUP_AND_DELETE_BATCH || type?.facts.evicts === true)
      this.#apart.set(outcome.map, free);
    return { ...difference, free };
  }
}

function reasonFor(cmd: number, type: MapType | undefined, recorded: Answer, got: Answer): string | undefined {
  if (commandFacts(cmd)?.walks === true && type?.facts.ordered === false && both(recorded, got, BY_PLACE))
    return NO_ORDER;
  if (type?.facts.evicts === true && both(recorded, got, BY_PRESENCE))
    return "the kernel chooses which elements an LRU map evicts, and when";
  if (cmd === CMD.BPF_MAP_GET_FD_BY_ID && recorded.errno === "ENOENT" && got.errno === null)
    return "the kernel frees a map a moment after its last reference";
  const asked = type?.facts.asks === true && cmd === CMD.BPF_MAP_LOOKUP_ELEM;
  return asked && recorded.errno === "ENOENT" && got.errno === null
    ? "the kernel's bloom filter may find values that were never added"
    : undefined;
}

function both(recorded: Answer, got: Answer, errnos: ReadonlySet<string | null>): boolean {
  return errnos.has(recorded.errno) && errnos.has(got.errno);
}

/** Whether two batches have the same pairs, in any order. */
function sameElements(recorded: Answer, got: Answer): boolean {
  const [one, other] = [pairs(recorded), pairs(got)];
  if (one === null || other === null || recorded.errno !== got.errno) return false;
  return one.length === other.length && one.every((pair, at) => pair === other[at]);
}

function pairs({ outputs }: Answer): string[] | null {
  const { keys, values, count } = outputs;
  if (keys === undefined || values === undefined || count === undefined || count === 0) return null;
  const [keySize, valueSize] = [keys.length / count, values.length / count];
  const pair = (at: number): string =>
    `${keys.slice(at * keySize, (at + 1) * keySize)} ${values.slice(at * valueSize, (at + 1) * valueSize)}`;
  return Array.from({ length: count }, (_, at) => pair(at)).sort();
}
