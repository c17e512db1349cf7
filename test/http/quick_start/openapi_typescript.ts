import createClient from "openapi-fetch";
import type { paths } from "./openapi_typescript_client.ts";

/** The README's quick start by a client whose types openapi-typescript has made. */
const client = createClient<paths, "application/json" | "application/problem+json">({ baseUrl: process.argv[2] });

const json = { map_type: "BPF_MAP_TYPE_HASH", map_name: "ports", key_size: 4, value_size: 4, max_entries: 16 };
const opened = await client.POST("/v1/sessions", { body: { name: "quick start" } });
const session = opened.data?.id as number;
const created = await client.POST("/v1/sessions/{session}/maps", { params: { path: { session } }, body: json });
const fd = created.data?.fd as number;

const one = "/v1/sessions/{session}/fds/{fd}/elements/{key}";
const [http, https] = ["50000000", "bb010000"].map((key) => ({ session, fd, key })) as [Element, Element];
await client.PUT(one, { params: { path: http }, body: { value: "2a000000" } });
const put = await client.PUT(one, { params: { path: https }, body: { value: "2b000000" } });
const looked = await client.GET(one, { params: { path: http } });
const listed = await client.GET("/v1/sessions/{session}/fds/{fd}/elements", { params: { path: { session, fd } } });
await client.DELETE(one, { params: { path: https } });
const gone = await client.GET(one, { params: { path: https } });

const pathname = "/sys/fs/bpf/ports";
await client.POST("/v1/sessions/{session}/fds/{fd}/pin", { params: { path: { session, fd } }, body: { pathname } });
await client.POST("/v1/sessions/{session}/maps", {
  params: { path: { session } },
  body: { ...json, map_name: "gone" },
});
await client.DELETE("/v1/sessions/{session}", { params: { path: { session } } });
const maps = await client.GET("/v1/maps");
const map = `pinned:${pathname}`;
const pinned = await client.GET("/v1/maps/{map}/elements", { params: { path: { map } } });
const batch = await client.POST("/v1/maps/{map}/batch/update", {
  params: { path: { map } },
  body: { elements: [{ key: "16000000", value: "2c000000" }] },
});
const refused = await client.GET("/v1/events", { params: { query: { map: "1", errno: "ENOENT" } } });
const told = await client.GET("/v1/events", { params: { query: { session: 1, limit: 3 } } });
const at = String(put.data?.seq);
const past = await client.GET("/v1/maps/{map}/elements", { params: { path: { map: "1" }, query: { at } } });

interface Element {
  session: number;
  fd: number;
  key: string;
}

process.stdout.write(
  JSON.stringify({
    session,
    lease: opened.data?.lease,
    process: opened.data?.process,
    fd,
    value: looked.data?.value,
    elements: listed.data?.elements.map(({ key }) => key),
    errno: gone.error?.errno,
    maps: maps.data?.maps.map(({ name, btf, mirror }) => [name, btf, mirror.state]),
    pinned: pinned.data?.elements.map(({ key, value }) => [key, value]),
    written: batch.data?.count,
    refused: refused.data?.events.map(({ cmd, key, attr, out }) => [cmd, key, attr, out]),
    log: told.data?.events.map(({ attr, out }) => [attr?.name, attr?.map_name, out?.map_id]),
    past: past.data?.elements.length,
  }),
);
