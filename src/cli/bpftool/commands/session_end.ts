import { Refused } from "../../../client/api.ts";
import type { Call } from "../call.ts";
import { refusal } from "../failure.ts";
import { must, readKeywords } from "../keywords.ts";
import { numberOf } from "./session_list.ts";

/** session end id ID */
export async function sessionEnd({ api, output, words }: Call): Promise<void> {
  const { id } = readKeywords(words, { id: "ID" });
  try {
    await api.send("DELETE", `/v1/sessions/${numberOf(must(id, "id"))}`);
  } catch (error) {
    throw error instanceof Refused ? refusal("can't end the session", error) : error;
  }
  output.json?.scalar(null);
}
