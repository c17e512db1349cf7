import { Type } from "typebox";
import { readDoorBody } from "../../codec/body.ts";
import { doorAnswer, readDoor } from "../../codec/door.ts";
import { checkScopes } from "../access.ts";
import { body, problems, ran } from "../answers.ts";
import { DoorRequestSchema } from "../attr_schemas.ts";
import { type App, type RouteOptions, run } from "../parts.ts";
import { refused } from "../problems.ts";
import { COMMAND_SCOPES, OTHER_COMMANDS } from "../route_scopes.ts";
import { SessionParams } from "../schemas.ts";
import { bodyByHand } from "../validation.ts";

/** The syscall door: bpf(2) as it is, for those who know it. */
export async function doorRoutes(app: App, { parts }: RouteOptions): Promise<void> {
  app.post("/sessions/:session/bpf", {
    schema: {
      operationId: "bpf",
      summary: "bpf(2)",
      description: "A command that ran is 200, whatever its errno. A command that bpf(2) does not know is EINVAL.",
      tags: ["syscall door"],
      params: SessionParams,
      body: body(DoorRequestSchema, {
        cmd: "BPF_MAP_UPDATE_ELEM",
        attr: { map_fd: 3, key: "01000000", value: "2a000000", flags: 0 },
      }),
      response: {
        200: ran("The command ran.", Type.Ref("DoorAnswer"), { ret: 0, errno: null, seq: 17, attr: {} }),
        ...problems({ command: true, session: true, body: true }),
      },
    },
    validatorCompiler: bodyByHand,
    handler: async (request, reply) => {
      const action = readDoor(readDoorBody(request.body));
      checkScopes(parts, request, COMMAND_SCOPES.get(action.cmd) ?? OTHER_COMMANDS);
      const command = { ...action, session: (request.params as { session: number }).session, caller: request.caller };
      const { outcome, seq } = await run(parts, reply, command);
      if (outcome.out?.session !== undefined) throw refused(command, outcome, seq);
      return doorAnswer(action, outcome, seq);
    },
  });
}
