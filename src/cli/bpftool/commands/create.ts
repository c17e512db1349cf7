import { readFileSync } from "node:fs";
import { BPF_MAP_TYPE, type MapTypeName, OBJ_NAME_LEN } from "../../../abi/bpf.ts";
import type { Call } from "../call.ts";
import { Failure, refusal } from "../failure.ts";
import { findMap, type MapFacts, pathname, readReference, typeWord } from "../map_reference.ts";
import { inSession } from "../own_session.ts";
import { readNumber, type Words } from "../words.ts";

const U32_MAX = 2 ** 32 - 1;
const LEAST_WORDS = 7;

const TYPES: ReadonlyMap<string, MapTypeName> = new Map(
  (Object.keys(BPF_MAP_TYPE) as MapTypeName[]).map((type) => [typeWord(type), type]),
);

/** The words of a creation; 0 and null: not given. */
interface Attr {
  type: MapTypeName | null;
  name: string | null;
  keySize: number;
  valueSize: number;
  maxEntries: number;
  flags: number;
  ifindex: number;
  inner: MapFacts | null;
  /** A session that is to hold the map instead of a pin. */
  session: number;
}

const NUMBERS = [
  ["key", "keySize", "key size"],
  ["value", "valueSize", "value size"],
  ["entries", "maxEntries", "max entries"],
  ["flags", "flags", "flags"],
  ["session", "session", "session"],
] as const;

/**
 * map create [FILE] type TYPE key KEY_SIZE value VALUE_SIZE entries MAX_ENTRIES name NAME [flags FLAGS] [inner_map MAP] [dev
 * NAME] [session ID]
 *
 * Without FILE the map is pinned at /sys/fs/bpf/NAME; with a session and without FILE, a descriptor of the session holds it.
 */
export async function create(call: Call): Promise<void> {
  const { words, output } = call;
  words.need(LEAST_WORDS);
  const file = words.first === "type" ? null : pathname(words.next("a path"));
  const attr = await readAttr(call);
  const name = nameOf(attr, output.note.bind(output));
  const path = file ?? (attr.session === 0 ? pathname(name) : null);
  if (attr.session === 0)
    await inSession(call.api, "mapledger map create", (session) => make(call, session, attr, name, path));
  else await make(call, `/v1/sessions/${attr.session}`, attr, name, path);
  output.json?.scalar(null);
}

async function make(
  { api, output }: Call,
  session: string,
  attr: Attr,
  name: string,
  path: string | null,
): Promise<void> {
  const send = <Answer>(route: string, body: object): Promise<Answer> =>
    api.send<Answer>("POST", `${session}/${route}`, body);
  const { inner } = attr;
  const opened =
    inner === null
      ? null
      : await send<{ fd: number }>("fds", { kind: "map", map: inner.id }).catch(
          failedTo(`get map by id (${inner.id})`, 255),
        );
  const made = await send<{ fd: number }>("maps", {
    map_type: attr.type ?? "BPF_MAP_TYPE_UNSPEC",
    map_name: name,
    key_size: attr.keySize,
    value_size: attr.valueSize,
    max_entries: attr.maxEntries,
    map_flags: attr.flags,
    ...(attr.ifindex !== 0 && { map_ifindex: attr.ifindex }),
    ...(opened !== null && { inner_map_fd: opened.fd }),
  }).catch(failedTo("map create failed", 255));
  if (path !== null)
    await send(`fds/${made.fd}/pin`, { pathname: path }).catch(failedTo(`can't pin the object (${path})`));
  else output.note(`fd ${made.fd} of the session holds the map`);
}

function failedTo(doing: string, code?: number): (error: unknown) => never {
  return (error) => {
    throw refusal(doing, error, code);
  };
}

async function readAttr(call: Call): Promise<Attr> {
  const { words } = call;
  const attr: Attr = {
    type: null,
    name: null,
    keySize: 0,
    valueSize: 0,
    maxEntries: 0,
    flags: 0,
    ifindex: 0,
    inner: null,
    session: 0,
  };
  while (words.first !== undefined) {
    words.need(2);
    if (words.takes("type")) attr.type = readType(words, attr.type);
    else if (words.takes("name")) attr.name = words.next("a name");
    else if (!readSize(words, attr)) await readRest(call, attr);
  }
  return attr;
}

function readType(words: Words, before: MapTypeName | null): MapTypeName {
  if (before !== null) throw new Failure("map type already specified");
  const word = words.next("a type");
  const type = TYPES.get(word);
  if (type === undefined) throw new Failure(`unrecognized map type: ${word}`);
  return type;
}

function readSize(words: Words, attr: Attr): boolean {
  const [, field, what] = NUMBERS.find(([word]) => words.takes(word)) ?? [];
  if (field === undefined) return false;
  if (attr[field] !== 0) throw new Failure(`${what} already specified`);
  const text = words.next(`a ${what}`);
  const number = readNumber(text, U32_MAX);
  if (number === null) throw new Failure(`can't parse ${text} as ${what}`);
  attr[field] = number;
  return true;
}

async function readRest({ api, words }: Call, attr: Attr): Promise<void> {
  if (words.takes("dev")) {
    if (attr.ifindex !== 0) throw new Failure("offload device already specified");
    attr.ifindex = ifindexOf(words.next("a device"));
  } else if (words.takes("inner_map")) {
    words.need(2);
    attr.inner = await findMap(api, readReference(words), null);
  } else throw new Failure(`unknown arg ${words.first}`);
}

/** if_nametoindex(3) */
function ifindexOf(device: string): number {
  try {
    if (device.includes("/")) throw new Error("no name");
    return Number(readFileSync(`/sys/class/net/${device}/ifindex`, "utf8"));
  } catch {
    throw new Failure(`unrecognized netdevice '${device}': No such device`);
  }
}

/** libbpf cuts a name to what the kernel has room for. */
function nameOf({ name }: Attr, note: (text: string) => void): string {
  if (name === null) throw new Failure("map name not specified");
  const cut = Buffer.from(name)
    .subarray(0, OBJ_NAME_LEN - 1)
    .toString();
  if (cut !== name) note(`Warning: the map's name is cut to ${OBJ_NAME_LEN - 1} characters: ${cut}`);
  return cut;
}
