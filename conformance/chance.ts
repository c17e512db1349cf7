import * as fc from "fast-check";

/** Mostly `usual`, `percent` of the time one of the others. */
export function seldom<T>(percent: number, usual: fc.Arbitrary<T>, other: fc.Arbitrary<T>): fc.Arbitrary<T> {
  return fc.oneof({ arbitrary: usual, weight: 100 - percent }, { arbitrary: other, weight: percent });
}
