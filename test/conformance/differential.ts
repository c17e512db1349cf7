import { isDeepStrictEqual } from "node:util";
import { BPF_MAP_TYPE, MAP_INFO, MAP_INFO_BYTES, type MapTypeName } from "../../src/abi/bpf.ts";
import { byKey, elementsOf, elementsRoom, plain, shown, sorted } from "./answers.ts";
import {
  type Attr,
  countOf,
  createAttr,
  idsOf,
  keyOf,
  type Pair,
  roomFor,
  sizes,
  type Twin,
  u32Hex,
  valueBytes,
} from "./requests.ts";
import { JUNK, type Shape, type Step, type StreamType } from "./stream.ts";
import type { Answer, Subject } from "./subject.ts";

interface Descriptor {
  readonly fds: Pair<number>;
  readonly twin: Twin | null;
}

type Contents = ReadonlyMap<string, string>;

const NOT_OPEN: Descriptor = { fds: [-1, -1], twin: null };
/** Elements above this are not put in: maps of that shape are made to see whether they can be made. */
const PROBE_BYTES = 8192;
/** ENOENT and ENOSPC end a batch, EFAULT takes its answer away. */
const ENDS = [null, "ENOENT", "ENOSPC", "EFAULT"];
const HASH_POSITION_BYTES = 4;

/**
 * Sends the same commands to two subjects and throws where they do not answer alike. What the kernel leaves free is the
 * order of a hash: which key comes next or last, and which elements are in a batch that is smaller than the map.
 */
export class Differential {
  /** Commands sent to each subject, but for those that only look whether all is as it should be. */
  commands = 0;
  readonly #subjects: Pair<Subject>;
  readonly #open: Descriptor[] = [];
  readonly #twins: Twin[] = [];
  readonly #pipe: Descriptor;

  constructor(service: Subject, kernel: Subject) {
    this.#subjects = [service, kernel];
    this.#pipe = { fds: [service.open({ kind: "pipe" }).ret, kernel.open({ kind: "pipe" }).ret], twin: null };
  }

  run(steps: readonly Step[]): void {
    for (const step of steps) this.#step(step);
    for (const twin of this.#twins) this.#checkContents(twin, "at the end");
  }

  #step(step: Step): void {
    switch (step.do) {
      case "create":
        this.#create(step.shape);
        break;
      case "update":
        this.#update(step);
        break;
      case "lookup":
        this.#element(step, "BPF_MAP_LOOKUP_ELEM");
        break;
      case "take":
        this.#element(step, "BPF_MAP_LOOKUP_AND_DELETE_ELEM");
        break;
      case "delete": {
        const { fds, twin } = this.#at(step.map);
        this.#same("BPF_MAP_DELETE_ELEM", fds, (fd) => ({ map_fd: fd, key: keyOf(step.key, twin) }));
        break;
      }
      case "next":
        this.#nextKey(step);
        break;
      case "read batch":
      case "take batch":
        this.#readBatch(step);
        break;
      case "update batch":
        this.#updateBatch(step);
        break;
      case "delete batch":
        this.#deleteBatch(step);
        break;
      case "walk": {
        const { twin } = this.#at(step.map);
        if (twin !== null) this.#checkContents(twin, "on the way");
        break;
      }
      case "freeze":
        this.#same("BPF_MAP_FREEZE", this.#at(step.map).fds, (fd) => ({ map_fd: fd }));
        break;
      case "close":
        this.#close(step.map);
        break;
      case "dup": {
        const { fds, twin } = this.#at(step.map);
        this.#opened(
          "dup",
          this.#both((subject, side) => subject.dup(fds[side])),
          twin,
        );
        break;
      }
      case "info":
        this.#info(step);
        break;
      case "next id":
        this.#nextId(step.object, step.add);
        break;
      case "fd by id": {
        const twin = this.#twin(step.object);
        const answers = this.#ask("BPF_MAP_GET_FD_BY_ID", idsOf(twin), (id) => ({
          map_id: id,
          open_flags: step.flags,
        }));
        this.#opened("BPF_MAP_GET_FD_BY_ID", answers, twin ?? null);
        break;
      }
      case "pin": {
        const { fds } = this.#at(step.map);
        const path = this.#paths(step.path);
        this.#same("BPF_OBJ_PIN", fds, (fd, side) => ({
          pathname: path[side],
          bpf_fd: fd,
          file_flags: step.flags,
        }));
        break;
      }
      case "get": {
        const path = this.#paths(step.path);
        const answers = this.#ask("BPF_OBJ_GET", path, (pathname) => ({
          pathname,
          file_flags: step.flags,
          bpf_fd: step.fd,
        }));
        this.#opened("BPF_OBJ_GET", answers, null);
        break;
      }
      case "unlink":
      case "mkdir":
      case "rmdir": {
        const path = this.#paths(step.path);
        this.#equal(
          step.do,
          this.#both((subject, side) => subject.changePath(step.do, path[side] as string)),
        );
        break;
      }
      case "unknown":
        this.#equal(
          String(step.cmd),
          this.#both((subject) => subject.bpf({ cmd: step.cmd, attr: {} })),
        );
        break;
    }
  }

  // Commands.

  #create(shape: Shape): void {
    const attr = createAttr(shape);
    const answers = this.#ask("BPF_MAP_CREATE", [attr, attr], (same) => same);
    this.#opened("BPF_MAP_CREATE", answers, null);
    const descriptor = this.#open.at(-1);
    if (answers[0].errno !== null || descriptor === undefined) return;
    if (Math.max(attr.key_size as number, attr.value_size as number) > PROBE_BYTES) this.#close(this.#open.length - 1);
  }

  #update({ map, key, value, flags }: Extract<Step, { do: "update" }>): void {
    const { fds, twin } = this.#at(map);
    const attr = { key: keyOf(key, twin), value: valueBytes(value, twin), flags: String(flags) };
    this.#same("BPF_MAP_UPDATE_ELEM", fds, (fd) => ({ map_fd: fd, ...attr }));
  }

  #element({ map, key, flags, room }: Extract<Step, { do: "lookup" | "take" }>, cmd: string): void {
    const { fds, twin } = this.#at(map);
    const attr = { key: keyOf(key, twin), flags: String(flags), ...roomFor("value", room, sizes(twin).valueSize) };
    this.#same(cmd, fds, (fd) => ({ map_fd: fd, ...attr }));
  }

  #nextKey({ map, key, room }: Extract<Step, { do: "next" }>): void {
    const { fds, twin } = this.#at(map);
    const given = keyOf(key, twin);
    const attr = { key: given, ...roomFor("next_key", room, sizes(twin).keySize) };
    const answers = this.#ask("BPF_MAP_GET_NEXT_KEY", fds, (fd) => ({ map_fd: fd, ...attr }));
    if (twin?.type !== "HASH") {
      this.#equal("BPF_MAP_GET_NEXT_KEY", answers);
      return;
    }
    const keys = new Set(this.#checkContents(twin, "after BPF_MAP_GET_NEXT_KEY")?.keys());
    const present = keys.delete(given?.slice(0, twin.keySize * 2) ?? "");
    // The last key is another one in each; everything else is the same.
    const canDiffer = present && keys.size > 0;
    if (!canDiffer && answers[0].errno !== answers[1].errno) this.#differ("BPF_MAP_GET_NEXT_KEY", answers);
    for (const { errno, attr } of answers) {
      if (errno === null ? !keys.has(attr.next_key as string) : errno === "ENOENT" && keys.size > 0 && !present)
        this.#differ("BPF_MAP_GET_NEXT_KEY", answers);
      if (
        canDiffer &&
        errno !== null &&
        errno !== "ENOENT" &&
        answers[0].errno !== answers[1].errno &&
        errno !== "EFAULT"
      )
        this.#differ("BPF_MAP_GET_NEXT_KEY", answers);
    }
  }

  #readBatch(step: Extract<Step, { do: "read batch" | "take batch" }>): void {
    const { fds, twin } = this.#at(step.map);
    const { keySize, valueSize, type } = sizes(twin);
    const cmd = step.do === "take batch" ? "BPF_MAP_LOOKUP_AND_DELETE_BATCH" : "BPF_MAP_LOOKUP_BATCH";
    const count = countOf(step.count, twin);
    const rooms = {
      ...roomFor("keys", step.rooms[0], count * keySize),
      ...roomFor("values", step.rooms[1], count * valueSize),
      ...roomFor("out_batch", step.rooms[2], type === "HASH" ? HASH_POSITION_BYTES : keySize),
    };
    const position = this.#from(step, twin);
    const before = twin?.type === "HASH" ? this.#checkContents(twin, `before ${cmd}`) : undefined;
    const answers = this.#ask(cmd, fds, (fd, side) => ({
      map_fd: fd,
      count,
      in_batch: position[side],
      flags: String(step.flags),
      elem_flags: String(step.elemFlags),
      ...rooms,
    }));
    if (twin !== null) this.#remember(twin, answers);
    const refused = answers.some(({ errno }) => !ENDS.includes(errno));
    if (twin === null || before === undefined || count === 0 || step.from === "bad" || refused) {
      this.#equal(cmd, answers, type === "HASH" ? [] : ["out_batch"]);
      return;
    }
    const whole = position[0] === null && count >= before.size;
    if (whole && answers[0].errno !== "EFAULT")
      this.#equal(cmd, [sorted(answers[0]), sorted(answers[1])], ["out_batch"], answers);
    else if (whole && answers[1].errno !== "EFAULT") this.#differ(cmd, answers);
    else
      for (const answer of answers) this.#checkPart(cmd, answers, answer, before, count, Object.keys(rooms).length > 0);
    const room = Math.min(elementsRoom(rooms.keys, keySize), elementsRoom(rooms.values, valueSize));
    if (step.do === "take batch")
      this.#checkTaken(cmd, twin, answers, before, Math.min(count, before.size), whole ? room : -1);
  }

  /** A batch that is smaller than the map: some of its elements, each once. */
  #checkPart(
    cmd: string,
    answers: Pair<Answer>,
    answer: Answer,
    before: Contents,
    count: number,
    short: boolean,
  ): void {
    const elements = elementsOf(answer);
    const known = [...elements].every(([key, value]) => before.get(key) === value);
    const said = answer.attr.count as number;
    const counted = answer.errno === "ENOSPC" || answer.errno === "EFAULT" ? said === 0 : said === elements.size;
    const ended = ENDS.includes(answer.errno) && (answer.errno !== "EFAULT" || short);
    if (!known || !counted || !ended || said > count) this.#differ(cmd, answers);
  }

  /**
   * What was taken out is gone, and nothing else. An answer that was lost took at most `most`, and of a whole map buckets
   * up to the one that there was no room for. Then both lose what one of them lost.
   */
  #checkTaken(cmd: string, twin: Twin, answers: Pair<Answer>, before: Contents, most: number, room: number): void {
    const after = this.#both((_, side) => this.#contents(twin, side));
    if (after[0] === null || after[1] === null) return;
    for (const [side, answer] of answers.entries()) {
      const left = after[side] as Contents;
      const gone = [...before.keys()].filter((key) => !left.has(key));
      const taken = [...elementsOf(answer).keys()];
      const right =
        answer.errno === "EFAULT"
          ? gone.length > Math.min(room, most - 1) && gone.length <= most
          : isDeepStrictEqual(gone.sort(), taken.sort());
      if (!right) this.#differ(`${cmd}: gone ${gone}, answered ${taken}`, answers);
    }
    for (const side of [0, 1] as const) {
      const other = after[1 - side] as Contents;
      const extra = [...(after[side] as Contents).keys()].filter((key) => !other.has(key));
      this.#through(twin, side, (fd) => {
        for (const key of extra) this.#subjects[side].bpf({ cmd: "BPF_MAP_DELETE_ELEM", attr: { map_fd: fd, key } });
      });
    }
  }

  #from(step: Extract<Step, { do: "read batch" | "take batch" }>, twin: Twin | null): Pair<string | null> {
    switch (step.from) {
      case "start":
        return [null, null];
      case "last":
        return twin?.positions ?? [null, null];
      case "key": {
        const key = keyOf(step.at, twin);
        const position = sizes(twin).type === "HASH" ? u32Hex(step.at.number) : key;
        return [position, position];
      }
      case "bad":
        return ["", ""];
    }
  }

  #remember(twin: Twin, answers: Pair<Answer>): void {
    const [service, kernel] = answers.map(({ attr }) => attr.out_batch);
    const width = (twin.type === "HASH" ? HASH_POSITION_BYTES : twin.keySize) * 2;
    const usable = answers.every(
      ({ errno, attr }) => (errno === null || errno === "ENOENT") && (attr.count as number) > 0,
    );
    if (usable && service !== undefined && kernel !== undefined && kernel.length >= width)
      twin.positions = [service, kernel.slice(0, width)];
  }

  #updateBatch({ map, elements, more, flags, elemFlags }: Extract<Step, { do: "update batch" }>): void {
    const { fds, twin } = this.#at(map);
    const whole = elements.map(({ key, value }) => ({
      key: { ...key, pointer: "ok" as const },
      value: { ...value, pointer: "ok" as const },
    }));
    const attr = {
      keys: whole.map(({ key }) => keyOf(key, twin)).join(""),
      values: whole.map(({ value }) => valueBytes(value, twin)).join(""),
      count: Math.max(elements.length + more, 0),
      flags: String(flags),
      elem_flags: String(elemFlags),
    };
    this.#same("BPF_MAP_UPDATE_BATCH", fds, (fd) => ({ map_fd: fd, ...attr }));
  }

  #deleteBatch({ map, keys, more, flags, elemFlags }: Extract<Step, { do: "delete batch" }>): void {
    const { fds, twin } = this.#at(map);
    const attr = {
      keys: keys.map((key) => keyOf({ ...key, pointer: "ok" }, twin)).join(""),
      count: Math.max(keys.length + more, 0),
      flags: String(flags),
      elem_flags: String(elemFlags),
    };
    this.#same("BPF_MAP_DELETE_BATCH", fds, (fd) => ({ map_fd: fd, ...attr }));
  }

  #info({ map, length, buffer, hash }: Extract<Step, { do: "info" }>): void {
    const { fds } = this.#at(map);
    const info = Buffer.alloc({ fits: length, none: 0, short: Math.max(length - 1, 0), long: length + 8 }[buffer]);
    if (hash === JUNK) info.fill(JUNK);
    else if (hash !== 0 && info.length >= MAP_INFO_BYTES) {
      info.writeBigUInt64LE(1n, MAP_INFO.hash);
      info.writeUInt32LE(hash, MAP_INFO.hash_size);
    }
    const attr = buffer === "fits" && hash === 0 ? {} : { info: info.toString("hex") };
    const answers = this.#ask("BPF_OBJ_GET_INFO_BY_FD", fds, (fd) => ({ bpf_fd: fd, info_len: length, ...attr }));
    this.#equal("BPF_OBJ_GET_INFO_BY_FD", [this.#anonymous(answers[0], 0), this.#anonymous(answers[1], 1)]);
  }

  /** An info without its id, and without the address of its hash. */
  #anonymous(answer: Answer, side: 0 | 1): Answer {
    if (answer.errno !== null) return answer;
    const info = Buffer.from(answer.attr.info as string, "hex");
    const idBytes = info.subarray(MAP_INFO.id, MAP_INFO.id + 4);
    const twin = idBytes.length < 4 ? 0 : this.#twins.findIndex(({ ids }) => ids[side] === idBytes.readUInt32LE());
    idBytes.fill(twin);
    info.subarray(MAP_INFO.hash, MAP_INFO.hash + 8).fill(0);
    return { ...answer, attr: { ...answer.attr, info: info.toString("hex") } };
  }

  #nextId(object: number, add: number): void {
    const ids = idsOf(this.#twin(object));
    const answers = this.#both((subject, side) => {
      let start = ids[side] + add;
      for (;;) {
        const answer = subject.bpf({ cmd: "BPF_MAP_GET_NEXT_ID", attr: { start_id: start } });
        if (answer.errno !== null) return answer;
        start = answer.attr.next_id as number;
        const found = this.#twins.findIndex((twin) => twin.ids[side] === start);
        if (found !== -1) return { ...answer, attr: { next_id: found } };
      }
    });
    this.#equal("BPF_MAP_GET_NEXT_ID", answers);
  }

  #close(map: number): void {
    const descriptor = this.#at(map);
    if (descriptor === this.#pipe) return;
    const at = this.#open.indexOf(descriptor);
    if (at !== -1) this.#open.splice(at, 1);
    this.#equal(
      "close",
      this.#both((subject, side) => subject.close(descriptor.fds[side])),
    );
  }

  // What both have.

  #at(map: number): Descriptor {
    if (map === -2) return this.#pipe;
    return (map < 0 ? undefined : this.#open[map % Math.max(this.#open.length, 1)]) ?? NOT_OPEN;
  }

  #twin(object: number): Twin | undefined {
    return this.#twins[object % Math.max(this.#twins.length, 1)];
  }

  #paths(path: string | null): Pair<string | null> {
    if (path === null || path === "") return [path, path];
    return [`${this.#subjects[0].directory}/${path}`, `${this.#subjects[1].directory}/${path}`];
  }

  /** Descriptors that were opened, or refused alike; `twin` null: of a map to be asked for. */
  #opened(cmd: string, answers: Pair<Answer>, twin: Twin | null): void {
    this.#equal(cmd, answers.map(({ errno }) => ({ ret: 0, errno, attr: {} })) as unknown as Pair<Answer>, [], answers);
    if (answers[0].errno !== null) return;
    const fds: Pair<number> = [answers[0].ret, answers[1].ret];
    this.#open.push({ fds, twin: twin ?? (cmd === "dup" ? null : this.#learn(fds)) });
  }

  #learn(fds: Pair<number>): Twin {
    const infos = this.#both((subject, side) => {
      const answer = subject.bpf({
        cmd: "BPF_OBJ_GET_INFO_BY_FD",
        attr: { bpf_fd: fds[side], info_len: MAP_INFO_BYTES },
      });
      return Buffer.from(answer.attr.info as string, "hex");
    });
    const ids: Pair<number> = [infos[0].readUInt32LE(MAP_INFO.id), infos[1].readUInt32LE(MAP_INFO.id)];
    const known = this.#twins.find((twin) => twin.ids[0] === ids[0]);
    if (known !== undefined) {
      if (known.ids[1] !== ids[1]) throw new Error("the descriptors are of different maps");
      return known;
    }
    const type = infos[0].readUInt32LE(MAP_INFO.type);
    const twin: Twin = {
      type: TYPE_NAMES.get(type) as StreamType,
      keySize: infos[0].readUInt32LE(MAP_INFO.key_size),
      valueSize: infos[0].readUInt32LE(MAP_INFO.value_size),
      maxEntries: infos[0].readUInt32LE(MAP_INFO.max_entries),
      ids,
      positions: null,
    };
    this.#twins.push(twin);
    return twin;
  }

  /** Both have the same elements; a trie and an array in the same order. Undefined: the map is gone from both. */
  #checkContents(twin: Twin, when: string): Contents | undefined {
    const [service, kernel] = this.#both((_, side) => this.#contents(twin, side));
    if (service === null && kernel === null) return undefined;
    const order = (contents: Contents | null): unknown => {
      const all = contents === null ? null : [...contents];
      return twin.type === "HASH" ? all?.sort(byKey) : all;
    };
    if (!isDeepStrictEqual(order(service), order(kernel)))
      throw new Error(
        `contents of map ${this.#twins.indexOf(twin)} ${when}: service ${shown(order(service))}, kernel ${shown(order(kernel))}`,
      );
    return kernel ?? undefined;
  }

  /** Every element by GET_NEXT_KEY, each once; null: the map is gone. */
  #contents(twin: Twin, side: 0 | 1): Contents | null {
    let contents: Map<string, string> | null = null;
    this.#through(twin, side, (map_fd) => {
      const found = new Map<string, string>();
      contents = found;
      let key: string | null = null;
      for (;;) {
        const next = this.#subjects[side].bpf({ cmd: "BPF_MAP_GET_NEXT_KEY", attr: { map_fd, key } });
        if (next.errno === "ENOENT") return;
        key = next.attr.next_key as string;
        if (next.errno !== null || found.has(key))
          throw new Error(`walking map ${twin.ids[side]} of ${SIDES[side]}: ${next.errno ?? `${key} comes twice`}`);
        const value = this.#subjects[side].bpf({ cmd: "BPF_MAP_LOOKUP_ELEM", attr: { map_fd, key } });
        found.set(key, value.attr.value ?? String(value.errno));
      }
    });
    return contents;
  }

  /** Through a descriptor of one's own that may do everything, as long as there is the map. */
  #through(twin: Twin, side: 0 | 1, use: (fd: number) => void): void {
    const { ret, errno } = this.#subjects[side].bpf({ cmd: "BPF_MAP_GET_FD_BY_ID", attr: { map_id: twin.ids[side] } });
    if (errno !== null) return;
    use(ret);
    this.#subjects[side].close(ret);
  }

  // Asking and comparing.

  #both<T>(ask: (subject: Subject, side: 0 | 1) => T): Pair<T> {
    return [ask(this.#subjects[0], 0), ask(this.#subjects[1], 1)];
  }

  #ask<T>(cmd: string, of: Pair<T>, attr: (one: T, side: 0 | 1) => Attr): Pair<Answer> {
    return this.#both((subject, side) => subject.bpf({ cmd, attr: attr(of[side], side) }));
  }

  #same(cmd: string, fds: Pair<number>, attr: (fd: number, side: 0 | 1) => Attr): void {
    this.#equal(cmd, this.#ask(cmd, fds, attr));
  }

  /** The outputs named in `prefixes` are longer in the kernel's buffer, and not there where it wrote nothing. */
  #equal(cmd: string, answers: Pair<Answer>, prefixes: readonly string[] = [], shownAnswers = answers): void {
    this.commands++;
    const [service, kernel] = answers.map(({ errno, attr }) => ({ errno, ...attr }) as Record<string, unknown>) as [
      Attr,
      Attr,
    ];
    for (const field of ["out_batch"]) {
      const ours = service[field] as string | undefined;
      if (!prefixes.includes(field) || ours === undefined) {
        delete service[field];
        delete kernel[field];
      } else kernel[field] = (kernel[field] as string | undefined)?.slice(0, ours.length);
    }
    // A batch that ended in an error hands out nothing.
    for (const field of ["keys", "values"]) for (const side of [service, kernel]) side[field] ??= "";
    if (!isDeepStrictEqual(plain(service), plain(kernel))) this.#differ(cmd, shownAnswers);
  }

  #differ(cmd: string, [service, kernel]: Pair<Answer>): never {
    throw new Error(`${cmd}\n  service ${shown(service)}\n  kernel  ${shown(kernel)}`);
  }
}

const SIDES = ["the service", "the kernel"] as const;
const TYPE_NAMES: ReadonlyMap<number, string> = new Map(
  ["HASH", "ARRAY", "LPM_TRIE"].map((name) => [BPF_MAP_TYPE[`BPF_MAP_TYPE_${name}` as MapTypeName], name]),
);
