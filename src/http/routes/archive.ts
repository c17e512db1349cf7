import { InvalidInput } from "../../codec/invalid.ts";
import { type ArchiveJobStatus, ArchiveRefused, type Archiver } from "../../engine/archives.ts";
import type { EventReader } from "../../engine/events.ts";
import type { Jobs } from "../jobs/jobs.ts";
import { body, problems, told } from "../schemas/answers.ts";
import { CLOSED, Moment, nullable } from "../schemas/fields.ts";
import type { ProblemName } from "../schemas/problems.ts";
import { Type } from "../schemas/type.ts";
import type { App, RouteOptions } from "../server/instance.ts";
import { Problem } from "../server/problems.ts";

const TAGS = ["archive"];

const Job = Type.Object(
  {
    state: Type.Enum(["running", "done", "failed"], { type: "string" }),
    before: Type.String({ description: "The seq or moment of the request." }),
    caller: Type.String(),
    directory: Type.String(),
    first: Type.Integer({ description: "The first event that is archived." }),
    through: Type.Integer({ description: "The last event that is archived." }),
    done_events: Type.Integer({ description: "Events that have been written, read back and compared." }),
    seq: nullable("integer", {
      description: "The ARCHIVE event of a job that is done: after it the events are archived.",
    }),
    error: nullable("string", { description: "The reason for a failure. The log still has all events." }),
  },
  { $id: "ArchiveJob", ...CLOSED },
);

const { properties, required } = Job;
const LAST_JOB = { $id: "LastArchiveJob", properties, required, ...CLOSED };

const Archive = Type.Object(
  {
    directory: Type.String({ description: "The directory on the service's machine that events are archived to." }),
    oldest_seq: Type.Integer({ description: "The oldest event that is not archived." }),
    job: nullable("object", { ...LAST_JOB, description: "The last job since the start; null: there was none." }),
  },
  { $id: "ArchiveStatus", ...CLOSED },
);

const JOB_EXAMPLE = {
  state: "running",
  before: "100001",
  caller: "anonymous",
  directory: "/data/archive",
  first: 1,
  through: 100_000,
  done_events: 50_000,
  seq: null,
  error: null,
};

interface ArchiveParts {
  readonly archiver: Archiver;
  readonly jobs: Pick<Jobs, "checkRoom">;
  readonly events: Pick<EventReader, "keptSeq">;
}

/** The job that moves older events from the log to compressed files, and its status. */
export async function archiveRoutes(app: App, { parts }: RouteOptions<ArchiveParts>): Promise<void> {
  beginArchive(app, parts);
  getArchive(app, parts);
}

function beginArchive(app: App, { archiver, jobs }: ArchiveParts): void {
  app.post("/archive", {
    schema: {
      operationId: "beginArchive",
      summary: "Archive events",
      description:
        "Starts a job that moves all events before a seq or a moment to compressed files in MAPLEDGER_ARCHIVE. The job removes them " +
        "from the log after it has read the files back and compared them; an ARCHIVE event records it.",
      tags: TAGS,
      body: body(Type.Object({ before: Moment }, { $id: "BeginArchiveBody", ...CLOSED }), { before: 100_001 }),
      response: {
        202: told("The job, which goes on after this answer.", Job, JOB_EXAMPLE),
        ...problems({ body: true }, "archive-running", "nothing-to-archive", "cannot-archive", "too-many-jobs"),
      },
    },
    handler: async ({ body, caller, peer }, reply) => {
      const { before } = body;
      if (before === 0) throw new InvalidInput("before", "must be more than 0: the first event is 1");
      jobs.checkRoom(caller);
      try {
        return reply.code(202).send(jobJson(await archiver.begin(String(before), { caller, peer })));
      } catch (error) {
        if (!(error instanceof ArchiveRefused)) throw error;
        throw new Problem(REFUSALS[error.why] ?? "cannot-archive", error.message);
      }
    },
  });
}

const REFUSALS: Partial<Record<ArchiveRefused["why"], ProblemName>> = {
  "another job is running": "archive-running",
  "nothing to archive": "nothing-to-archive",
  "the machine has failed": "unavailable",
};

function getArchive(app: App, { archiver, events }: ArchiveParts): void {
  app.get("/archive", {
    schema: {
      operationId: "getArchive",
      summary: "Get the archive's directory and the last job",
      tags: TAGS,
      response: {
        200: told("The directory, the oldest event that is not archived, and the last job.", Archive, {
          directory: "/data/archive",
          oldest_seq: 1,
          job: JOB_EXAMPLE,
        }),
        ...problems({}),
      },
    },
    handler: async () => {
      const { directory, job } = archiver;
      return { directory, oldest_seq: await events.keptSeq(), job: job === null ? null : jobJson(job) };
    },
  });
}

function jobJson({ doneEvents, ...job }: ArchiveJobStatus): object {
  const { state, before, caller, directory, first, through, seq, error } = job;
  return { state, before, caller, directory, first, through, done_events: doneEvents, seq, error };
}
