/** Builds bodies, answers and problems of the routes' schemas, for the API's document and the serializers. */

import type { TSchema } from "typebox";
import { ERRNO, type Errno } from "../../abi/errno.ts";
import { OctetsSchema } from "./fields.ts";
import { type ProblemDocument, type ProblemExtras, type ProblemName, problemDocument } from "./problems.ts";
import { Type } from "./type.ts";

interface Media {
  readonly schema: TSchema;
  readonly example?: unknown;
  readonly examples?: Readonly<Record<string, object>>;
}

interface Answer {
  readonly description: string;
  readonly headers?: Record<string, TSchema>;
  readonly content?: Record<string, Media>;
}

const SEQ_HEADER = {
  "mapledger-seq": Type.Integer({
    description: "Seq of the event that records the command; of a read with `at`, of the last event that it sees.",
  }),
};

/** The JSON answer to a command, whose seq stands in a header, too. */
export function ran(description: string, schema: TSchema, example: unknown): Answer {
  return { ...told(description, schema, example), headers: SEQ_HEADER };
}

/** Any other JSON answer. */
export function told(description: string, schema: TSchema, example: unknown): Answer {
  return { description, content: { "application/json": { schema, example } } };
}

export const octets = { schema: OctetsSchema, example: "*\u0000\u0000\u0000" };

/** The schema of a body, with an example. Bodies that codec/body.ts reads are not validated by it: see `bodyByHand`. */
export function body<Schema extends TSchema>(schema: Schema, example: unknown): Schema {
  return { ...schema, examples: [example] };
}

/** Problems of every operation. */
const ALWAYS = [
  "history-behind",
  "part-failed",
  "disk-full",
  "unauthorized",
  "foreign-page",
  "scope-missing",
  "bug",
  "unavailable",
  "too-many-bytes",
  "invalid-input",
] as const;
/** Further problems of operations that run a command. */
const COMMAND = ["busy", "log-failed", "outcome-unknown", "read-only"] as const;
/** Further problems of operations in a session. */
const IN_SESSION = ["no-such-session", "session-ended", "session-foreign"] as const;
/** Further problems of operations that take a body. */
const WITH_BODY = ["body-too-large", "unsupported-media-type"] as const;

type Name = ProblemName | Errno;

/** The problems of an operation, by status. `more`: problems and errnos of its own. */
export function problems(
  is: { readonly command?: true; readonly session?: true; readonly body?: true; readonly path?: true },
  ...more: readonly Name[]
): Record<number, Answer> {
  const names: readonly Name[] = [
    ...ALWAYS,
    ...(is.command ? COMMAND : []),
    ...(is.session ? IN_SESSION : []),
    ...(is.body ? WITH_BODY : []),
    ...more,
  ];
  const byStatus = new Map<number, Record<string, { value: ProblemDocument }>>();
  for (const name of names) {
    const value = problemDocument(name, ...exampleOf(name));
    const examples = byStatus.get(value.status) ?? {};
    examples[name] = { value };
    byStatus.set(value.status, examples);
  }
  const answers: Record<number, Answer> = {};
  for (const [status, examples] of [...byStatus].sort(([a], [b]) => a - b)) {
    const titles = Object.values(examples).map(({ value }) => value.title);
    answers[status] = {
      description: `A problem document. ${[...new Set(titles)].join("; ")}.`,
      content: { "application/problem+json": { schema: Type.Ref("Problem"), examples } },
    };
  }
  return answers;
}

/** Detail and further fields of a problem's example. */
function exampleOf(name: Name): [detail: string, extras: ProblemExtras] {
  if (name === "archived") return ["events up to 100000 are archived", { oldest_seq: 100_001 }];
  if (name === "history-behind") return [EXAMPLES[name] as string, { reached_seq: 250_000 }];
  if (Object.hasOwn(ERRNO, name))
    return [EXAMPLES[name] ?? "the rule that was broken, and the numbers", { errno: name, seq: 17 }];
  return [EXAMPLES[name] ?? "the reason for the refusal", {}];
}

const EXAMPLES: Partial<Record<Name, string>> = {
  "invalid-input": 'key: hex digits required, found "x" at 2',
  unauthorized: "the request has no bearer token",
  "foreign-page": "a page of http://example.org sent this request",
  "scope-missing": "bob has none of these scopes: write",
  "read-only": "the service is read-only: it was started with --read-only",
  "session-foreign": "session 7 is another caller's",
  "no-process": "there is no process 4711",
  "process-foreign": "process 1 is of uid 0, the client of 1000",
  "process-hidden": "reading /proc of process 7, which hidepid= hides from the service: EPERM: it needs CAP_SYS_PTRACE",
  "no-such-session": "there is no session 7",
  "no-such-event": "there is no event 1000: the log ends at 999",
  "no-such-tile": "the tree has no tile 0/000: its size is 0",
  "not-cosigned": "no checkpoint has 2 cosignatures of known witnesses",
  "foreign-position":
    "after: the position is of another life of this log: a backup was restored, and the log has continued differently; begin again without a position, or with after=0 for everything that the log has",
  "history-behind": "the history is being made: it has 250000 of 1000000 events",
  "part-failed": "the history has failed, and is tried again: disk I/O error",
  "outcome-unknown": "the log could not be synced: whether the command is recorded is unknown",
  "log-contradicted": "event 17 in the log is not the one that the tree has",
  "archive-running": "another job is running",
  "nothing-to-archive": "nothing to archive: the oldest event is 100001",
  "cannot-archive": "the log ends at event 999: there is none before 2000 yet",
  "session-ended": "session 7 has ended",
  "body-too-large": "the body is larger than 67108864 bytes",
  "unsupported-media-type": 'required: application/json such as {"value":"2a000000"}; found "text/plain"',
  "range-not-satisfiable": "bytes=8192-: the memory has 4096 bytes",
  bug: "the request failed inside the service; the service's log has the error",
  busy: "10000 commands with 1234567 bytes are waiting",
  "too-many-jobs": "quota of jobs: bob has 4 of 4, 1 more required (MAPLEDGER_CALLER_JOBS_MAX)",
  "too-many-replays": "4 replays are already running (limit 4)",
  "target-not-named": "MAPLEDGER_REPLAY_TARGETS does not name http://127.0.0.1:8621",
  "no-such-replay": "there is no replay 7",
  "too-many-bytes": "268435456 bytes of bodies and answers are in flight (MAPLEDGER_FLIGHT_BYTES_MAX is 268435456)",
  "too-many-streams": "100 streams are open (limit 100, MAPLEDGER_STREAMS_MAX)",
  unavailable: "recovering: 10000 of 20000 events",
  "log-failed": "the log could not be written; nothing was changed",
  "disk-full": "the log's disk is full; nothing was changed",
  ENOENT: "no element has this key",
  EEXIST: "BPF_NOEXIST, but an element has this key",
  E2BIG: "map is full: 1024 of 1024 entries",
  EFAULT: "key has 2 bytes: the command reads 4",
  EINVAL: "the request's key has 5 bytes: this map requires 4",
  EBADF: "fd 9 is not open in session 7",
  EPERM: "the map is frozen",
  EMFILE: "the session's descriptor table is full",
  ENOSPC: "bucket 3 has more elements than count, 1",
  EOPNOTSUPP: "a bloom filter has no keys to walk",
  ENOTSUPP: "BPF_MAP_LOOKUP_AND_DELETE_ELEM is not allowed for this map type",
  ENOMEM: "the map needs 1099511627776 bytes of memory: the machine has 8589934592",
  EAGAIN: "quota of sessions: bob has 10000 of 10000, 1 more required (MAPLEDGER_CALLER_SESSIONS_MAX)",
  EBUSY: "socket 3 is already in a BPF_MAP_TYPE_REUSEPORT_SOCKARRAY",
};
