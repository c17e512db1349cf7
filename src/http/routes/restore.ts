import { readMoment } from "../../codec/moments.ts";
import type { Settings } from "../../config.ts";
import { type RestoreParts, restore } from "../jobs/restore.ts";
import { problems, told } from "../schemas/answers.ts";
import { EventAttr } from "../schemas/events.ts";
import { CLOSED, MapParams, Moment, nullable, nullableHex, seq } from "../schemas/fields.ts";
import { Type } from "../schemas/type.ts";
import type { App, RouteOptions } from "../server/instance.ts";

const TAGS = ["history"];

/** A command of a restore, as the answer shows it. */
const Command = Type.Object(
  {
    cmd: Type.String(),
    map: nullable("integer", { description: "null: the map that the restore creates." }),
    key: nullableHex(),
    value: nullableHex(),
    attr: EventAttr,
  },
  { $id: "RestoreCommand", ...CLOSED },
);

const COMMANDS_MAX = 1000;
const REASON_LENGTH_MAX = 1000;

const ERRNOS = [
  "ENOENT",
  "EINVAL",
  "EPERM",
  "EEXIST",
  "E2BIG",
  "EAGAIN",
  "EMFILE",
  "ENOMEM",
  "ENOSPC",
  "EOPNOTSUPP",
  "EBADF",
] as const;

const EXAMPLE = {
  map: 1,
  at: 17,
  dry_run: true,
  reason: "the deploy of 12:00 emptied it",
  added: 1,
  changed: 0,
  removed: 0,
  commands: [{ cmd: "BPF_MAP_UPDATE_BATCH", map: 1, key: "01000000", value: "2a000000", attr: { count: 1 } }],
  command_count: 1,
  first_seq: null,
  last_seq: null,
  created: null,
};

interface RestoreRouteParts extends RestoreParts {
  readonly settings: Pick<Settings, "pageElementsMax" | "restoreElementsMax">;
}

/** Brings maps back to an earlier moment. */
export async function restoreRoutes(app: App, { parts }: RouteOptions<RestoreRouteParts>): Promise<void> {
  const commandsMax = Math.min(parts.settings.pageElementsMax, COMMANDS_MAX);
  app.post("/maps/:map/restore", {
    schema: {
      operationId: "restoreMap",
      summary: "Bring a map back to an earlier moment",
      description:
        "Runs ordinary commands as one: all of them, with nothing in between, or none. Each command is an event with the reason in its " +
        "`attr`. MAPLEDGER_RESTORE_MAX limits the number of elements. With `dry_run` nothing is run, and the answer shows the commands. " +
        "A freed map is created again, with another id, and pinned where it was pinned then; `session` gets a descriptor of it. The order in which an " +
        "LRU map evicts elements is not restored.",
      tags: TAGS,
      params: MapParams,
      body: Type.Object(
        {
          at: Moment,
          dry_run: Type.Optional(Type.Boolean({ default: false })),
          reason: Type.Optional(
            Type.String({
              maxLength: REASON_LENGTH_MAX,
              default: "",
              description: "The reason, for readers of the log.",
            }),
          ),
          session: Type.Optional(
            Type.Integer({
              minimum: 1,
              maximum: 2 ** 32 - 2,
              description: "A session that gets a descriptor of the map, if it is created.",
            }),
          ),
        },
        {
          $id: "RestoreMapBody",
          ...CLOSED,
          examples: [{ at: 17, reason: "the deploy of 12:00 emptied it", dry_run: true }],
        },
      ),
      response: {
        200: told(
          "The commands of the restore, their counts, and the events that record them.",
          Type.Object(
            {
              map: Type.Integer({ description: "The map that the request names." }),
              at: seq(),
              dry_run: Type.Boolean(),
              reason: Type.String(),
              added: Type.Integer({ description: "Elements that the restore adds." }),
              changed: Type.Integer({ description: "Elements that get another value." }),
              removed: Type.Integer({ description: "Elements that the restore deletes." }),
              commands: Type.Array(Command, {
                description: `The first commands: at most ${commandsMax}, and at most 4 MiB of keys and values.`,
              }),
              command_count: Type.Integer(),
              first_seq: nullable("integer", {
                description: "The first event of the restore; null: no command was run.",
              }),
              last_seq: nullable("integer", {
                description: "The last event of the restore; null: no command was run.",
              }),
              created: nullable("object", {
                $id: "CreatedMap",
                properties: { map_id: Type.Integer(), fd: nullable("integer") },
                required: ["map_id", "fd"],
                ...CLOSED,
                description: "The map that was created; null: none was.",
              }),
            },
            { $id: "MapRestored", ...CLOSED },
          ),
          EXAMPLE,
        ),
        ...problems({ command: true, body: true }, ...ERRNOS, "archived", "no-such-event"),
      },
    },
    handler: (request) => {
      const { at, dry_run: dry = false, reason = "", session = null } = request.body;
      const moment = readMoment(String(at), "at");
      const { map } = request.params;
      return restore(parts, request, { map, at: moment, reason, session, dry, shown: commandsMax });
    },
  });
}
