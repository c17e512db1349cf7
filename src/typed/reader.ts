/** Readers of structs, unions and data sections. */

import { coverage, covers } from "./coverage.ts";
import type { Bits, Dialect, Leaf } from "./leaf.ts";
import type { Misfit } from "./misfit.ts";
import { innerParts, isAnonymous, isEmpty, type Part, partsOf } from "./parts.ts";
import type { Shape, Whole } from "./shape.ts";

export type LeafOf = (shape: Shape, bits?: Bits) => Leaf;
type Read = Leaf["read"];

/** A reader of one or more members with their names, as they stand between braces. */
interface Fragment {
  /** The member's name as JSON with a colon; empty: the reader writes names of its own. */
  readonly label: string;
  readonly path: string;
  readonly at: number;
  readonly read: Read;
}

export function readWhole(shape: Whole, dialect: Dialect, leaf: LeafOf): Read {
  if (shape.kind === "section" && !dialect.flat) return readSection(shape, dialect, leaf);
  const body = readBody(shape, dialect, leaf);
  return (bytes, at, names) => {
    const text = body(bytes, at, names);
    return typeof text === "string" ? `{${text}}` : text;
  };
}

/** bpftool's form of a data section: {".bss": [{"a": 1}, {"b": 2}]}. */
function readSection(shape: Whole, dialect: Dialect, leaf: LeafOf): Read {
  const all = fragments(partsOf(shape.members), dialect, leaf).map((fragment) => ({
    ...fragment,
    read: joined([{ ...fragment, at: 0 }]),
  }));
  const name = JSON.stringify(shape.name);
  return (bytes, at, names) =>
    `{${name}:[${all.map(({ at: from, read }) => `{${read(bytes, at + from, names)}}`).join(",")}]}`;
}

function readBody(shape: Whole, dialect: Dialect, leaf: LeafOf): Read {
  if (shape.kind === "union" && dialect.flat) return views(shape, dialect, leaf);
  return joined(fragments(partsOf(shape.members), dialect, leaf));
}

/** Without the parts that show nothing. Anonymous members that do not stand in their parent become one member. */
function fragments(parts: readonly Part[], dialect: Dialect, leaf: LeafOf): Fragment[] {
  const all: Fragment[] = [];
  const anonymous: Part[] = [];
  for (const part of parts) {
    const { at, member } = part;
    if (!isAnonymous(member)) {
      const label = `${JSON.stringify(member.name)}:`;
      all.push({ label, path: `.${member.name}`, at, read: leaf(member.shape, member).read });
    } else if (!dialect.flat) {
      if (anonymous.length === 0) all.push(TOGETHER);
      anonymous.push(part);
    } else if (!isEmpty(member.shape as Whole)) {
      all.push({ label: "", path: "", at, read: readBody(member.shape as Whole, dialect, leaf) });
    }
  }
  if (anonymous.length === 0) return all;
  const body = joined(fragments(anonymous.flatMap(innerParts), dialect, leaf));
  return all.map((fragment) =>
    fragment === TOGETHER ? { ...fragment, read: (bytes, at, names) => `{${body(bytes, at, names)}}` } : fragment,
  );
}

/** The place of all anonymous members of a struct. */
const TOGETHER: Fragment = { label: '"":', path: "", at: 0, read: () => "{}" };

function joined(all: readonly Fragment[]): Read {
  const labels = all.map(({ label }, index) => (index === 0 ? label : `,${label}`));
  const offsets = all.map(({ at }) => at);
  const reads = all.map(({ read }) => read);
  return (bytes, at, names) => {
    let text = "";
    for (let index = 0; index < reads.length; index++) {
      const part = (reads[index] as Read)(bytes, at + (offsets[index] as number), names);
      if (typeof part !== "string") return part.inside((all[index] as Fragment).path);
      text += (labels[index] as string) + part;
    }
    return text;
  };
}

/**
 * The views of a union. One that has no typed form, such as a bool of 7, is left out if another view has all bits, and so
 * gives the same bytes.
 */
function views(shape: Whole, dialect: Dialect, leaf: LeafOf): Read {
  const shownParts = partsOf(shape.members).filter(
    ({ member }) => !isAnonymous(member) || !isEmpty(member.shape as Whole),
  );
  const all = fragments(shownParts, dialect, leaf);
  let whole: readonly boolean[] | null = null;
  return (bytes, at, names) => {
    let [text, failed, covered] = ["", null as Misfit | null, false];
    for (let index = 0; index < all.length; index++) {
      const { label, path, at: from, read } = all[index] as Fragment;
      const part = read(bytes, at + from, names);
      if (typeof part !== "string") failed ??= part.inside(path);
      else {
        text += `${text === "" ? "" : ","}${label}${part}`;
        whole ??= wholeViews(shape, shownParts);
        covered ||= whole[index] as boolean;
      }
    }
    return failed !== null && !covered ? failed : text;
  };
}

/** Of each view, whether it has all bits that any view has. */
function wholeViews(shape: Whole, parts: readonly Part[]): readonly boolean[] {
  const all = coverage(shape);
  return parts.map(({ member }) => covers(coverage(member.shape, member), all));
}
