/** Why a value and its type do not go together: in input, in bytes that have no typed form, or in a type that has none. */

const SHOWN_LENGTH = 40;

/**
 * `where` is relative until the outermost caller has added its part, such as "key" or "value": ".name", "[3].name",
 * "value.name".
 */
export class Misfit {
  readonly where: string;
  /** For example "0 to 7, found 8", or "bytes after NUL". */
  readonly found: string;

  constructor(found: string, where = "") {
    this.where = where;
    this.found = found;
  }

  /** `outer`: a member as ".name", an element as "[3]", the outermost part without a dot. */
  inside(outer: string): Misfit {
    return new Misfit(this.found, outer + this.where);
  }

  toString(): string {
    return `${this.where}: ${this.found}`;
  }
}

/** A value of JSON as an error shows it, in at most about 40 characters; of lists and objects only that they are such. */
export function shown(json: unknown): string {
  if (Array.isArray(json)) return json.length === 0 ? "[]" : "a list";
  if (typeof json === "object" && json !== null) return "an object";
  if (typeof json !== "string") return String(json);
  const text = JSON.stringify(json.slice(0, SHOWN_LENGTH));
  return json.length > SHOWN_LENGTH ? `${text}...` : text;
}

/** Names as an error lists them: the first twenty. */
export function listed(names: Iterable<string>): string {
  const all = [...names];
  const first = all.slice(0, 20).join(", ");
  return all.length > 20 ? `${first} and ${all.length - 20} more` : first;
}
