/** What random tests begin with: a run is like the one before it. `SEED=$RANDOM npm test` runs others. */
export const SEED = Number(process.env.SEED ?? 20_261_126);

/** Numbers from a seed: mulberry32. */
export function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}
