import type { Settings } from "../../config.ts";
import type { MirrorView } from "../../engine/kernel_maps.ts";
import { problems, told } from "../schemas/answers.ts";
import { CLOSED, nullable } from "../schemas/fields.ts";
import { Type } from "../schemas/type.ts";
import type { App, RouteOptions } from "../server/instance.ts";
import type { EngineDoor } from "../server/ports.ts";

const count = (description: string) => Type.Integer({ description });

const VIEW = {
  state: Type.Enum(["on", "off"], { type: "string" }),
  detail: nullable("string", { description: "Why the mirror is off; null: it is on." }),
  owner: nullable("string", {
    description:
      "The ledger that the directory of pins belongs to, if that is another one; null: it is this ledger's, or nobody's.",
  }),
  directory: Type.String({ description: "The directory of bpffs that the mirror pins in." }),
  pins: Type.Array(Type.String(), {
    description: "The mirror's own paths in it; none while the mirror is off.",
  }),
  foreign: Type.Array(Type.String(), {
    description:
      "Other paths in it (while the mirror is off, all paths): at most 1000, and at most 1000 that the mirror has put aside.",
  }),
  foreign_more: Type.Boolean({ description: "There are more such paths than `foreign` has." }),
  unknown: Type.Array(Type.String(), {
    description:
      "Questions that the service cannot ask the machine, with the capability that it lacks: who holds kernel maps (CAP_SYS_ADMIN), or directories that " +
      "are closed to it (CAP_DAC_READ_SEARCH). `pins` and `foreign` lack the pins in closed directories.",
  }),
  maps: Type.Object(
    {
      on: count("Maps whose kernel map follows them."),
      failed: count("Maps whose kernel map refused a change that the mirror tries again."),
      lost: count("Adopted maps whose pin is gone or replaced, or whose kernel map nothing but the mirror holds."),
      waiting: count("Adopted maps whose kernel map no longer exists."),
      off: count("Maps that have no kernel map; if the mirror is off: all maps."),
      unequal: count("Of those that are on: maps that differed from their kernel map when they were compared last."),
    },
    { $id: "MirroredMaps", ...CLOSED, description: "How many maps are in each state of their `mirror`." },
  ),
};
const View = Type.Object(VIEW, { $id: "MirrorStatus", ...CLOSED });

interface MirrorStatusParts {
  readonly engine: Pick<EngineDoor, "query">;
  readonly settings: Pick<Settings, "bpffs">;
}

/** The status of the mirror as a whole. */
export async function mirrorStatusRoutes(
  app: App,
  { parts: { engine, settings } }: RouteOptions<MirrorStatusParts>,
): Promise<void> {
  app.get("/mirror", {
    schema: {
      operationId: "getMirror",
      summary: "Get the status of the mirror",
      description:
        "Says whether kernel maps follow the ledger, lists the pins in the mirror's directory, and counts maps by the state of their " +
        "kernel map.",
      tags: ["mirror"],
      response: {
        200: told("The mirror, its pins, and counts of maps.", View, {
          state: "on",
          detail: null,
          owner: null,
          directory: "/sys/fs/bpf/mapledger",
          pins: ["/sys/fs/bpf/mapledger/by_id/1", "/sys/fs/bpf/mapledger/owner", "/sys/fs/bpf/mapledger/counters"],
          foreign: [],
          foreign_more: false,
          unknown: [],
          maps: { on: 1, failed: 0, lost: 0, waiting: 0, off: 0, unequal: 0 },
        }),
        ...problems({}),
      },
    },
    handler: async () => viewJson(await engine.query("mirror", {}), settings.bpffs),
  });
}

function viewJson({ off, owner, directory, ours, foreign, more, unknown, maps }: MirrorView, root: string): object {
  const state = off === null ? "on" : "off";
  const place = directory === "" ? root : directory;
  return { state, detail: off, owner, directory: place, pins: ours, foreign, foreign_more: more, unknown, maps };
}
