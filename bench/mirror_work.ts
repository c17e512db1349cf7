/** What a caller waits for his PUTs to a mirrored map while all of the map is compared with its kernel map. */

import { Caller } from "./caller.ts";
import { postJson } from "./load.ts";
import { fill, HASH, OctetClient } from "./octets.ts";
import { startBenchService } from "./service.ts";
import type { Figure } from "./targets.ts";

/** Of each comparison. */
const TIMES = 5;

/** The figures of one round, with a hash of so many elements. */
export async function mirrorWork(elements: number): Promise<readonly Figure[]> {
  const service = await startBenchService("required");
  const client = new OctetClient(service.url);
  const caller = await Caller.prepare(service.url);
  try {
    const { id } = await postJson(`${service.url}/v1/sessions`, { name: "mirror", ttl_seconds: 86_400 });
    const { fd, map_id: map } = await postJson(`${service.url}/v1/sessions/${id}/maps`, {
      ...HASH,
      max_entries: elements,
    });
    await fill(client, `/v1/sessions/${id}/fds/${fd}`, elements);
    const figures: Figure[] = [];
    const compare = async (what: string, once: () => Promise<unknown>): Promise<void> => {
      const started = performance.now();
      const work = async (): Promise<number> => {
        for (let at = 0; at < TIMES; at++) await once();
        return performance.now() - started;
      };
      const [waits, ms] = await caller.putBeside(work());
      figures.push(
        { name: `${what} of ${elements}, elements/s`, figure: (elements * TIMES * 1000) / ms },
        { name: `${what} of ${elements}, PUT p99 ms beside it`, figure: waits.p99, target: { most: 50 } },
        { name: `${what} of ${elements}, PUT most ms beside it`, figure: waits.most },
      );
    };
    await compare("resync", () => postJson(`${service.url}/v1/maps/${map}/mirror/resync`, {}));
    await compare("drift", async () => (await fetch(`${service.url}/v1/maps/${map}/drift`)).json());
    return figures;
  } finally {
    caller.close();
    client.close();
    await service.stop();
  }
}
