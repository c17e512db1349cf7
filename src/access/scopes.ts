/** What a caller may be allowed to do, one by one. */
export const SCOPES = ["metrics", "evidence", "read", "write", "pin", "admin"] as const;
export type Scope = (typeof SCOPES)[number];
export type Scopes = ReadonlySet<Scope>;

export const ALL_SCOPES: Scopes = new Set(SCOPES);

/** Reads scopes with commas between them. Throws an Error that says which is none. */
export function parseScopes(text: string): Scopes {
  return new Set(text.split(",").map((word) => readScope(word.trim())));
}

function readScope(word: string): Scope {
  const scope = SCOPES.find((scope) => scope === word);
  if (scope === undefined) throw new Error(`"${word}" is no scope; there are ${SCOPES.join(", ")}`);
  return scope;
}
