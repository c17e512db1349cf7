import { postJson } from "./load.ts";
import type { WorstInput } from "./worst_inputs.ts";

/** Inputs that keep the engine's thread, the past's or the kernel as busy as they can; some undo each other, and are sent in turns. */
export interface EngineInput {
  readonly name: string;
  readonly requests: readonly Omit<WorstInput, "name">[];
}

const JSON_TYPE = { "content-type": "application/json" };
const BATCH = 100_000;
/** What a restore may restore by default. */
const RESTORED = 10_000;
const MAPS = 1000;
/** As many members as a struct may have. */
const MEMBERS = 65_535;

/** What a batch of a pair for each of so many keys is sent as. */
function pairs(count: number, key: (at: number) => string, value: (at: number) => string): string {
  return JSON.stringify({ elements: Array.from({ length: count }, (_, at) => ({ key: key(at), value: value(at) })) });
}

function u32(number: number, bytes = 4): string {
  const buffer = Buffer.alloc(bytes);
  buffer.writeUInt32LE(number);
  return buffer.toString("hex");
}

/** A key of a trie that is an address of 32 bits. */
function address(number: number): string {
  const buffer = Buffer.alloc(8);
  buffer.writeUInt32LE(32);
  buffer.writeUInt32BE(number, 4);
  return buffer.toString("hex");
}

/** Makes maps of a session of its own, and says what to send. `url`: the service's, with the mirror on. */
export async function engineInputs(url: string): Promise<readonly EngineInput[]> {
  const { id: session } = await postJson(`${url}/v1/sessions`, { name: "engine inputs", ttl_seconds: 86_400 });
  const below = `/v1/sessions/${session}`;
  const map = async (attr: object): Promise<{ readonly path: string; readonly id: number }> => {
    const hash = { map_type: "BPF_MAP_TYPE_HASH", key_size: 4, value_size: 8, max_entries: BATCH };
    const { fd, map_id: id } = await postJson(`${url}${below}/maps`, { ...hash, ...attr });
    return { path: `${below}/fds/${fd}`, id: id as number };
  };
  const send = async (path: string, body: string): Promise<number> =>
    (await postJson(`${url}${path}`, JSON.parse(body))).seq as number;
  const post = (path: string, body: string) =>
    ({ method: "POST", path, headers: JSON_TYPE, body: () => body }) as const;
  const get = (path: string) => ({ method: "GET", path }) as const;

  const hash = await map({});
  const lru = await map({ map_type: "BPF_MAP_TYPE_LRU_HASH", max_entries: BATCH / 2 });
  const trie = await map({ map_type: "BPF_MAP_TYPE_LPM_TRIE", key_size: 8, map_flags: ["BPF_F_NO_PREALLOC"] });
  const restored = await map({ max_entries: RESTORED });
  const update = pairs(BATCH, u32, (at) => u32(at, 8));
  const addresses = pairs(BATCH, address, (at) => u32(at, 8));
  const keys = JSON.stringify({ keys: Array.from({ length: BATCH }, (_, at) => u32(at)) });
  await send(`${trie.path}/batch/update`, addresses);
  const before = await send(
    `${restored.path}/batch/update`,
    pairs(RESTORED, u32, () => u32(1, 8)),
  );
  for (let at = 0; at < MAPS; at++) {
    const { path } = await map({ map_name: "many", max_entries: 1 });
    await postJson(`${url}${path}/pin`, { pathname: `many${at}` });
    // A session has 1,021 descriptors.
    await fetch(`${url}${path}`, { method: "DELETE" });
  }
  const outer = await closedMapOfMaps(url);
  const large = JSON.stringify({
    map_type: "BPF_MAP_TYPE_HASH",
    key_size: 4,
    value_size: 8,
    max_entries: 4_000_000,
    map_name: "large",
  });
  return [
    { name: "update of 100,000", requests: [post(`${hash.path}/batch/update`, update)] },
    {
      name: "update and deletion of 100,000",
      requests: [post(`${hash.path}/batch/update`, update), post(`${hash.path}/batch/delete`, keys)],
    },
    { name: "update of 100,000, LRU of half of that", requests: [post(`${lru.path}/batch/update`, update)] },
    { name: "update of 100,000, trie", requests: [post(`${trie.path}/batch/update`, addresses)] },
    {
      name: "lookup of 100,000, trie",
      requests: [post(`${trie.path}/batch/lookup`, JSON.stringify({ count: BATCH }))],
    },
    {
      name: "update and taking out of 50,000",
      requests: [
        post(`${lru.path}/batch/update`, update),
        post(`${lru.path}/batch/lookup_and_delete`, JSON.stringify({ count: BATCH })),
      ],
    },
    {
      name: "restore of 10,000",
      requests: [
        post(
          `${restored.path}/batch/update`,
          pairs(RESTORED, u32, (at) => u32(at + 2, 8)),
        ),
        post(`/v1/maps/${restored.id}/restore`, JSON.stringify({ at: String(before), reason: "bench" })),
      ],
    },
    { name: "elements as of before", requests: [get(`/v1/maps/${trie.id}/elements?at=${before}&limit=10000`)] },
    { name: "next key", requests: [get(`${trie.path}/next-key?key=${address(77)}`)] },
    { name: "a map by a name that many have", requests: [get("/v1/maps/name:many")] },
    { name: "pins, a page", requests: [get("/v1/pins?limit=10000")] },
    { name: "the mirror", requests: [get("/v1/mirror")] },
    { name: "drift", requests: [get(`/v1/maps/${hash.id}/drift`)] },
    { name: "resync", requests: [post(`/v1/maps/${hash.id}/mirror/resync`, "{}")] },
    { name: "kernel maps", requests: [get("/v1/kernel/maps")] },
    { name: "BTF of 512 KiB", requests: [post(`${below}/bpf`, btf(512 * 1024))] },
    { name: "BTF of 15 MiB", requests: [post(`${below}/bpf`, btf(15 * 1024 * 1024))] },
    { name: "a map of 4 M elements, made", requests: [post(`${below}/maps`, large)] },
    {
      name: "a map of maps of 100,000, made, filled and closed",
      requests: [
        post(outer.maps, outer.shape),
        post(`${outer.path}/batch/update`, outer.update),
        { method: "DELETE", path: outer.path },
      ],
    },
    { name: "a proof", requests: [get(`/v1/events/${before}/proof`)] },
    { name: "a checkpoint", requests: [get("/checkpoint")] },
  ];
}

/** A session that has an inner map; what is created in it next has the descriptor of `path`, once that was closed. */
async function closedMapOfMaps(url: string) {
  const { id: session } = await postJson(`${url}/v1/sessions`, { name: "maps of maps", ttl_seconds: 86_400 });
  const maps = `/v1/sessions/${session}/maps`;
  const inner = { map_type: "BPF_MAP_TYPE_ARRAY", key_size: 4, value_size: 8, max_entries: 1 };
  const { fd: inner_map_fd } = await postJson(`${url}${maps}`, inner);
  const shape = { ...inner, map_type: "BPF_MAP_TYPE_HASH_OF_MAPS", value_size: 4, max_entries: BATCH, inner_map_fd };
  const { fd } = await postJson(`${url}${maps}`, shape);
  const path = `/v1/sessions/${session}/fds/${fd}`;
  await fetch(`${url}${path}`, { method: "DELETE" });
  const update = pairs(BATCH, u32, () => u32(inner_map_fd as number));
  return { maps, path, shape: JSON.stringify(shape), update };
}

/** BPF_BTF_LOAD of an integer and structs of as many members of it as fit. */
function btf(bytes: number): string {
  const WORDS = 4;
  const structs: Buffer[] = [];
  let left = Math.floor(bytes / WORDS) - 16;
  while (left > 3) {
    const members = Math.min(MEMBERS, Math.floor((left - 3) / 3));
    const words = new Uint32Array(3 + members * 3);
    words.set([0, ((4 << 24) | members) >>> 0, 4]);
    for (let at = 0; at < members; at++) words[3 + at * 3 + 1] = 1;
    structs.push(Buffer.from(words.buffer));
    left -= words.length;
  }
  const types = Buffer.concat([Buffer.from(Uint32Array.of(0, 1 << 24, 4, 32).buffer), ...structs]);
  const header = Buffer.alloc(24);
  header.writeUInt16LE(0xeb9f, 0);
  header[2] = 1;
  for (const [at, value] of [
    [4, 24],
    [12, types.length],
    [16, types.length],
    [20, 1],
  ] as const)
    header.writeUInt32LE(value, at);
  const blob = Buffer.concat([header, types, Buffer.alloc(1)]);
  return JSON.stringify({ cmd: "BPF_BTF_LOAD", attr: { btf: blob.toString("hex"), btf_size: blob.length } });
}
