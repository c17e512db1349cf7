import type { Api } from "../../client/api.ts";

/** Long enough for a few requests; if the command is killed, its session ends by itself. */
const TTL_SECONDS = 60;

/** Opens a session for a command, and ends it after `use`, which gets its path. */
export async function inSession<Answer>(
  api: Api,
  name: string,
  use: (session: string) => Promise<Answer>,
): Promise<Answer> {
  const { id } = await api.send<{ id: number }>("POST", "/v1/sessions", { name, ttl_seconds: TTL_SECONDS });
  const session = `/v1/sessions/${id}`;
  const answer = await use(session).catch(async (error: unknown) => {
    // What has failed first is told; a session that cannot be ended ends by itself.
    await api.send("DELETE", session).catch(() => {});
    throw error;
  });
  await api.send("DELETE", session);
  return answer;
}
