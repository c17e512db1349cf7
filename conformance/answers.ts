import type { Attr } from "./pair.ts";
import type { Answer } from "./subject.ts";

/** Answers of two subjects, made comparable. */

/** Keys with their values. */
export function elementsOf({ attr: { count = 0, keys = "", values = "" } }: Answer): Map<string, string> {
  const elements = new Map<string, string>();
  const keyDigits = keys.length / Math.max(count, 1);
  const valueDigits = values.length / Math.max(count, 1);
  for (let at = 0; at < count && keys !== ""; at++)
    elements.set(
      keys.slice(at * keyDigits, (at + 1) * keyDigits),
      values.slice(at * valueDigits, (at + 1) * valueDigits),
    );
  return elements;
}

/** How many elements there is room for; left out, it fits. */
export function elementsRoom(hex: unknown, elementBytes: number): number {
  return typeof hex === "string" ? Math.floor(hex.length / 2 / elementBytes) : Number.POSITIVE_INFINITY;
}

/** An answer of a batch without its order. */
export function sorted(answer: Answer): Answer {
  const { keys: _keys, values: _values, ...attr } = answer.attr;
  return { ...answer, attr: { ...attr, keys: JSON.stringify([...elementsOf(answer)].sort(byKey)) } };
}

export function byKey([a]: readonly [string, string], [b]: readonly [string, string]): number {
  return a < b ? -1 : 1;
}

export function plain(attr: Attr): Attr {
  return Object.fromEntries(Object.entries(attr).filter(([, value]) => value !== undefined));
}

export function shown(value: unknown): string {
  return JSON.stringify(value)?.slice(0, 600);
}
