import { Refused } from "../../../client/api.ts";
import type { Call } from "../call.ts";
import { refusal } from "../failure.ts";
import { readKeywords } from "../keywords.ts";
import { numberOf } from "./session_list.ts";

/** session create [name TEXT] [ttl SECONDS] [pid PID] */
export async function sessionCreate({ api, output, words }: Call): Promise<void> {
  const { name, ttl, pid } = readKeywords(words, { name: "TEXT", ttl: "SECONDS", pid: "PID" });
  let opened: { readonly id: number };
  try {
    opened = await api.send("POST", "/v1/sessions", {
      ...(name !== undefined && { name }),
      ...(ttl !== undefined && { ttl_seconds: numberOf(ttl) }),
      ...(pid !== undefined && { process: { pid: numberOf(pid) } }),
    });
  } catch (error) {
    throw error instanceof Refused ? refusal("can't open a session", error) : error;
  }
  if (output.json === null) output.line(String(opened.id));
  else output.json.value(opened);
}
