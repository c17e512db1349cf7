/** Writers of structs, unions and data sections. */

import { coverage, merge } from "./coverage.ts";
import { isZero } from "./json_text.ts";
import type { Dialect, Leaf } from "./leaf.ts";
import { listed, Misfit, shown } from "./misfit.ts";
import type { Names } from "./names.ts";
import { innerParts, isAnonymous, isEmpty, type Members, membersOf, type Part, partsOf } from "./parts.ts";
import type { LeafOf } from "./reader.ts";
import type { Member, Whole } from "./shape.ts";

type Json = Readonly<Record<string, unknown>>;
/** Writes some members of an object. */
type Write = (bytes: Buffer, at: number, json: Json, names: Names) => Misfit | null;

export function writeWhole(shape: Whole, dialect: Dialect, leaf: LeafOf): Leaf["write"] {
  if (shape.kind === "section" && !dialect.flat) return writeSection(shape, leaf);
  const members = membersOf(partsOf(shape.members), dialect.flat);
  const body = writeBody(shape, dialect, leaf);
  const title = titleOf(shape);
  const isSpecial = shape.kind === "struct" && shape.special;
  return (bytes, at, json, names) => {
    if (!isObject(json)) return new Misfit(`an object required, found ${shown(json)}`);
    const misfit = stranger(json, members, title) ?? body(bytes, at, json, names);
    if (misfit !== null || !isSpecial || isZero(bytes, at, at + shape.bytes)) return misfit;
    return new Misfit(`zeros required, since only programs write a ${shape.name}`);
  };
}

function isObject(json: unknown): json is Json {
  return typeof json === "object" && json !== null && !Array.isArray(json);
}

function titleOf({ kind, name }: Whole): string {
  const title = kind === "section" ? `section ${name}` : name === "" ? `the ${kind}` : `${kind} ${name}`;
  return title.length > 80 ? `${title.slice(0, 80)}...` : title;
}

/** A misfit if an object has a member that the struct has not. */
function stranger(json: Json, { names, inner }: Members, title: string): Misfit | null {
  for (const name in json) {
    if (names.has(name) || !Object.hasOwn(json, name)) continue;
    if (name === "" && inner !== null) {
      const within = json[name];
      const misfit = isObject(within) ? stranger(within, inner, title) : null;
      if (misfit !== null) return misfit;
      continue;
    }
    const shownName = name.length > 40 ? `${name.slice(0, 40)}...` : name;
    return new Misfit(`${title} has no member ${shownName}; it has ${names.size === 0 ? "none" : listed(names)}`);
  }
  return null;
}

function writeBody(shape: Whole, dialect: Dialect, leaf: LeafOf): Write {
  return shape.kind === "union"
    ? writeUnion(shape, dialect, leaf)
    : inTurn(writersOf(partsOf(shape.members), dialect, leaf));
}

interface Writer {
  readonly at: number;
  readonly write: Write;
  readonly isGiven: (json: Json) => boolean;
  readonly title: string;
  readonly member: Member;
}

function writersOf(parts: readonly Part[], dialect: Dialect, leaf: LeafOf): Writer[] {
  return parts
    .filter(({ member }) => !isAnonymous(member) || !isEmpty(member.shape as Whole))
    .map(({ at, member }) => ({
      at,
      member,
      write: isAnonymous(member) ? writeAnonymous(member, dialect, leaf) : writeMember(member, leaf),
      isGiven: (json) => isGiven(member, json, dialect.flat),
      title: isAnonymous(member)
        ? ([...membersOf(innerParts({ at, member }), dialect.flat).names][0] ?? "")
        : member.name,
    }));
}

function writeMember(member: Member, leaf: LeafOf): Write {
  const { name, shape } = member;
  const { write } = leaf(shape, member);
  const path = `.${name}`;
  // Only programs write these fields: nothing is made up if they are left out.
  const optional = (shape.kind === "struct" && shape.special) || (shape.kind === "pointer" && shape.kernel);
  return (bytes, at, json, names) => {
    if (!Object.hasOwn(json, name)) return optional ? null : new Misfit("required", path);
    return write(bytes, at, json[name], names)?.inside(path) ?? null;
  };
}

function writeAnonymous({ shape }: Member, dialect: Dialect, leaf: LeafOf): Write {
  const body = writeBody(shape as Whole, dialect, leaf);
  if (dialect.flat) return body;
  return (bytes, at, json, names) => {
    const inner = json[""];
    return Object.hasOwn(json, "") && isObject(inner)
      ? body(bytes, at, inner, names)
      : new Misfit('the members of "" required');
  };
}

function isGiven(member: Member, json: Json, flat: boolean): boolean {
  if (!isAnonymous(member)) return Object.hasOwn(json, member.name);
  const within = flat ? json : Object.hasOwn(json, "") ? json[""] : null;
  return isObject(within) && (member.shape as Whole).members.some((inner) => isGiven(inner, within, flat));
}

function inTurn(writers: readonly Writer[]): Write {
  return (bytes, at, json, names) => {
    for (const { at: from, write } of writers) {
      const misfit = write(bytes, at + from, json, names);
      if (misfit !== null) return misfit;
    }
    return null;
  };
}

/** One view, or several that agree on the bits that they share. */
function writeUnion(shape: Whole, dialect: Dialect, leaf: LeafOf): Write {
  const views = writersOf(partsOf(shape.members), dialect, leaf);
  const masks = new Map<Writer, Buffer>();
  const maskOf = (view: Writer): Buffer => {
    const mask = masks.get(view) ?? coverage(view.member.shape, view.member);
    masks.set(view, mask);
    return mask;
  };
  const titles = listed(views.map(({ title }) => title));
  return (bytes, at, json, names) => {
    const given = views.filter((view) => view.isGiven(json));
    const [first] = given;
    if (first === undefined) return views.length === 0 ? null : new Misfit(`one of ${titles} required`);
    if (given.length === 1) return first.write(bytes, at + first.at, json, names);
    const all = Buffer.alloc(shape.bytes);
    const written: Buffer[] = [];
    for (const view of given) {
      const one = Buffer.alloc(view.member.shape.bytes);
      const misfit = view.write(one, 0, json, names);
      if (misfit !== null) return misfit;
      merge(all, view.at, one);
      written.push(one);
    }
    const other = given.find((view, index) => !agrees(all, written[index] as Buffer, maskOf(view)));
    if (other !== undefined)
      return new Misfit(
        `${given
          .map(({ title }) => title)
          .slice(0, 20)
          .join(" and ")} disagree; one of them is enough`,
      );
    merge(bytes, at, all);
    return null;
  };
}

function agrees(all: Buffer, one: Buffer, mask: Buffer): boolean {
  for (let byte = 0; byte < one.length; byte++)
    if (((all[byte] as number) & (mask[byte] as number)) !== one[byte]) return false;
  return true;
}

/** bpftool's form of a data section: {".bss": [{"a": 1}, {"b": 2}]}, its variables in order. */
function writeSection({ name, members }: Whole, leaf: LeafOf): Leaf["write"] {
  const writers = members.map((member) => ({ member, write: writeMember(member, leaf) }));
  return (bytes, at, json, names) => {
    const list = isObject(json) && Object.hasOwn(json, name) && Object.keys(json).length === 1 ? json[name] : null;
    if (!Array.isArray(list) || list.length !== members.length)
      return new Misfit(
        `an object with a list of ${members.length} variables, ${shown(name)}, required, found ${shown(json)}`,
      );
    for (const [index, { member, write }] of writers.entries()) {
      const one = list[index];
      if (!isObject(one)) return new Misfit(`an object required, found ${shown(one)}`, `[${index}]`);
      const misfit =
        stranger(one, { names: new Set([member.name]), inner: null, twice: null }, "the variable") ??
        write(bytes, at + member.at, one, names);
      if (misfit !== null) return misfit;
    }
    return null;
  };
}
