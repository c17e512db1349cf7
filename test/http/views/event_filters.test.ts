import t from "tap";
import { Service } from "../service.ts";

t.test("changes and failures alone are found among reads, in pages, exports and streams", async (t) => {
  const service = await Service.start(t);
  const { id: session } = (await service.send("POST", "/v1/sessions", {})).json();
  const attr = { map_type: "BPF_MAP_TYPE_HASH", map_name: "one", key_size: 4, value_size: 4, max_entries: 1 };
  await service.send("POST", `/v1/sessions/${session}/maps`, attr);
  const element = (n: number): string => `/v1/maps/1/elements/0${n}000000`;
  await service.send("PUT", element(1), { value: "01000000" });
  await service.send("GET", element(1));
  await service.send("PUT", element(2), { value: "01000000" });
  await service.send("GET", element(3));
  await service.send("DELETE", element(1));
  const cmds = async (query: string): Promise<unknown[]> => {
    const { events } = (await service.send("GET", `/v1/events?limit=100&${query}`)).json();
    return events.map(({ cmd, errno }: { cmd: string; errno: string | null }) => (errno === null ? cmd : [cmd, errno]));
  };
  const changes = ["BPF_MAP_CREATE", "BPF_MAP_UPDATE_ELEM", "BPF_MAP_DELETE_ELEM"];
  const failures = [
    ["BPF_MAP_UPDATE_ELEM", "E2BIG"],
    ["BPF_MAP_LOOKUP_ELEM", "ENOENT"],
  ];
  t.strictSame(await cmds("changes=true"), changes);
  t.strictSame(await cmds("failed=true"), failures);
  t.strictSame(await cmds("failed=true&changes=true"), []);
  t.strictSame(await cmds("failed=false&changes=false"), ["SESSION_OPEN", "BPF_MAP_LOOKUP_ELEM"]);
  t.strictSame(await cmds("changes=true&before=5"), changes.slice(0, 2));
  const lines = await service.send("GET", "/v1/events?changes=true", undefined, { accept: "application/x-ndjson" });
  t.equal(lines.payload.trimEnd().split("\n").length, changes.length);
  t.equal((await service.send("GET", "/v1/events?changes=1")).statusCode, 400);
});
