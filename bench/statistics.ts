/** The middle one; of two in the middle the mean. */
export function median(figures: readonly number[]): number {
  const sorted = [...figures].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? at(sorted, middle) : (at(sorted, middle - 1) + at(sorted, middle)) / 2;
}

export function spread(figures: readonly number[]): { readonly least: number; readonly most: number } {
  return { least: Math.min(...figures), most: Math.max(...figures) };
}

function at(sorted: readonly number[], index: number): number {
  return sorted[index] ?? Number.NaN;
}
