/** What a figure is to reach: at least, or at most. */
export type Target = { readonly least: number } | { readonly most: number };

export interface Figure {
  readonly name: string;
  readonly figure: number;
  readonly target?: Target;
}

/** "target <= 200: met" */
export function targetText(median: number, target: Target): string {
  const isMet = "least" in target ? median >= target.least : median <= target.most;
  const sought = "least" in target ? `>= ${target.least}` : `<= ${target.most}`;
  return `target ${sought}: ${isMet ? "met" : "not met"}`;
}
