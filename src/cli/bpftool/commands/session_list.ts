import { type Api, Refused } from "../../../client/api.ts";
import type { Call } from "../call.ts";
import { Failure, refusal } from "../failure.ts";
import { readKeywords } from "../keywords.ts";
import { Table } from "../table.ts";

const PAGE = 100;

interface Session {
  readonly id: number;
  readonly name: string;
  readonly caller: string;
  readonly lease: string | null;
  readonly process: { readonly pid: number } | null;
  readonly left_seconds: number | null;
  readonly fd_count: number;
  readonly opened_at: string;
}

/** session show | list [id ID] */
export async function sessionList({ api, at, output, words }: Call): Promise<void> {
  const { id } = readKeywords(words, { id: "ID" });
  const { json } = output;
  const table = new Table(output, ["ID", "NAME", "CALLER", "LEASE", "LEFT", "DESCRIPTORS", "OPENED"]);
  const print = (session: Session): void => {
    if (json === null) table.row(...cellsOf(session));
    else json.value(session);
  };
  try {
    if (id !== undefined) print(await api.get<Session>(`/v1/sessions/${numberOf(id)}`, { at }));
    else {
      json?.open("[");
      for await (const session of sessions(api, at)) print(session);
      json?.close("]");
    }
  } catch (error) {
    throw error instanceof Refused ? refusal("can't get sessions", error) : error;
  }
  table.flush();
}

export function numberOf(id: string): number {
  if (/^[1-9]\d{0,9}$/.test(id)) return Number(id);
  throw new Failure(`can't parse ${id} as ID`);
}

async function* sessions(api: Api, at: Call["at"]): AsyncIterable<Session> {
  for (let after: number | null = 0; after !== null; ) {
    const page: { sessions: Session[]; next: number | null } = await api.get("/v1/sessions", {
      limit: PAGE,
      after,
      at,
    });
    yield* page.sessions;
    after = page.next;
  }
}

function cellsOf(session: Session): readonly string[] {
  const { id, name, caller, lease, process, left_seconds: left, fd_count: fds, opened_at: opened } = session;
  const lives = process === null ? (lease ?? "-") : `process ${process.pid}`;
  return [String(id), name, caller, lives, left === null ? "-" : `${Math.ceil(left)} s`, String(fds), opened];
}
