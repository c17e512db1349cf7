import { BTF_KIND } from "../src/maps/btf_types.ts";
import { random } from "../test/support/seed.ts";

/** Random BTF: blobs of all kinds that the kernel takes, and blobs that are like them but for a field or two. */

type Below = (below: number) => number;

/** struct btf_type and what stands behind it. `refs`: which words of it are ids of types. */
interface Type {
  kind: number;
  name: number;
  vlen: number;
  kindFlag: boolean;
  sizeOrType: number;
  readonly rest: number[];
  readonly refs: number[];
  /** Whether sizeOrType is an id. */
  readonly isReference: boolean;
}

/** A type that others may be made of. */
interface Part {
  readonly id: number;
  readonly size: number;
  readonly align: number;
  /** Of a regular int or an enum: of how many bits a field of it may be. */
  readonly bits: number;
}

const FIELDS: Readonly<Record<string, number>> = {
  bpf_spin_lock: 4,
  bpf_res_spin_lock: 4,
  bpf_timer: 16,
  bpf_wq: 16,
  bpf_task_work: 8,
  bpf_refcount: 4,
  bpf_list_head: 16,
  bpf_list_node: 24,
  bpf_rb_root: 16,
  bpf_rb_node: 32,
};
const FIELD_NAMES = Object.keys(FIELDS);
const TAGS = ["kptr", "kptr", "kptr_untrusted", "percpu_kptr", "uptr", "user"];
/** Structs of the kernel's own. */
const KERNELS = ["task_struct", "cgroup", "bpf_cpumask", "file", "sk_buff", "bpf_spin_lock"];
const WORDS = ["a", "_", ".x", "n0", "list", "Node_7", "\u00e9t\u00e9", "x".repeat(511), "y".repeat(512)];
const TEXTS = [".data", ".rodata.str1.1", "a b", "\u00a0", "z".repeat(512)];
const INTERESTING = [0, 1, 2, 3, 4, 7, 8, 16, 31, 32, 64, 255, 512, 0xffff, 0xfffff, 0x100000, 0xffffff];
const HUGE = [0x01000000, 0x04000000, 0x40000000, 0x7fffffff, 0x80000000, 0xfffffff8, 0xffffffff];

const K = BTF_KIND;

export class BtfGenerator {
  readonly #below: Below;
  #types: Type[] = [];
  #parts: Part[] = [];
  #strings = "\0";
  /** Types that a modifier or pointer may be of, parts beside; types of functions; variables. */
  #targets: number[] = [];
  #prototypes: { readonly id: number; readonly params: number }[] = [];
  #variables: { readonly id: number; readonly size: number }[] = [];
  /** What tags may be for, and of how many components. */
  #tagged: { readonly id: number; readonly components: number }[] = [];
  #structs: { readonly id: number; readonly name: string; readonly nodes: readonly string[] }[] = [];
  /** By name, structs of special names, once they are there. */
  #special = new Map<string, Part>();

  constructor(seed: number) {
    this.#below = random(seed);
  }

  /** A blob that is meant to be sound. */
  sound(): Buffer {
    this.#build();
    return this.#bytes();
  }

  /** One that is sound but for something. */
  malformed(): Buffer {
    this.#build();
    for (let left = 1 + this.#below(2); left > 0; left--) if (this.#below(5) > 0) this.#spoilType();
    const bytes = this.#bytes();
    return this.#below(4) === 0 ? this.#spoilBytes(bytes) : bytes;
  }

  #one<T>(of: readonly T[]): T {
    return of[this.#below(of.length)] as T;
  }

  #chance(of: number): boolean {
    return this.#below(of) === 0;
  }

  #name(text: string): number {
    const known = this.#strings.indexOf(`${text}\0`);
    // Names may share their ends.
    if (known > 0 && this.#chance(2)) return known;
    this.#strings += `${text}\0`;
    return this.#strings.length - text.length - 1;
  }

  #word(): number {
    return this.#name(this.#chance(30) ? this.#one(WORDS) : `n${this.#below(20)}`);
  }

  #maybeWord(): number {
    return this.#chance(3) ? 0 : this.#word();
  }

  #add(kind: number, fields: Partial<Type> & { readonly sizeOrType: number }): number {
    const isReference = REFERENCES.has(kind);
    this.#types.push({ kind, name: 0, vlen: 0, kindFlag: false, rest: [], refs: [], isReference, ...fields });
    return this.#types.length;
  }

  #part(id: number, size: number, align: number, bits = 0): Part {
    const part = { id, size, align, bits };
    this.#parts.push(part);
    return part;
  }

  #build(): void {
    this.#types = [];
    this.#parts = [];
    this.#strings = "\0";
    this.#targets = [0];
    this.#prototypes = [];
    this.#variables = [];
    this.#tagged = [];
    this.#structs = [];
    this.#special = new Map();
    this.#int(4, 32);
    const hasObjects = this.#chance(3);
    for (let left = this.#below(24); left > 0; left--) this.#any(hasObjects);
    if (this.#chance(15)) this.#deep(hasObjects);
    if (this.#chance(2)) this.#shuffle();
  }

  #any(hasObjects: boolean): void {
    if (hasObjects && this.#chance(2)) {
      this.#object();
      return;
    }
    const makers = [
      () => this.#anyInt(),
      () => this.#modifier(),
      () => this.#modifier(),
      () => this.#pointer(),
      () => this.#array(),
      () => this.#struct(),
      () => this.#struct(),
      () => this.#union(),
      () => this.#enum(),
      () => this.#forward(),
      () => this.#prototype(),
      () => this.#func(),
      () => this.#variable(),
      () => this.#section(),
      () => this.#float(),
      () => this.#tag(),
    ];
    this.#one(makers)();
  }

  #int(size: number, bits: number, encoding = 0, offset = 0): void {
    const word = ((encoding << 24) | (offset << 16) | bits) >>> 0;
    const id = this.#add(K.INT, { name: this.#maybeWord(), sizeOrType: size, rest: [word] });
    if (offset === 0 && bits === size * 8) this.#part(id, size, Math.min(size, 8), bits);
  }

  #anyInt(): void {
    const encoding = this.#one([0, 1, 2, 4]);
    const size = this.#one([1, 2, 4, 8, 16]);
    if (this.#chance(4)) {
      const bits = this.#below(size * 8 + 1);
      this.#int(size + this.#below(2), bits, encoding, this.#below(size * 8 - bits + 1));
    } else this.#int(size, size * 8, encoding);
  }

  /** Tags come first in a chain: one is put on what has no other modifier above it. */
  #modifier(): void {
    const kind = this.#one([K.TYPEDEF, K.CONST, K.VOLATILE, K.RESTRICT, K.TYPE_TAG]);
    const part = this.#one(this.#parts);
    const target = this.#chance(4) ? this.#one(this.#targets) : part.id;
    const below = this.#types[target - 1];
    if (kind !== K.TYPE_TAG && below?.kind === K.TYPE_TAG) return;
    const name = kind === K.TYPEDEF ? this.#word() : kind === K.TYPE_TAG ? this.#name(this.#one(TAGS)) : 0;
    const id = this.#add(kind, { name, kindFlag: kind === K.TYPE_TAG && this.#chance(3), sizeOrType: target });
    if (target === part.id) this.#part(id, part.size, part.align, part.bits);
    else this.#targets.push(id);
    if (kind === K.TYPEDEF) this.#tagged.push({ id, components: 0 });
  }

  #pointer(): void {
    const target = this.#chance(3) ? this.#one(this.#targets) : this.#one(this.#parts).id;
    this.#part(this.#add(K.PTR, { sizeOrType: target }), 8, 8);
  }

  #array(count = this.#one([0, 1, 1, 2, 3, 12])): void {
    const part = this.#one(this.#parts);
    const index = this.#parts[0] as Part;
    const rest = [part.id, index.id, count];
    const id = this.#add(K.ARRAY, { sizeOrType: 0, rest, refs: [0, 1] });
    this.#part(id, part.size * count, part.align);
  }

  #struct(name = this.#maybeWord(), among: readonly Part[] = this.#parts, count = this.#below(5)): Part {
    const kindFlag = this.#chance(3);
    const rest: number[] = [];
    const refs: number[] = [];
    const taken = new Set<string>();
    let [bits, last, end, align] = [0, 0, 0, 1];
    const nodes: string[] = [];
    for (let at = 0; at < count; at++) {
      const part = this.#one(among);
      const unique = [...this.#special].find(([, { id }]) => id === part.id)?.[0];
      if (unique !== undefined && !unique.includes("_node") && taken.has(unique)) continue;
      if (unique !== undefined) taken.add(unique);
      const isField = kindFlag && part.bits > 0 && this.#chance(2);
      // Nothing says that members do not lie on each other.
      if (at > 0 && this.#chance(20)) bits = last;
      if (!isField) bits = roundUp(bits, 8 * part.align);
      last = bits;
      const width = isField ? this.#below(Math.min(part.bits, 32)) + 1 : 0;
      const label = unique === undefined ? this.#maybeWord() : this.#name(`m${at}`);
      if (unique?.includes("_node")) nodes.push(`m${at}`);
      refs.push(rest.length + 1);
      rest.push(label, part.id, ((width << 24) | bits) >>> 0);
      bits += isField ? width : part.size * 8;
      end = Math.max(end, bits);
      align = Math.max(align, part.align);
    }
    const size = roundUp(end / 8, align) + (this.#chance(6) ? this.#below(9) : 0);
    const vlen = rest.length / 3;
    const id = this.#add(K.STRUCT, { name, vlen, kindFlag, sizeOrType: size, rest, refs });
    this.#tagged.push({ id, components: vlen });
    this.#structs.push({ id, name: this.#text(name), nodes });
    return this.#part(id, size, align);
  }

  #union(): void {
    const kindFlag = this.#chance(3);
    const [rest, refs]: [number[], number[]] = [[], []];
    let [size, align] = [0, 1];
    for (let left = this.#below(4); left > 0; left--) {
      const part = this.#one(this.#parts);
      const width = kindFlag && part.bits > 0 && this.#chance(2) ? this.#below(Math.min(part.bits, 32)) + 1 : 0;
      refs.push(rest.length + 1);
      rest.push(this.#maybeWord(), part.id, (width << 24) >>> 0);
      size = Math.max(size, part.size);
      align = Math.max(align, part.align);
    }
    const vlen = rest.length / 3;
    const fields = { name: this.#maybeWord(), vlen, kindFlag, sizeOrType: roundUp(size, align), rest, refs };
    const id = this.#add(K.UNION, fields);
    this.#tagged.push({ id, components: vlen });
    this.#part(id, roundUp(size, align), align);
  }

  #enum(): void {
    const kind = this.#one([K.ENUM, K.ENUM64]);
    const size = this.#one([1, 2, 4, 4, 8]);
    const vlen = this.#below(4);
    const rest = Array.from({ length: vlen }, () => [this.#word(), this.#below(9), ...(kind === K.ENUM ? [] : [0])]);
    const fields = { name: this.#maybeWord(), vlen, kindFlag: this.#chance(2), sizeOrType: size, rest: rest.flat() };
    // A field of an enum is as large as an int's, whatever the enum's size is.
    this.#part(this.#add(kind, fields), Math.max(size, 4), Math.max(size, 4), 32);
  }

  #forward(): void {
    this.#targets.push(this.#add(K.FWD, { name: this.#word(), kindFlag: this.#chance(2), sizeOrType: 0 }));
  }

  #prototype(): void {
    const named = this.#chance(3) ? () => this.#maybeWord() : () => this.#word();
    const params = this.#below(4);
    const rest = Array.from({ length: params }, () => [named(), this.#one(this.#parts).id]).flat();
    if (this.#chance(4)) rest.push(0, 0);
    const returned = this.#chance(3) ? 0 : this.#one(this.#parts).id;
    const refs = rest.map((_, at) => at).filter((at) => at % 2 === 1);
    const id = this.#add(K.FUNC_PROTO, { vlen: rest.length / 2, sizeOrType: returned, rest, refs });
    this.#targets.push(id);
    if (rest.every((word, at) => at % 2 === 1 || word !== 0 || rest[at + 1] === 0))
      this.#prototypes.push({ id, params: rest.length / 2 });
  }

  #func(): void {
    const prototype = this.#prototypes.at(-1);
    if (prototype === undefined) {
      this.#prototype();
      return;
    }
    const id = this.#add(K.FUNC, { name: this.#word(), vlen: this.#below(2), sizeOrType: prototype.id });
    this.#tagged.push({ id, components: prototype.params });
    if (this.#chance(8)) this.#targets.push(id);
  }

  #variable(): void {
    const part = this.#one(this.#parts);
    const id = this.#add(K.VAR, { name: this.#word(), sizeOrType: part.id, rest: [this.#below(2)] });
    this.#variables.push({ id, size: part.size });
    this.#tagged.push({ id, components: 0 });
  }

  #section(): void {
    const [rest, refs]: [number[], number[]] = [[], []];
    let end = 0;
    for (const { id, size } of this.#variables.splice(0)) {
      const bytes = Math.max(size, 1) + (this.#chance(8) ? 4 : 0);
      end += this.#below(3) * 4;
      refs.push(rest.length);
      rest.push(id, end, bytes);
      end += bytes;
    }
    const name = this.#chance(4) ? this.#name(this.#one(TEXTS)) : this.#name(".bss");
    const sizeOrType = end + 1 + this.#below(4) - (end > 0 ? 1 : 0);
    this.#add(K.DATASEC, { name, vlen: rest.length / 3, sizeOrType, rest, refs });
  }

  #float(): void {
    const size = this.#one([2, 4, 8, 12, 16]);
    this.#part(
      this.#add(K.FLOAT, { name: this.#maybeWord(), sizeOrType: size }),
      size,
      size === 12 ? 8 : Math.min(size, 8),
    );
  }

  #tag(text = this.#one(["t", "contains:n1:m0", "user tag", "\x01"])): void {
    if (this.#tagged.length === 0) return;
    const { id, components } = this.#one(this.#tagged);
    this.#tagOf(id, components === 0 || this.#chance(3) ? -1 : this.#below(components), text);
  }

  #tagOf(id: number, component: number, text: string): void {
    const fields = { name: this.#name(text), kindFlag: this.#chance(6), sizeOrType: id, rest: [component >>> 0] };
    this.#add(K.DECL_TAG, fields);
  }

  /** What programs may allocate, or something for it. */
  #object(): void {
    const makers = [
      () => this.#field(this.#one(FIELD_NAMES)),
      () => this.#field(this.#one(["bpf_spin_lock", "bpf_list_node", "bpf_rb_node", "bpf_refcount"])),
      () => this.#kernelPointer(),
      () => this.#holder(),
      () => this.#owner(),
    ];
    this.#one(makers)();
  }

  #field(name: string): Part {
    const known = this.#special.get(name);
    if (known !== undefined) return known;
    const size = (FIELDS[name] as number) + (this.#chance(25) ? 8 : 0);
    const align = size % 8 === 0 ? 8 : 4;
    const id = this.#add(K.STRUCT, { name: this.#name(name), sizeOrType: size });
    const part = { id, size, align, bits: 0 };
    this.#special.set(name, part);
    if (this.#chance(2)) this.#parts.push(part);
    return part;
  }

  #kernelPointer(): void {
    const struct = this.#structs.length === 0 ? this.#struct().id : this.#one(this.#structs).id;
    let of = struct;
    if (this.#chance(6)) of = this.#struct(this.#name(this.#one(KERNELS))).id;
    if (this.#chance(5)) of = this.#add(K.CONST, { sizeOrType: of });
    if (this.#chance(9)) of = this.#one(this.#parts).id;
    of = this.#add(K.TYPE_TAG, { name: this.#name(this.#one(TAGS)), kindFlag: this.#chance(8), sizeOrType: of });
    of = this.#add(K.PTR, { sizeOrType: of });
    if (this.#chance(4)) of = this.#add(K.VOLATILE, { sizeOrType: of });
    this.#part(of, 8, 8);
    if (this.#chance(3)) this.#array(this.#one([1, 2, 3, 11, 12]));
    if (this.#chance(3)) this.#struct(this.#word(), this.#parts.slice(-2), 1 + this.#below(12));
  }

  /** A struct with a special field or two, which may be in a list. */
  #holder(): void {
    const among = FIELD_NAMES.filter((name) => !name.includes("_head") && !name.includes("_root"));
    const parts = [this.#field(this.#one(among)), this.#field(this.#one(among)), this.#one(this.#parts)];
    if (this.#chance(2)) parts.push(this.#field("bpf_refcount"));
    const holder = this.#struct(this.#word(), parts, 1 + this.#below(4));
    if (this.#chance(3)) this.#struct(this.#word(), [holder, ...parts], 1 + this.#below(4));
  }

  /** A lock, and a list or a tree of a struct that there is, or may be. */
  #owner(): void {
    const [root, node] = this.#one([
      ["bpf_list_head", "bpf_list_node"],
      ["bpf_rb_root", "bpf_rb_node"],
    ] as const);
    const holders = this.#structs.filter(({ nodes }) => nodes.length > 0);
    if (holders.length === 0 || this.#chance(6)) {
      this.#struct(this.#word(), [this.#field(node)], 1);
      return;
    }
    const holder = this.#one(holders);
    const lock = this.#field(this.#chance(4) ? "bpf_res_spin_lock" : "bpf_spin_lock");
    const isNode = this.#chance(4);
    let type = this.#field(root);
    let count = 1;
    if (this.#chance(5)) {
      count = this.#below(4);
      const rest = [type.id, (this.#parts[0] as Part).id, count];
      type = { ...type, id: this.#add(K.ARRAY, { sizeOrType: 0, rest, refs: [0, 1] }), size: type.size * count };
    }
    const members: readonly Part[] = [...(this.#chance(9) ? [] : [lock]), type, ...(isNode ? [this.#field(node)] : [])];
    const [rest, refs]: [number[], number[]] = [[], []];
    let end = 0;
    members.forEach((part, at) => {
      end = roundUp(end, part.align);
      refs.push(rest.length + 1);
      rest.push(this.#name(`m${at}`), part.id, end * 8);
      end += part.size;
    });
    const name = this.#word();
    const size = roundUp(end, 8);
    const id = this.#add(K.STRUCT, { name, vlen: members.length, sizeOrType: size, rest, refs });
    const nodes = isNode ? [`m${members.length - 1}`] : [];
    this.#structs.push({ id, name: this.#text(name), nodes });
    this.#part(id, size, 8);
    const contained = this.#chance(8) ? this.#text(name) : holder.name;
    const member = this.#chance(20) ? this.#one(["", "m9", "(anon)"]) : this.#one(holder.nodes);
    const text = this.#chance(25)
      ? this.#one(["contains:", "contains::", "contains::m0", "contains:n1"])
      : `contains:${contained}:${member}`;
    if (!this.#chance(20)) this.#tagOf(id, members.indexOf(type), text);
    if (this.#chance(25)) this.#tagOf(id, members.indexOf(type), text);
  }

  /** Types that are each of the one before, as many as may be, or a few more; beside a node they are looked into. */
  #deep(isObject: boolean): void {
    const kind = this.#one(isObject ? [K.STRUCT, K.ARRAY] : [K.STRUCT, K.TYPEDEF, K.CONST, K.PTR, K.ARRAY, K.TYPE_TAG]);
    const int = this.#parts[0] as Part;
    let part = isObject ? this.#struct(this.#word(), [this.#field(this.#one(FIELD_NAMES))], 1) : int;
    for (let left = 28 + this.#below(8); left > 0; left--) {
      const rest = kind === K.ARRAY ? [part.id, int.id, 1] : kind === K.STRUCT ? [0, part.id, 0] : [];
      const refs = kind === K.ARRAY ? [0, 1] : kind === K.STRUCT ? [1] : [];
      const name = kind === K.TYPEDEF ? this.#word() : kind === K.TYPE_TAG ? this.#name("t") : 0;
      const sizeOrType = kind === K.ARRAY ? 0 : kind === K.STRUCT ? part.size : part.id;
      const id = this.#add(kind, { name, vlen: kind === K.STRUCT ? 1 : 0, sizeOrType, rest, refs });
      part = this.#part(id, kind === K.PTR ? 8 : part.size, kind === K.PTR ? 8 : part.align);
    }
    if (isObject) this.#struct(this.#word(), [part, this.#field("bpf_list_node")], 2);
  }

  /** The same types in another order. */
  #shuffle(): void {
    const order = this.#types.map((_, at) => at);
    for (let at = order.length - 1; at > 0; at--) {
      const other = this.#below(at + 1);
      [order[at], order[other]] = [order[other] as number, order[at] as number];
    }
    const ids = new Map([[0, 0]]);
    order.forEach((was, at) => {
      ids.set(was + 1, at + 1);
    });
    const renamed = (id: number): number => ids.get(id) ?? id;
    for (const type of this.#types) {
      if (type.isReference) type.sizeOrType = renamed(type.sizeOrType);
      for (const at of type.refs) type.rest[at] = renamed(type.rest[at] as number);
    }
    this.#types = order.map((was) => this.#types[was] as Type);
  }

  /** One field of a type is other than it was. */
  #spoilType(): void {
    const type = this.#one(this.#types);
    const near = (word: number): number =>
      this.#one([
        () => word + 1,
        () => word - 1,
        () => word ^ (1 << this.#below(32)),
        () => this.#one(INTERESTING),
        () => this.#one(HUGE),
        () => this.#below(this.#types.length + 3),
        () => this.#types.indexOf(type) + 1,
        () => word * 2,
      ])() >>> 0;
    const spoilers = [
      () => {
        type.name = this.#chance(2)
          ? near(type.name)
          : this.#one([0, this.#name("0digit"), this.#name("a-b"), this.#name("w".repeat(513))]);
      },
      () => {
        type.kind = this.#below(22);
      },
      () => {
        type.vlen = near(type.vlen) & 0xffff;
      },
      () => {
        type.kindFlag = !type.kindFlag;
      },
      () => {
        type.sizeOrType = near(type.sizeOrType);
      },
      () => {
        type.sizeOrType = near(type.sizeOrType);
      },
      () => {
        type.vlen |= 1 << this.#one([16, 20, 23]);
      },
      () => {
        const at = this.#below(type.rest.length + 1);
        if (at < type.rest.length) type.rest[at] = near(type.rest[at] as number);
      },
      () => {
        const at = this.#below(type.rest.length + 1);
        if (at < type.rest.length) type.rest[at] = near(type.rest[at] as number);
      },
      () => {
        const at = this.#below(type.rest.length + 1);
        if (at < type.rest.length) type.rest[at] = near(type.rest[at] as number);
      },
      () => type.rest.pop(),
      () => type.rest.push(this.#below(5)),
      () => this.#types.splice(this.#below(this.#types.length), 1),
      () => this.#types.reverse(),
      () => {
        this.#strings = this.#strings.replace(
          this.#one(["m0", "n", "contains", "bpf_"]),
          this.#one(["", "m1", "\x02", "x"]),
        );
      },
    ];
    this.#one(spoilers)();
    if (this.#types.length === 0) this.#int(4, 32);
  }

  /** Something of the header, or of the bytes, is. */
  #spoilBytes(bytes: Buffer): Buffer {
    const [at, length] = [this.#below(bytes.length), bytes.length];
    const spoilers = [
      () => flipped(bytes, at, this.#below(8)),
      () => flipped(bytes, this.#below(24), this.#below(8)),
      () => flipped(bytes, length - 1 - this.#below(Math.min(length, 40)), this.#below(8)),
      () => bytes.subarray(0, at),
      () => Buffer.concat([bytes, Buffer.alloc(1 + this.#below(8), this.#below(2))]),
      () => Buffer.concat([bytes.subarray(0, at), Buffer.alloc(4), bytes.subarray(at)]),
      () => {
        const word = 4 * (1 + this.#below(5));
        bytes.writeUInt32LE(this.#one([...INTERESTING, ...HUGE, length, length - 24, length - 23, 20]), word);
        return bytes;
      },
      () => {
        const more = this.#one([-4, -3, -2, -1, 1, 4, 8]);
        return longerHeader(bytes, more, this.#chance(3) ? 1 : 0);
      },
      () => {
        const word = 4 * (2 + this.#below(4));
        bytes.writeUInt32LE((bytes.readUInt32LE(word) + this.#one([-4, -1, 1, 4])) >>> 0, word);
        return bytes;
      },
    ];
    return this.#one(spoilers)();
  }

  #text(name: number): string {
    return this.#strings.slice(name, this.#strings.indexOf("\0", name));
  }

  #bytes(): Buffer {
    const words = this.#types.flatMap(({ kind, name, vlen, kindFlag, sizeOrType, rest }) => [
      name,
      ((kindFlag ? 0x80000000 : 0) | (kind << 24) | vlen) >>> 0,
      sizeOrType,
      ...rest,
    ]);
    const types = Buffer.from(Uint32Array.from(words).buffer);
    const strings = Buffer.from(this.#strings, "latin1");
    const header = Buffer.from("9feb010018000000".padEnd(48, "0"), "hex");
    header.writeUInt32LE(types.length, 12);
    header.writeUInt32LE(types.length, 16);
    header.writeUInt32LE(strings.length, 20);
    return Buffer.concat([header, types, strings]);
  }
}

const REFERENCES: ReadonlySet<number> = new Set([
  ...[K.PTR, K.TYPEDEF, K.VOLATILE, K.CONST, K.RESTRICT, K.FUNC, K.FUNC_PROTO, K.VAR, K.DECL_TAG, K.TYPE_TAG],
]);

function roundUp(number: number, to: number): number {
  return Math.ceil(number / to) * to;
}

function flipped(bytes: Buffer, at: number, bit: number): Buffer {
  bytes[at] = (bytes[at] as number) ^ (1 << bit);
  return bytes;
}

/** A header that takes more bytes, or fewer. */
function longerHeader(bytes: Buffer, more: number, filled: number): Buffer {
  const header = Buffer.concat([bytes.subarray(0, Math.min(24, 24 + more)), Buffer.alloc(Math.max(0, more), filled)]);
  header.writeUInt32LE(24 + more, 4);
  return Buffer.concat([header, bytes.subarray(24)]);
}
