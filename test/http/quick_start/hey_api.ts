import { client } from "./hey_api_client/client.gen.ts";
import * as api from "./hey_api_client/sdk.gen.ts";

/** The README's quick start by a client that @hey-api/openapi-ts has made. */
client.setConfig({ baseUrl: process.argv[2] });

const json = { map_type: "BPF_MAP_TYPE_HASH", map_name: "ports", key_size: 4, value_size: 4, max_entries: 16 };
const opened = await api.openSession({ body: { name: "quick start" }, throwOnError: true });
const { id: session } = opened.data;
const created = await api.createMap({ path: { session }, body: json, throwOnError: true });
const { fd } = created.data;

const [http, https] = ["50000000", "bb010000"].map((key) => ({ session, fd, key })) as [Element, Element];
await api.updateElement({ path: http, body: { value: "2a000000" }, throwOnError: true });
const put = await api.updateElement({ path: https, body: { value: "2b000000" }, throwOnError: true });
const looked = await api.lookupElement({ path: http });
const listed = await api.listElements({ path: { session, fd } });
await api.deleteElement({ path: https, throwOnError: true });
const gone = await api.lookupElement({ path: https });

const pathname = "/sys/fs/bpf/ports";
await api.pinMap({ path: { session, fd }, body: { pathname }, throwOnError: true });
await api.createMap({ path: { session }, body: { ...json, map_name: "gone" }, throwOnError: true });
await api.endSession({ path: { session }, throwOnError: true });
const maps = await api.listMaps();
const map = `pinned:${pathname}`;
const pinned = await api.listElementsOfMap({ path: { map } });
const batch = await api.updateBatchOfMap({
  path: { map },
  body: { elements: [{ key: "16000000", value: "2c000000" }] },
  throwOnError: true,
});
const refused = await api.listEvents({ query: { map: "1", errno: "ENOENT" } });
const told = await api.listEvents({ query: { session: 1, limit: 3 } });
const past = await api.listElementsOfMap({ path: { map: "1" }, query: { at: String(put.data.seq) } });

interface Element {
  session: number;
  fd: number;
  key: string;
}

process.stdout.write(
  JSON.stringify({
    session,
    lease: opened.data.lease,
    process: opened.data.process,
    fd,
    value: looked.data?.value,
    elements: listed.data?.elements.map(({ key }) => key),
    errno: gone.error?.errno,
    maps: maps.data?.maps.map(({ name, btf, mirror }) => [name, btf, mirror.state]),
    pinned: pinned.data?.elements.map(({ key, value }) => [key, value]),
    written: batch.data.count,
    refused: refused.data?.events.map(({ cmd, key, attr, out }) => [cmd, key, attr, out]),
    log: told.data?.events.map(({ attr, out }) => [attr?.name, attr?.map_name, out?.map_id]),
    past: past.data?.elements.length,
  }),
);
