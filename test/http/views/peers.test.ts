import { test } from "tap";
import { Service } from "../service.ts";

async function start(t: Parameters<typeof Service.start>[0]) {
  const service = await Service.start(t);
  const send = async (peer: string, method: string, url: string, payload?: object) => {
    const answer = await service.app.inject({
      method: method as "GET",
      url,
      remoteAddress: peer,
      ...(payload && { payload }),
    });
    return answer.json();
  };
  const events = async () =>
    (await send("10.0.0.9", "GET", "/v1/events?limit=1000")).events as {
      cmd: string;
      peer: string;
      attr: object | null;
    }[];
  return { service, send, events };
}

const HASH = { map_type: "BPF_MAP_TYPE_HASH", key_size: 4, value_size: 4, max_entries: 4 };

test("every event tells its peer: in attr where the session does not say it", async (t) => {
  const { service, send, events } = await start(t);
  await send("10.0.0.1", "POST", "/v1/sessions", {});
  await send("10.0.0.1", "POST", "/v1/sessions/1/maps", HASH);
  await send("10.0.0.1", "PUT", "/v1/sessions/1/fds/3/elements/00000001", { value: "00000002" });
  await send("10.0.0.2", "PUT", "/v1/sessions/1/fds/3/elements/00000001", { value: "00000003" });
  await send("10.0.0.2", "PUT", "/v1/maps/1/elements/00000001", { value: "00000004" });
  await send("10.0.0.2", "PUT", "/v1/maps/1/mirror", { policy: "report", interval_seconds: 0 });
  await send("10.0.0.2", "POST", "/v1/maps/1/restore", { at: 3 });
  await send("10.0.0.3", "DELETE", "/v1/sessions/1");
  const told = await events();
  t.same(
    told.map(({ cmd, peer }) => [cmd, peer]),
    [
      ["SESSION_OPEN", "10.0.0.1"],
      ["BPF_MAP_CREATE", "10.0.0.1"],
      ["BPF_MAP_UPDATE_ELEM", "10.0.0.1"],
      ["BPF_MAP_UPDATE_ELEM", "10.0.0.2"],
      ["BPF_MAP_UPDATE_ELEM", "10.0.0.2"],
      ["MIRROR_POLICY", "10.0.0.2"],
      ["BPF_MAP_UPDATE_BATCH", "10.0.0.2"],
      ["CLOSE", "10.0.0.3"],
      ["SESSION_END", "10.0.0.3"],
    ],
    "also when the session has ended",
  );
  const attrs = service.log.rows.map(({ attr }) => attr);
  t.equal(attrs[2], null, "what the session says is not said again");
  t.equal(attrs[4], '{"peer":"10.0.0.2"}');
  t.equal(told[4]?.attr, null, "it is shown in one place");
});

test("a session that lives says its peer, and one that says none has none", async (t) => {
  const { service, send, events } = await start(t);
  await send("10.0.0.1", "POST", "/v1/sessions", {});
  await send("10.0.0.1", "POST", "/v1/sessions/1/maps", HASH);
  t.equal((await events()).at(-1)?.peer, "10.0.0.1");
  service.engine.run([{ cmd: 4096, session: 0, caller: "anonymous", attr: { name: "", ttlMs: 60_000 } }]);
  await send("10.0.0.7", "POST", "/v1/sessions/2/maps", HASH);
  t.match((await events()).slice(-2), [
    { cmd: "SESSION_OPEN", peer: null },
    { cmd: "BPF_MAP_CREATE", peer: "10.0.0.7" },
  ]);
});

test("an import has the peer of who asks for it", async (t) => {
  const { send, service, events } = await start(t);
  await send("10.0.0.1", "POST", "/v1/sessions", {});
  const lines = (await service.app.inject({ url: "/v1/events", headers: { accept: "application/x-ndjson" } })).body;
  const answer = await service.app.inject({
    method: "POST",
    url: "/v1/replays/import",
    remoteAddress: "10.0.0.5",
    headers: { "content-type": "application/x-ndjson" },
    payload: lines,
  });
  t.equal(answer.statusCode, 200, answer.body);
  t.match((await events()).at(-1), { cmd: "SESSION_OPEN", peer: "10.0.0.5" });
});
