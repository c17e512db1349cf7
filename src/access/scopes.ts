import { checkGlob } from "./globs.ts";

/** The kinds of permission that a caller can have. */
export const SCOPES = ["metrics", "evidence", "read", "write", "pin", "admin"] as const;
export type Scope = (typeof SCOPES)[number];
export type Scopes = ReadonlySet<Scope>;

export const ALL_SCOPES: Scopes = new Set(SCOPES);

/** Scopes on maps: a glob limits them to the maps that it matches. */
export const MAP_SCOPES = ["read", "write", "pin"] as const satisfies readonly Scope[];
export type MapScope = (typeof MAP_SCOPES)[number];

/** A scope as the tokens file spells it, such as "write" or "write@block*". `glob` null: every map. */
export interface Grant {
  readonly scope: Scope;
  readonly glob: string | null;
}

/** Reads scopes separated by commas. Throws an Error with the reason if one of them is wrong. */
export function parseGrants(text: string): readonly Grant[] {
  return text.split(",").map((word) => readGrant(word.trim()));
}

export function grantText({ scope, glob }: Grant): string {
  return glob === null ? scope : `${scope}@${glob}`;
}

function readGrant(word: string): Grant {
  const at = word.indexOf("@");
  const name = at === -1 ? word : word.slice(0, at);
  const scope = SCOPES.find((scope) => scope === name);
  if (scope === undefined) throw new Error(`"${name}" is not a scope; the scopes are ${SCOPES.join(", ")}`);
  if (at === -1) return { scope, glob: null };
  if (!isOfMaps(scope)) throw new Error(`${scope} is not a scope on maps: no glob allowed`);
  const glob = word.slice(at + 1);
  checkGlob(glob);
  return { scope, glob };
}

function isOfMaps(scope: Scope): scope is MapScope {
  return (MAP_SCOPES as readonly Scope[]).includes(scope);
}
