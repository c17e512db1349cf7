import { CMD } from "../abi/service.ts";
import type { Event } from "../log/event.ts";
import type { MapType } from "../maps/map.ts";
import { mapType } from "../maps/types.ts";
import type { Answer } from "../replay/answer.ts";
import type { Difference } from "../replay/compare.ts";
import type { Shape } from "../replay/ids.ts";
import { commandFacts } from "../syscall/command_facts.ts";

const NO_ORDER = "a hash's walk has no order";

/** What a walk is answered according to where it is; and an LRU map according to what is still there. */
const BY_PLACE: ReadonlySet<string | null> = new Set([null, "ENOENT", "ENOSPC", "EFAULT"]);
const BY_PRESENCE: ReadonlySet<string | null> = new Set([null, "ENOENT", "EEXIST", "E2BIG", "ENOSPC", "EFAULT"]);

/**
 * What a kernel may do otherwise than mapledger, as ARCHITECTURE.md says: a difference of that kind gets the reason. What it has
 * taken out or let go otherwise it no longer has, so that later differences on the same map are of that kind, too.
 */
export class KernelFreedom {
  /** Recorded maps whose elements are others by now, and why. */
  readonly #apart = new Map<number, string>();

  /** null: there is no difference; the same elements, walked in another order, are none. */
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
    // Refused alike for want of room, a take-out has lost what it came to first.
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
    return "which elements an LRU map lets go, and when";
  if (cmd === CMD.BPF_MAP_GET_FD_BY_ID && recorded.errno === "ENOENT" && got.errno === null)
    return "a map goes a moment after it was let go";
  const asked = type?.facts.asks === true && cmd === CMD.BPF_MAP_LOOKUP_ELEM;
  return asked && recorded.errno === "ENOENT" && got.errno === null ? "a bloom filter may say perhaps" : undefined;
}

function both(recorded: Answer, got: Answer, errnos: ReadonlySet<string | null>): boolean {
  return errnos.has(recorded.errno) && errnos.has(got.errno);
}

/** Two batches with the same pairs, in whatever order. */
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
