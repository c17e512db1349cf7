/** The syscall door, POST /v1/sessions/{session}/bpf: commands and fields as bpf(2) has them. */

import { readDoorBody } from "../../codec/body.ts";
import { doorAnswer, readDoor } from "../../codec/door.ts";
import { withHex } from "../../codec/elements.ts";
import { type Action, cmdNumber } from "../../syscall/command.ts";
import { commandFacts } from "../../syscall/command_facts.ts";
import type { Outcome } from "../../syscall/outcome.ts";
import { body, problems, ran } from "../schemas/answers.ts";
import { DoorAnswerSchema, DoorRequestSchema } from "../schemas/attr.ts";
import { SessionParams } from "../schemas/fields.ts";
import { asAllowed, checkScopes } from "../server/access.ts";
import { type Bulk, sendJson } from "../server/bulk.ts";
import { type CommandParts, run } from "../server/commands.ts";
import { outcomeBytes, SMALL_BYTES } from "../server/flight.ts";
import type { App, RouteOptions } from "../server/instance.ts";
import { refused } from "../server/problems.ts";
import { scopesOfCommand } from "../server/route_scopes.ts";
import { bodyByHand } from "../server/validation.ts";

const NOTHING = Buffer.alloc(0);

/** The JSON of a large answer, in pieces: `doorAnswer` gets empty buffers, and the hex digits are filled in later. */
function doorText(action: Action, outcome: Outcome, seq: number): Iterable<string> {
  const { key, value } = outcome;
  const answer = doorAnswer(action, { ...outcome, key: key === null ? null : NOTHING, value: value && NOTHING }, seq);
  const { attr } = answer;
  const bytes = { keys: key, value, next_key: value, info: value, values: value } as const;
  const fields = Object.entries(attr).flatMap(([name, text]): [string, Buffer][] => {
    const given = bytes[name as keyof typeof bytes];
    return text === "" && given != null ? [[name, given]] : [];
  });
  return withHex(JSON.stringify(answer), fields);
}

type DoorParts = CommandParts & Bulk;

export async function doorRoutes(app: App, { parts }: RouteOptions<DoorParts>): Promise<void> {
  app.post("/sessions/:session/bpf", {
    schema: {
      operationId: "bpf",
      summary: "Run a command of bpf(2)",
      description:
        "A command that ran is answered with 200, whatever its errno. A command that bpf(2) does not have is refused with EINVAL.",
      tags: ["syscall door"],
      params: SessionParams,
      body: body(DoorRequestSchema, {
        cmd: "BPF_MAP_UPDATE_ELEM",
        attr: { map_fd: 3, key: "01000000", value: "2a000000", flags: 0 },
      }),
      response: {
        200: ran("The return value, the errno, and the output fields of the command.", DoorAnswerSchema, {
          ret: 0,
          errno: null,
          seq: 17,
          attr: {},
        }),
        ...problems({ command: true, session: true, body: true }),
      },
    },
    validatorCompiler: bodyByHand,
    handler: async (request, reply) => {
      const asked = readDoor(readDoorBody(request.body));
      checkScopes(parts, request, scopesOfCommand(cmdNumber(asked)));
      if (commandFacts(cmdNumber(asked))?.takes === true) checkScopes(parts, request, ["read"]);
      const action = asAllowed(parts, request, asked);
      const command = { ...action, session: request.params.session, caller: request.caller };
      const { outcome, seq } = await run(parts, reply, command);
      if (outcome.out?.session !== undefined) throw refused({ cmd: cmdNumber(command) }, outcome, seq);
      if (outcomeBytes(outcome) <= SMALL_BYTES) return doorAnswer(action, outcome, seq);
      return sendJson(parts, reply, doorText(action, outcome, seq), outcomeBytes(outcome));
    },
  });
}
