/** The layout of structs and unions in C, on 64-bit machines. In bytes. */

export interface Sized {
  readonly bytes: number;
  readonly align: number;
}

export interface Layout extends Sized {
  readonly offsets: readonly number[];
}

export type LayoutKind = "struct" | "packed" | "union";

export function layout(members: readonly Sized[], kind: LayoutKind): Layout {
  const align = kind === "packed" ? 1 : members.reduce((most, member) => Math.max(most, member.align), 1);
  const offsets: number[] = [];
  let [next, most] = [0, 0];
  for (const member of members) {
    const at = kind === "union" ? 0 : roundUp(next, kind === "packed" ? 1 : member.align);
    offsets.push(at);
    next = at + member.bytes;
    most = Math.max(most, next);
  }
  return { offsets, align, bytes: roundUp(most, align) };
}

function roundUp(bytes: number, to: number): number {
  return Math.ceil(bytes / to) * to;
}
