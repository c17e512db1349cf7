/**
 * BTF as JSON, as `bpftool -j btf dump` writes it. It differs where that is not exact: constants are unsigned if their
 * enumeration is, and those beyond 2^53 have their digits, too. The text comes in pieces.
 */

import { BTF_KIND } from "../maps/btf_types.ts";
import type { Btf } from "./btf.ts";
import { part, partCount } from "./c_parts.ts";

const NO_NAME = "(anon)";
/** The name of a kind, <linux/btf.h>. */
const KIND_NAMES: Readonly<Record<number, string>> = Object.fromEntries(
  Object.entries(BTF_KIND).map(([name, kind]) => [kind, name]),
);
const ENCODINGS: Readonly<Record<number, string>> = { 0: "(none)", 1: "SIGNED", 2: "CHAR", 4: "BOOL" };
const LINKAGES = ["static", "global", "extern"];
/** Names are cut here, as in C: the kernel takes none that is longer. Texts of tags may be longer. */
const TEXT_BYTES_MAX = 4096;
/** The members of a type that one piece has. */
const PIECE = 256;

const { ARRAY, CONST, DATASEC, DECL_TAG, ENUM, ENUM64, FLOAT, FUNC, FUNC_PROTO, FWD, INT, PTR, RESTRICT } = BTF_KIND;
const { STRUCT, TYPEDEF, TYPE_TAG, UNION, VAR, VOLATILE } = BTF_KIND;

/** The items of a list of all types from `first` on. */
export function* jsonOf(btf: Btf, first = 1): Generator<string> {
  for (let id = first; id < btf.count; id++) {
    if (id > first) yield ",";
    yield* typeJson(btf, id);
  }
}

/** The same of the types that are reached from some. */
export function* jsonOfReached(btf: Btf, roots: readonly number[]): Generator<string> {
  const reached = yield* reachedFrom(btf, roots);
  let before = "";
  for (let id = 1; id < btf.count; id++) {
    if (reached[id] === 0) {
      if (id % STEPS === 0) yield "";
      continue;
    }
    yield before;
    yield* typeJson(btf, id);
    before = ",";
  }
}

/** About a millisecond's work, after which an empty piece lets others have a turn. */
const STEPS = 8192;

/** By id, 1: a type that the roots name, directly or by others, or a tag of such a type. */
function* reachedFrom(btf: Btf, roots: readonly number[]): Generator<string, Uint8Array> {
  const reached = new Uint8Array(btf.count);
  const tags = new Map<number, number[]>();
  for (let id = 1; id < btf.count; id++) {
    if (btf.kind(id) === DECL_TAG) {
      const known = tags.get(btf.target(id));
      if (known === undefined) tags.set(btf.target(id), [id]);
      else known.push(id);
    }
    if (id % STEPS === 0) yield "";
  }
  const open = [...roots];
  let steps = 0;
  for (let id = open.pop(); id !== undefined; id = open.pop()) {
    if (id === 0 || id >= btf.count || reached[id] === 1) continue;
    reached[id] = 1;
    for (let at = 0; at < partCount(btf, id); at++) open.push(part(btf, id, at));
    if (btf.kind(id) === ARRAY) open.push(btf.array(id).index);
    for (const tag of tags.get(id) ?? []) reached[tag] = 1;
    steps += 1 + partCount(btf, id);
    if (steps < STEPS) continue;
    steps = 0;
    yield "";
  }
  return reached;
}

function* typeJson(btf: Btf, id: number): Generator<string> {
  const kind = btf.kind(id) ?? 0;
  const head = { id, kind: KIND_NAMES[kind], name: text(btf, btf.nameOffset(id)), ...fields(btf, id, kind) };
  const list = LISTS[kind];
  if (list === undefined) {
    yield JSON.stringify(head);
    return;
  }
  const [name, item] = list;
  yield `${JSON.stringify({ ...head, vlen: btf.memberCount(id) }).slice(0, -1)},"${name}":[`;
  for (let from = 0; from < btf.memberCount(id); from += PIECE) {
    const items: string[] = [];
    for (let at = from; at < Math.min(from + PIECE, btf.memberCount(id)); at++)
      items.push(JSON.stringify(item(btf, id, at)));
    yield `${from === 0 ? "" : ","}${items.join()}`;
  }
  yield "]}";
}

type Item = (btf: Btf, id: number, at: number) => object;

const member: Item = (btf, id, at) => {
  const { offsetBits, bits } = btf.member(id, at);
  const said = {
    name: text(btf, btf.memberNameOffset(id, at)),
    type_id: btf.memberType(id, at),
    bits_offset: offsetBits,
  };
  return bits === 0 ? said : { ...said, bitfield_size: bits };
};

const value: Item = (btf, id, at) => {
  const { name, value: number } = btf.enumerator(id, at);
  const said = { name: text(btf, name), val: Number(number) };
  return BigInt(said.val) === number && Number.isSafeInteger(said.val) ? said : { ...said, digits: String(number) };
};

const param: Item = (btf, id, at) => {
  const { name, type } = btf.param(id, at);
  return { name: text(btf, name), type_id: type };
};

const variable: Item = (btf, id, at) => {
  const { type, offset, size } = btf.variable(id, at);
  return { type_id: type, offset, size };
};

const LISTS: Readonly<Record<number, readonly [name: string, item: Item]>> = {
  [STRUCT]: ["members", member],
  [UNION]: ["members", member],
  [ENUM]: ["values", value],
  [ENUM64]: ["values", value],
  [FUNC_PROTO]: ["params", param],
  [DATASEC]: ["vars", variable],
};

/** The fields between a type's name and its list. */
function fields(btf: Btf, id: number, kind: number): object {
  const of = btf.target(id);
  switch (kind) {
    case INT: {
      const { offset, bits } = btf.int(id);
      const encoding = ENCODINGS[btf.int(id).encoding] ?? "(unknown)";
      return { size: of, bits_offset: offset, nr_bits: bits, encoding };
    }
    case PTR:
    case CONST:
    case VOLATILE:
    case RESTRICT:
    case TYPEDEF:
    case TYPE_TAG:
      return { type_id: of };
    case ARRAY: {
      const { element, index, count } = btf.array(id);
      return { type_id: element, index_type_id: index, nr_elems: count };
    }
    case ENUM:
    case ENUM64:
      return { encoding: btf.kindFlag(id) ? "SIGNED" : "UNSIGNED", size: of };
    case STRUCT:
    case UNION:
    case DATASEC:
    case FLOAT:
      return { size: of };
    case FWD:
      return { fwd_kind: btf.kindFlag(id) ? "union" : "struct" };
    case FUNC:
      return { type_id: of, linkage: LINKAGES[btf.memberCount(id)] ?? "(unknown)" };
    case FUNC_PROTO:
      return { ret_type_id: of };
    case VAR:
      return { type_id: of, linkage: LINKAGES[btf.linkage(id)] ?? "(unknown)" };
    case DECL_TAG:
      return { type_id: of, component_idx: btf.component(id) };
    default:
      return {};
  }
}

function text(btf: Btf, offset: number): string {
  return btf.text(offset, TEXT_BYTES_MAX) || NO_NAME;
}
