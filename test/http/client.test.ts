import createClient from "openapi-fetch";
import { test } from "tap";
import type { paths } from "./generated/api.ts";
import { Service } from "./service.ts";

/** End to end: over a socket, by a client whose types openapi-typescript made of the document. */
test("a generated client does what the README's quick start does", async (t) => {
  const service = await Service.start(t);
  const baseUrl = await service.app.listen({ host: "127.0.0.1", port: 0 });
  const client = createClient<paths, "application/json" | "application/problem+json">({ baseUrl });

  const opened = await client.POST("/v1/sessions", { body: { name: "client" } });
  const session = opened.data?.id as number;
  t.equal(opened.response.status, 201);

  const created = await client.POST("/v1/sessions/{session}/maps", {
    params: { path: { session } },
    body: { map_type: "BPF_MAP_TYPE_HASH", key_size: 4, value_size: 4, max_entries: 2, map_name: "counters" },
  });
  t.match(created.data, { fd: 3, map_id: 1 });
  const fd = created.data?.fd as number;

  const path = { session, fd, key: "01000000" };
  const header = { "if-none-match": "*" };
  const one = "/v1/sessions/{session}/fds/{fd}/elements/{key}";
  const put = await client.PUT(one, { params: { path, header }, body: { value: "2a000000" } });
  t.equal(put.data?.seq, 3);
  const again = await client.PUT(one, { params: { path, header }, body: { value: "2a000000" } });
  t.match(again.error, { status: 409, errno: "EEXIST", seq: 4 });
  t.equal((await client.GET(one, { params: { path } })).data?.value, "2a000000");

  const map = "name:counters";
  const page = await client.GET("/v1/maps/{map}/elements", { params: { path: { map }, query: { limit: 10 } } });
  t.same(page.data?.elements, [{ key: "01000000", value: "2a000000" }]);
  const batch = await client.POST("/v1/maps/{map}/batch/update", {
    params: { path: { map } },
    body: {
      elements: [
        { key: "02000000", value: "2b000000" },
        { key: "03000000", value: "2c000000" },
      ],
    },
  });
  t.match(batch.error, { errno: "E2BIG", count: 1, detail: "map is full: 2 of 2 entries" });

  const pathname = "/sys/fs/bpf/counters";
  t.equal(
    (await client.POST("/v1/maps/{map}/pin", { params: { path: { map } }, body: { pathname } })).data?.pathname,
    pathname,
  );
  t.ok((await client.DELETE("/v1/sessions/{session}", { params: { path: { session } } })).data?.seq);
  const pinned = await client.GET("/v1/maps/{map}", { params: { path: { map: `pinned:${pathname}` } } });
  t.match(pinned.data, { name: "counters", entries: 2, holds: 1, pinned: [pathname] });
  const gone = await client.GET("/v1/sessions/{session}", { params: { path: { session } } });
  t.equal(gone.error?.title, "The session has ended");

  const events = await client.GET("/v1/events", { params: { query: { errno: "EEXIST" } } });
  t.match(events.data?.events, [{ seq: 4, cmd: "BPF_MAP_UPDATE_ELEM", key: "01000000" }]);
  t.equal((await client.DELETE("/v1/pins/{pathname}", { params: { path: { pathname } } })).response.status, 200);
  t.same((await client.GET("/v1/maps")).data, { maps: [], next: null });
});
