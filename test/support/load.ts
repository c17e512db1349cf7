/** Asks the service; throws what it answered where that is no success. */
export async function call(url: string, method: string, path: string, body?: object): Promise<Record<string, unknown>> {
  const init =
    body === undefined ? {} : { headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  const response = await fetch(`${url}${path}`, { method, ...init });
  const answer = (await response.json()) as Record<string, unknown>;
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${JSON.stringify(answer)}`);
  return answer;
}

/** Session 1 with a hash at fd 3, an LRU hash at 4 and a queue at 5; the hash is pinned. */
export async function prepare(url: string): Promise<void> {
  await call(url, "POST", "/v1/sessions", { ttl_seconds: 3600 });
  const shapes = [
    { map_type: "BPF_MAP_TYPE_HASH", map_name: "kept", key_size: 4, value_size: 8, max_entries: 500 },
    { map_type: "BPF_MAP_TYPE_LRU_HASH", map_name: "recent", key_size: 4, value_size: 8, max_entries: 20 },
    { map_type: "BPF_MAP_TYPE_QUEUE", map_name: "line", value_size: 8, max_entries: 50 },
  ];
  for (const shape of shapes) await call(url, "POST", "/v1/sessions/1/maps", shape);
  await call(url, "POST", "/v1/sessions/1/fds/3/pin", { pathname: "/sys/fs/bpf/kept" });
}

/** Clients that send commands to a prepared service until they are stopped. */
export class Load {
  answered = 0;
  #stopped = false;
  readonly #clients: Promise<void>[];

  constructor(url: string, clients: number) {
    this.#clients = Array.from({ length: clients }, (_, client) => this.#work(url, client));
  }

  /** Until so many more commands have been answered. */
  async more(count: number): Promise<void> {
    for (const until = this.answered + count; this.answered < until; )
      await Promise.race([new Promise((resolve) => setTimeout(resolve, 10)), Promise.all(this.#clients)]);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#clients);
  }

  /** Writes, reads and refusals. */
  async #work(url: string, client: number): Promise<void> {
    for (let turn = 0; !this.#stopped; turn++) {
      const key = Buffer.from([(client * 31 + turn * 7) % 251, client, 0, 0]).toString("hex");
      const value = Buffer.alloc(8, turn).toString("hex");
      const commands = [
        { cmd: "BPF_MAP_UPDATE_ELEM", attr: { map_fd: 3 + (turn % 2), key, value } },
        { cmd: "BPF_MAP_UPDATE_ELEM", attr: { map_fd: 5, value } },
        { cmd: "BPF_MAP_LOOKUP_AND_DELETE_ELEM", attr: { map_fd: turn % 3 === 0 ? 5 : 3, key } },
        { cmd: "BPF_MAP_LOOKUP_BATCH", attr: { map_fd: 3, count: 5 } },
      ];
      await call(url, "POST", "/v1/sessions/1/bpf", commands[turn % commands.length] as object);
      this.answered++;
    }
  }
}
