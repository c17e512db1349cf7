/** The parts of structs, unions and sections, as a form has them. */

import type { Member, Shape, Whole } from "./shape.ts";

/** A member with its offset from the beginning of the outermost struct that it is shown in. */
export interface Part {
  readonly at: number;
  readonly member: Member;
}

export function isWhole(shape: Shape): shape is Whole {
  return shape.kind === "struct" || shape.kind === "union" || shape.kind === "section";
}

/** An anonymous struct or union; an integer without a name is padding, and compilers leave it out. */
export function isAnonymous({ name, shape }: Member): boolean {
  return name === "" && isWhole(shape);
}

export function partsOf(members: readonly Member[], at = 0): Part[] {
  return members.map((member) => ({ at: at + member.at, member }));
}

/** The parts of an anonymous member, from where its parent begins. */
export function innerParts({ at, member }: Part): Part[] {
  return partsOf((member.shape as Whole).members, at);
}

/** Whether a typed form would show nothing of a struct in its parent. */
export function isEmpty(whole: Whole): boolean {
  return whole.members.every((member) => isAnonymous(member) && isEmpty(member.shape as Whole));
}

/** The names that a struct has in a form; `inner`: those in the member without a name, if the form has one. */
export interface Members {
  readonly names: ReadonlySet<string>;
  readonly inner: Members | null;
  /** A name that two members have; null: there is none. */
  readonly twice: string | null;
}

export function membersOf(parts: readonly Part[], flat: boolean): Members {
  const [names, anonymous] = [new Set<string>(), [] as Part[]];
  let [twice, hasInner] = [null as string | null, false];
  const open = [...parts].reverse();
  for (let part = open.pop(); part !== undefined; part = open.pop()) {
    if (isAnonymous(part.member)) {
      const inner = innerParts(part);
      hasInner = !flat;
      for (const one of inner.reverse()) (flat ? open : anonymous).push(one);
      continue;
    }
    if (names.has(part.member.name)) twice ??= part.member.name;
    names.add(part.member.name);
  }
  const inner = hasInner ? membersOf(anonymous, flat) : null;
  if (inner !== null && names.has("")) twice ??= "";
  return { names, inner, twice: twice ?? inner?.twice ?? null };
}
