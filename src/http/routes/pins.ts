import { CMD } from "../../abi/service.ts";
import type { Settings } from "../../config.ts";
import { problems, ran, told } from "../schemas/answers.ts";
import { afterName, CLOSED, LIST_MAX, limit, nullable, PathnameParams } from "../schemas/fields.ts";
import { Type } from "../schemas/type.ts";
import { must } from "../server/commands.ts";
import type { App, RouteOptions } from "../server/instance.ts";
import { AS_OF, at, type ReadParts, stateOf } from "../views/as_of.ts";
import { pinJson } from "../views/json.ts";
import { readPathname } from "../views/targets.ts";

const TAGS = ["pins"];
const PAGE_DEFAULT = 100;
const ERRNOS = [
  "ENOENT",
  "EEXIST",
  "EINVAL",
  "EPERM",
  "EACCES",
  "EISDIR",
  "ENOTDIR",
  "ENOTEMPTY",
  "EBUSY",
  "ENOSPC",
  "ENAMETOOLONG",
] as const;

interface PinParts extends ReadParts {
  readonly settings: Pick<Settings, "pageElementsMax">;
}

/** Pins and directories of bpffs. */
export async function pinRoutes(app: App, options: RouteOptions<PinParts>): Promise<void> {
  listPins(app, options);
  listDirectories(app, options);
  for (const name in CHANGES) changePath(app, options, name as keyof typeof CHANGES);
}

const PinPage = Type.Object(
  { pins: Type.Array(Type.Ref("Pin")), next: nullable("string") },
  { $id: "PinPage", ...CLOSED },
);

function listPins(app: App, { parts }: RouteOptions<PinParts>): void {
  app.get("/pins", {
    schema: {
      operationId: "listPins",
      summary: "List pins",
      tags: TAGS,
      querystring: pageQuery(parts, "/sys/fs/bpf/counters"),
      response: {
        200: told("A page of pins, ordered by path.", PinPage, {
          pins: [{ pathname: "/sys/fs/bpf/counters", map_id: 1 }],
          next: null,
        }),
        ...problems({}, ...AS_OF),
      },
    },
    handler: async (request, reply) => {
      const query = listQuery(request.query);
      const pins = await stateOf(parts, request, reply).query("pins", query);
      return { pins: pins.map(pinJson), next: pins.length === query.limit ? (pins.at(-1)?.pathname ?? null) : null };
    },
  });
}

function listDirectories(app: App, { parts }: RouteOptions<PinParts>): void {
  app.get("/directories", {
    schema: {
      operationId: "listDirectories",
      summary: "List directories below /sys/fs/bpf",
      tags: TAGS,
      querystring: pageQuery(parts, "/sys/fs/bpf/app"),
      response: {
        200: told(
          "A page of directories, ordered by path.",
          Type.Object(
            { directories: Type.Array(Type.String()), next: nullable("string") },
            { $id: "DirectoryPage", ...CLOSED },
          ),
          { directories: ["/sys/fs/bpf/app"], next: null },
        ),
        ...problems({}, ...AS_OF),
      },
    },
    handler: async (request, reply) => {
      const query = listQuery(request.query);
      const directories = await stateOf(parts, request, reply).query("directories", query);
      return { directories, next: directories.length === query.limit ? (directories.at(-1) ?? null) : null };
    },
  });
}

const pageQuery = ({ settings }: PinParts, example: string) =>
  Type.Object({ after: afterName(example), limit: limit(settings.pageElementsMax, PAGE_DEFAULT), at });

function listQuery({ after, limit }: { after: string; limit: number }): { after: string; limit: number } {
  return { after, limit: Math.min(limit, LIST_MAX) };
}

const CHANGES = {
  unlinkPin: {
    cmd: CMD.UNLINK,
    method: "DELETE",
    url: "/pins/:pathname",
    summary: "Remove a pin",
    description: "unlink(2). A map that nothing else holds is freed.",
    done: "The path of the removed pin, and the seq of the event.",
  },
  makeDirectory: {
    cmd: CMD.MKDIR,
    method: "PUT",
    url: "/directories/:pathname",
    summary: "Make a directory",
    description:
      "mkdir(2) on bpffs. EEXIST also if the mirror's directory on the machine's bpffs has an entry at this path that is no " +
      "directory, or if the path is reserved there.",
    done: "The path of the new directory, and the seq of the event.",
  },
  removeDirectory: {
    cmd: CMD.RMDIR,
    method: "DELETE",
    url: "/directories/:pathname",
    summary: "Remove an empty directory",
    description: "rmdir(2) on bpffs.",
    done: "The path of the removed directory, and the seq of the event.",
  },
} as const;

function changePath(app: App, { parts }: RouteOptions<PinParts>, operationId: keyof typeof CHANGES): void {
  const { cmd, method, url, summary, description, done } = CHANGES[operationId];
  app.route({
    method,
    url,
    schema: {
      operationId,
      summary,
      description,
      tags: TAGS,
      params: PathnameParams,
      response: {
        200: ran(done, Type.Ref("PinPath"), { pathname: "/sys/fs/bpf/counters", seq: 17 }),
        ...problems({ command: true }, ...ERRNOS),
      },
    },
    handler: async ({ params, caller }, reply) => {
      const pathname = readPathname(params.pathname, "pathname");
      const { outcome, seq } = await must(parts, reply, { cmd, session: 0, caller, attr: { pathname } });
      return { pathname: outcome.out?.pathname ?? pathname, seq };
    },
  });
}
