import type { Bench } from "./bench.ts";
import { type Contents, UNORDERED } from "./contents.ts";
import type { Judge } from "./judge.ts";
import { isLossy, type Lossy } from "./lossy.ts";
import type { Attr, Pair, Side } from "./pair.ts";
import { keyFor, roomFor, sizes, valueFor } from "./requests.ts";
import type { StreamType } from "./shapes.ts";
import type { Key, Of, Value } from "./stream.ts";
import { OF_MAPS, type Twin, type Twins } from "./twins.ts";
import { KEY_WANTS, VALUE_WANTS } from "./wanted.ts";

/** Maps of sockets: the kernel lets go of a socket some time after its map, and it is busy until then. */
const OF_SOCKETS: ReadonlySet<StreamType> = new Set(["SOCKMAP", "SOCKHASH", "REUSEPORT_SOCKARRAY"]);

/** Steps on elements: one by one, and batches that write. */
export class ElementSteps {
  readonly #judge: Judge;
  readonly #twins: Twins;
  readonly #contents: Contents;
  readonly #lossy: Lossy;

  constructor({ judge, twins, contents, lossy }: Bench) {
    this.#judge = judge;
    this.#twins = twins;
    this.#contents = contents;
    this.#lossy = lossy;
  }

  update({ map, key, value, flags }: Of<"update">): void {
    const { fds, twin } = this.#twins.at(map);
    const keys = this.#keys(key, twin);
    const values = this.#values(value, twin);
    const attr = (fd: number, side: Side): Attr => ({
      map_fd: fd,
      key: keys[side],
      value: values[side],
      flags: String(flags),
    });
    const cmd = "BPF_MAP_UPDATE_ELEM";
    const [service, first] = this.#judge.ask(cmd, fds, attr);
    const busy = service.errno !== "EBUSY" && OF_SOCKETS.has(twin?.type as StreamType);
    let kernel = first;
    if (busy && first.errno === "EBUSY")
      kernel = this.#judge.settled(
        () => this.#judge.subject(1).bpf({ cmd, attr: attr(fds[1], 1) }),
        ({ errno }) => errno !== "EBUSY",
      );
    if (service.errno === null) this.#mayLinger(twin);
    if (twin === null || !isLossy(twin)) this.#judge.equal(cmd, [service, kernel]);
    else {
      const digits = [twin.keySize * 2, twin.valueBytes * 2] as const;
      const element = [keys[0]?.slice(0, digits[0]) ?? "", values[0]?.slice(0, digits[1]) ?? ""] as const;
      this.#lossy.judge(cmd, twin, [service, kernel], [element]);
    }
  }

  /** Maps in a map of maps are let go of when it is freed, which is later. */
  #mayLinger(twin: Twin | null): void {
    if (twin === null || !OF_MAPS.has(twin.type)) return;
    for (const other of this.#twins.all) if (!OF_MAPS.has(other.type)) other.lingers = true;
  }

  element({ map, key, value, flags, room }: Of<"lookup" | "take">, cmd: string): void {
    const { fds, twin } = this.#twins.at(map);
    const keys = this.#keys(key, twin);
    const asks = twin?.type === "BLOOM_FILTER" && cmd === "BPF_MAP_LOOKUP_ELEM";
    const output = asks ? { value: this.#values(value, twin)[0] } : roomFor("value", room, sizes(twin).valueBytes);
    const answers = this.#judge.ask(cmd, fds, (fd, side) => ({
      map_fd: fd,
      key: keys[side],
      flags: String(flags),
      ...output,
    }));
    // A bloom filter may say "perhaps" to what was never added; we never do.
    if (asks && answers[0].errno === "ENOENT" && answers[1].errno === null) return;
    const readable = [this.#twins.readable(twin, 0, answers[0]), this.#twins.readable(twin, 1, answers[1])] as const;
    if (twin !== null && isLossy(twin)) this.#lossy.judgeElement(cmd, twin, readable, keys[0]);
    else this.#judge.equal(cmd, readable);
  }

  delete({ map, key }: Of<"delete">): void {
    const { fds, twin } = this.#twins.at(map);
    const keys = this.#keys(key, twin);
    const cmd = "BPF_MAP_DELETE_ELEM";
    const answers = this.#judge.ask(cmd, fds, (fd, side) => ({ map_fd: fd, key: keys[side] }));
    if (twin !== null && isLossy(twin)) this.#lossy.judge(cmd, twin, answers, []);
    else this.#judge.equal(cmd, answers);
  }

  nextKey({ map, key, room }: Of<"next">): void {
    const { fds, twin } = this.#twins.at(map);
    const given = this.#keys(key, twin);
    const output = roomFor("next_key", room, sizes(twin).keySize);
    const cmd = "BPF_MAP_GET_NEXT_KEY";
    const answers = this.#judge.ask(cmd, fds, (fd, side) => ({ map_fd: fd, key: given[side], ...output }));
    if (twin === null || !UNORDERED.has(twin.type)) {
      this.#judge.equal(cmd, answers);
      return;
    }
    if (isLossy(twin)) {
      this.#lossy.judgeElement(cmd, twin, answers, null);
      return;
    }
    this.#judge.commands++;
    const keys = new Set(this.#contents.check(twin, `after ${cmd}`)?.keys());
    const present = keys.delete(given[0]?.slice(0, twin.keySize * 2) ?? "");
    // The last key is another one in each; everything else is the same.
    const canDiffer = present && keys.size > 0;
    if (!canDiffer && answers[0].errno !== answers[1].errno) this.#judge.differ(cmd, answers);
    for (const { errno, attr } of answers) {
      const known = errno !== null || keys.has(attr.next_key as string);
      const ended = errno !== "ENOENT" || keys.size === 0 || present;
      const allowed =
        errno === null || errno === "ENOENT" || errno === "EFAULT" || answers[0].errno === answers[1].errno;
      if (!known || !ended || !allowed) this.#judge.differ(cmd, answers);
    }
  }

  // Batches that write.

  updateBatch({ map, elements, more, flags, elemFlags }: Of<"update batch">): void {
    const { fds, twin } = this.#twins.at(map);
    const keys = elements.map(({ key }) => this.#keys({ ...key, pointer: "ok" }, twin));
    const values = elements.map(({ value }) => this.#values({ ...value, pointer: "ok" }, twin));
    const cmd = "BPF_MAP_UPDATE_BATCH";
    const answers = this.#judge.ask(cmd, fds, (fd, side) => ({
      map_fd: fd,
      keys: keys.map((key) => key[side]).join(""),
      values: values.map((value) => value[side]).join(""),
      count: Math.max(elements.length + more, 0),
      flags: String(flags),
      elem_flags: String(elemFlags),
    }));
    this.#mayLinger(twin);
    if (twin === null || !isLossy(twin)) this.#judge.equal(cmd, answers);
    else
      this.#lossy.judge(
        cmd,
        twin,
        answers,
        keys.map((key, at) => [key[0] ?? "", values[at]?.[0] ?? ""]),
      );
  }

  deleteBatch({ map, keys, more, flags, elemFlags }: Of<"delete batch">): void {
    const { fds, twin } = this.#twins.at(map);
    const given = keys.map((key) => this.#keys({ ...key, pointer: "ok" }, twin));
    const cmd = "BPF_MAP_DELETE_BATCH";
    const answers = this.#judge.ask(cmd, fds, (fd, side) => ({
      map_fd: fd,
      keys: given.map((key) => key[side]).join(""),
      count: Math.max(keys.length + more, 0),
      flags: String(flags),
      elem_flags: String(elemFlags),
    }));
    if (twin !== null && isLossy(twin)) this.#lossy.judge(cmd, twin, answers, []);
    else this.#judge.equal(cmd, answers);
  }

  // What keys and values are.

  #keys(key: Key, twin: Twin | null): Pair<string | null> {
    const want = twin === null ? undefined : KEY_WANTS[twin.type];
    const named = want === undefined ? null : this.#twins.named(key.names, want, twin, 4);
    return [keyFor(key, twin, named?.[0] ?? null), keyFor(key, twin, named?.[1] ?? null)];
  }

  #values(value: Value, twin: Twin | null): Pair<string | null> {
    const want = twin === null ? undefined : VALUE_WANTS[twin.type];
    if (want === undefined) {
      const same = valueFor(value, twin, 0n);
      return [same, same];
    }
    // A program's descriptor is an int, behind another number or alone.
    const named = this.#twins.named(value.names, want, twin, want === "prog" ? 4 : sizes(twin).valueBytes);
    return [valueFor(value, twin, named[0]), valueFor(value, twin, named[1])];
  }
}
