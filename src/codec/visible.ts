/**
 * Characters that a terminal interprets or does not show: control characters (Cc), format characters such as direction
 * overrides (Cf), lone surrogates (Cs) and line separators.
 */
const INVISIBLE = /[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/gu;

/**
 * A text of a log or a server in a form that is safe to print on one line: each invisible character is written as
 * \uXXXX.
 */
export function visible(text: string): string {
  return text.replace(INVISIBLE, (found) =>
    Array.from({ length: found.length }, (_, at) => `\\u${found.charCodeAt(at).toString(16).padStart(4, "0")}`).join(
      "",
    ),
  );
}

/** A value's JSON on one line, with invisible characters as \uXXXX: it parses to the same value. */
export function visibleJson(value: unknown): string {
  return visible(JSON.stringify(value));
}
