/** A fault, and the first event that it concerns; null if it concerns no event in particular. */
export interface Finding {
  readonly seq: number | null;
  readonly text: string;
}

/** Sorts findings by their event; those without an event come last. */
export function inOrder(findings: readonly Finding[]): Finding[] {
  return [...findings].sort((a, b) => (a.seq ?? Number.POSITIVE_INFINITY) - (b.seq ?? Number.POSITIVE_INFINITY));
}

export function findingText({ seq, text }: Finding): string {
  return seq === null ? text : `event ${seq}: ${text}`;
}
