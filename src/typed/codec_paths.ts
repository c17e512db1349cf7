/** Puts codecs into descriptions (description.ts), by the paths of members: "value.src" -> "inet_ip". */

import { Misfit, shown } from "./misfit.ts";

type Json = Readonly<Record<string, unknown>>;

/** The words of long forms whose content is a type or has members. */
const COMPOSITES = ["@struct", "@packed", "@union", "@section"] as const;

/**
 * A description in which the member at a path has a codec. Members of anonymous structs and unions stand in their parent,
 * elements of an array are reached through it. `codec`: a name, or {"@codec": "static_map", "values": ...}.
 */
export function withCodec(description: unknown, path: readonly string[], codec: unknown): unknown | Misfit {
  const [name, ...rest] = path;
  if (name === undefined) return coded(description, codec);
  if (!isObject(description)) return missing(name);
  if (Object.hasOwn(description, "@codec"))
    return new Misfit(`shown by the codec ${shown(description["@codec"])} as a whole`);
  if (Object.hasOwn(description, "@array")) {
    const element = withCodec(description["@array"], path, codec);
    return element instanceof Misfit ? element : { ...description, "@array": element };
  }
  const word = COMPOSITES.find((one) => Object.hasOwn(description, one));
  const members = inMembers(word === undefined ? description : description[word], { name, rest, codec });
  if (members instanceof Misfit) return members;
  return word === undefined ? members : { ...description, [word]: members };
}

interface Step {
  readonly name: string;
  readonly rest: readonly string[];
  readonly codec: unknown;
}

function inMembers(members: unknown, { name, rest, codec }: Step): unknown | Misfit {
  if (isObject(members)) {
    if (!Object.hasOwn(members, name) || name.startsWith("@")) return missing(name);
    const inner = withCodec(members[name], rest, codec);
    return inner instanceof Misfit ? inner.inside(`.${name}`) : { ...members, [name]: inner };
  }
  const list = Array.isArray(members) ? (members as readonly Json[]) : [];
  for (const [at, member] of list.entries()) {
    const anonymous = (member.name ?? "") === "";
    if (!anonymous && member.name !== name) continue;
    if (!anonymous && rest.length === 0 && Number(member.bits ?? 0) > 0)
      return new Misfit("a bitfield, which has no codec", `.${name}`);
    const inner = withCodec(member.type, anonymous ? [name, ...rest] : rest, codec);
    if (inner instanceof Misfit && anonymous) continue;
    if (inner instanceof Misfit) return inner.inside(`.${name}`);
    return list.with(at, { ...member, type: inner });
  }
  return missing(name);
}

function missing(name: string): Misfit {
  return new Misfit(`no member ${shown(name)}`);
}

/** A codec in place of the one that there was. */
function coded(description: unknown, codec: unknown): unknown {
  const type = isObject(description) && Object.hasOwn(description, "@codec") ? description.type : description;
  return isObject(codec) ? { ...codec, type } : { "@codec": codec, type };
}

function isObject(json: unknown): json is Json {
  return typeof json === "object" && json !== null && !Array.isArray(json);
}
