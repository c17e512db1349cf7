/** The middle one; of two in the middle the mean. */
export function median(figures: readonly number[]): number {
  const sorted = [...figures].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? at(sorted, middle) : (at(sorted, middle - 1) + at(sorted, middle)) / 2;
}

/** `lower` and `upper`: half of the figures are between these. */
export interface Spread {
  readonly least: number;
  readonly lower: number;
  readonly upper: number;
  readonly most: number;
}

export function spread(figures: readonly number[]): Spread {
  const sorted = [...figures].sort((a, b) => a - b);
  const half = Math.ceil(sorted.length / 2);
  return {
    least: at(sorted, 0),
    lower: median(sorted.slice(0, half)),
    upper: median(sorted.slice(-half)),
    most: at(sorted, sorted.length - 1),
  };
}

function at(sorted: readonly number[], index: number): number {
  return sorted[index] ?? Number.NaN;
}
