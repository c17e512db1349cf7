import { checkGlob } from "./globs.ts";

/** What a caller may be allowed to do, one by one. */
export const SCOPES = ["metrics", "evidence", "read", "write", "pin", "admin"] as const;
export type Scope = (typeof SCOPES)[number];
export type Scopes = ReadonlySet<Scope>;

export const ALL_SCOPES: Scopes = new Set(SCOPES);

/** Scopes that are of maps: with a glob they are of those that it matches. */
export const MAP_SCOPES = ["read", "write", "pin"] as const satisfies readonly Scope[];
export type MapScope = (typeof MAP_SCOPES)[number];

/** A scope as it is given, as in "write" or "write@block*"; `glob` null: of every map. */
export interface Grant {
  readonly scope: Scope;
  readonly glob: string | null;
}

/** Reads scopes with commas between them. Throws an Error that says what is wrong with one. */
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
  if (scope === undefined) throw new Error(`"${name}" is no scope; there are ${SCOPES.join(", ")}`);
  if (at === -1) return { scope, glob: null };
  if (!isOfMaps(scope)) throw new Error(`${scope} takes no glob: it is not of maps`);
  const glob = word.slice(at + 1);
  checkGlob(glob);
  return { scope, glob };
}

function isOfMaps(scope: Scope): scope is MapScope {
  return (MAP_SCOPES as readonly Scope[]).includes(scope);
}
