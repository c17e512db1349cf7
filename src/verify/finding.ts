/** Something that is wrong, and with which event it begins; null: with none in particular. */
export interface Finding {
  readonly seq: number | null;
  readonly text: string;
}

/** By the event that it begins with, and what is of none at the end. */
export function inOrder(findings: readonly Finding[]): Finding[] {
  return [...findings].sort((a, b) => (a.seq ?? Number.POSITIVE_INFINITY) - (b.seq ?? Number.POSITIVE_INFINITY));
}

export function findingText({ seq, text }: Finding): string {
  return seq === null ? text : `event ${seq}: ${text}`;
}
