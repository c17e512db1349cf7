import * as api from "./orval_client.ts";

/** The README's quick start by a client that orval has made. */
const json = { map_type: "BPF_MAP_TYPE_HASH", map_name: "ports", key_size: 4, value_size: 4, max_entries: 16 };
const opened = good(await api.openSession({ name: "quick start" }), 201);
const { id: session } = opened;
const { fd } = good(await api.createMap(session, json), 201);

const [http, https] = ["50000000", "bb010000"] as const;
good(await api.updateElement(session, fd, http, { value: "2a000000" }), 200);
const put = good(await api.updateElement(session, fd, https, { value: "2b000000" }), 200);
const looked = good(await api.lookupElement(session, fd, http), 200);
const listed = good(await api.listElements(session, fd), 200);
good(await api.deleteElement(session, fd, https), 200);
const gone = await api.lookupElement(session, fd, https);

const pathname = "/sys/fs/bpf/ports";
good(await api.pinMap(session, fd, { pathname }), 200);
good(await api.createMap(session, { ...json, map_name: "gone" }), 201);
good(await api.endSession(session), 200);
const { maps } = good(await api.listMaps(), 200);
const map = `pinned:${pathname}`;
const pinned = good(await api.listElementsOfMap(map), 200);
const batch = good(await api.updateBatchOfMap(map, { elements: [{ key: "16000000", value: "2c000000" }] }), 200);
const refused = good(await api.listEvents({ map: "1", errno: "ENOENT" }), 200);
const told = good(await api.listEvents({ session: 1, limit: 3 }), 200);
const past = good(await api.listElementsOfMap("1", { at: String(put.seq) }), 200);

/** What is answered with a status, of the answers that there may be. */
function good<Answer extends { status: number; data: unknown }, Status extends Answer["status"]>(
  answer: Answer,
  status: Status,
): Extract<Answer, { status: Status }>["data"] {
  if (answer.status !== status) throw new Error(`${answer.status} ${JSON.stringify(answer.data)}`);
  return answer.data;
}

process.stdout.write(
  JSON.stringify({
    session,
    lease: opened.lease,
    process: opened.process,
    fd,
    value: looked.value,
    elements: listed.elements.map(({ key }) => key),
    errno: gone.status === 404 ? gone.data.errno : undefined,
    maps: maps.map(({ name, btf, mirror }) => [name, btf, mirror.state]),
    pinned: pinned.elements.map(({ key, value }) => [key, value]),
    written: batch.count,
    refused: refused.events.map(({ cmd, key, attr, out }) => [cmd, key, attr, out]),
    log: told.events.map(({ attr, out }) => [attr?.name, attr?.map_name, out?.map_id]),
    past: past.elements.length,
  }),
);
