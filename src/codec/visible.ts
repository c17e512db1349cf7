/**
 * Characters that a terminal acts upon or does not show: controls of C0 and C1 (Cc), formats such as overrides of a text's
 * direction (Cf), halves of pairs (Cs), and what separates lines.
 */
const INVISIBLE = /[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/gu;

/** A text of a log's or a server's in one line of a terminal: each such character is written as \uXXXX. */
export function visible(text: string): string {
  return text.replace(INVISIBLE, (found) =>
    Array.from({ length: found.length }, (_, at) => `\\u${found.charCodeAt(at).toString(16).padStart(4, "0")}`).join(
      "",
    ),
  );
}

/** A value's JSON, in one line likewise: it is the same value's. */
export function visibleJson(value: unknown): string {
  return visible(JSON.stringify(value));
}
