/**
 * The log's evidence: checkpoints, tiles, proofs, and the key that signs. If MAPLEDGER_PUBLIC_EVIDENCE is on, anybody
 * gets checkpoints and tiles. Requests without the scope `evidence` (`isAnybodys`) then share the limits below.
 */

import { scopeTexts } from "../../access/caller.ts";
import type { Settings } from "../../config.ts";
import { readTilePath, TILE_HASHES } from "../../tlog/tiles.ts";
import type { NoAnswer, TreeReader, WitnessStatus } from "../../tree/ports.ts";
import { octets, problems, told } from "../schemas/answers.ts";
import { CLOSED, nullable } from "../schemas/fields.ts";
import { Type } from "../schemas/type.ts";
import type { App, RouteOptions } from "../server/instance.ts";
import { archivedProblem, Problem } from "../server/problems.ts";
import { type SightParts, sightOf } from "../views/sight.ts";

const TAGS = ["evidence"];
const TEXT = "text/plain; charset=utf-8";
/** A tile never changes: hashes of events do not, and a partial tile is the beginning of the full one. */
const FOR_GOOD = "max-age=31536000, immutable";

const CHECKPOINT = `mapledger/2b4f7f5c-7a2e-4c55-9b7e-8f0f2f7f0d11
17
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

\u2014 mapledger/2b4f7f5c-7a2e-4c55-9b7e-8f0f2f7f0d11 Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
`;

const PUBLIC = "No token is needed if MAPLEDGER_PUBLIC_EVIDENCE is on";

const Cosigned = Type.Optional(
  Type.Integer({
    minimum: 1,
    maximum: 32,
    description:
      "How many of the log's witnesses must have cosigned the checkpoint. A witness with several keys counts once.",
  }),
);

/** The most of anybody's requests for tiles that run at once; more are refused. */
const ANYBODYS_MAX = 8;
/** The age up to which anybody's requests get the last checkpoint again: each new one is written to disk and kept. */
const ANYBODYS_AGE_MS = 1000;

/** Runs anybody's requests for tiles, up to ANYBODYS_MAX at once. */
class Anybodys {
  #waiting = 0;

  async run<Answer>(ask: () => Promise<Answer>): Promise<Answer> {
    if (this.#waiting >= ANYBODYS_MAX)
      throw new Problem("busy", `${this.#waiting} requests without the scope evidence are being answered`);
    this.#waiting++;
    try {
      return await ask();
    } finally {
      this.#waiting--;
    }
  }
}

type Noted = { readonly note: string } | NoAnswer;

/** Checkpoints for anybody: the tree is asked at most once a second for each number of cosignatures. */
class AnybodysCheckpoint {
  readonly #last = new Map<number, { readonly answer: Promise<Noted>; readonly untilMs: number }>();

  ask(cosigned: number, ask: () => Promise<Noted>): Promise<Noted> {
    const last = this.#last.get(cosigned);
    if (last !== undefined && performance.now() < last.untilMs) return last.answer;
    const answer = ask();
    this.#last.set(cosigned, { answer, untilMs: performance.now() + ANYBODYS_AGE_MS });
    return answer;
  }
}

interface EvidenceParts extends SightParts {
  readonly tree: TreeReader;
  readonly settings: Pick<Settings, "auth" | "publicEvidence">;
  /** The status of each key of the log's witnesses. */
  readonly witnesses: () => readonly WitnessStatus[];
}

/** The tree's checkpoint and tiles, at the paths of https://c2sp.org/tlog-tiles. */
export async function tileRoutes(app: App, options: RouteOptions<EvidenceParts>): Promise<void> {
  checkpoint(app, options);
  tile(app, options);
}

/** Proofs of events, and the status of the log. */
export async function proofRoutes(app: App, options: RouteOptions<EvidenceParts>): Promise<void> {
  proof(app, options);
  log(app, options);
}

function checkpoint(app: App, { parts: { tree } }: RouteOptions<EvidenceParts>): void {
  const anybodys = new AnybodysCheckpoint();
  app.get("/checkpoint", {
    schema: {
      operationId: "getCheckpoint",
      summary: "Get a signed checkpoint of the log",
      description: `A signed note of C2SP's tlog-checkpoint with its cosignatures. Its tree has every event that was answered before this \
request. With \`cosigned\`, the newest checkpoint that at least this many of the log's witnesses have cosigned. ${PUBLIC}; the checkpoint \
may then be a second old.`,
      tags: TAGS,
      querystring: Type.Object({ cosigned: Cosigned }),
      response: {
        200: text("The checkpoint as a signed note, with its cosignatures.", "SignedNote", CHECKPOINT),
        ...problems({}, "not-cosigned", "log-contradicted"),
      },
    },
    handler: async ({ query: { cosigned }, isAnybodys }, reply) => {
      const ask = () => (cosigned === undefined ? tree.checkpoint() : tree.cosigned(cosigned));
      const answer = await (isAnybodys ? anybodys.ask(cosigned ?? 0, ask) : ask());
      if (!("note" in answer)) throw noAnswer(answer);
      return reply.type(TEXT).header("cache-control", "no-store").send(answer.note);
    },
  });
}

function tile(app: App, { parts: { tree } }: RouteOptions<EvidenceParts>): void {
  const anybodys = new Anybodys();
  app.get("/tile/:level/*", {
    schema: {
      operationId: "getTile",
      summary: "Get a tile of the tree, or the entries below it",
      description: `Paths are those of C2SP's tlog-tiles: /tile/0/x001/x234/067 is a full tile of ${TILE_HASHES} hashes, \
/tile/0/000.p/12 one of 12, /tile/entries/000 the entries below a tile of level 0. An entry is the line \
"mapledger event v1" and the SHA-256 of an event's canonical bytes. A bundle of entries whose events are all archived is refused (410). \
${PUBLIC}.`,
      tags: TAGS,
      params: Type.Object({
        level: Type.String({ description: "From 0 to 63, or `entries`.", examples: ["0"] }),
        "*": Type.String({ description: "The tile's index in groups of three digits.", examples: ["000.p/1"] }),
      }),
      response: {
        200: {
          description: "The tile: hashes of 32 bytes each, end to end.",
          content: { "application/octet-stream": octets },
        },
        ...problems({}, "no-such-tile", "log-contradicted", "archived", "busy"),
      },
    },
    handler: async ({ params: { level, "*": rest }, isAnybodys }, reply) => {
      const path = `${level}/${rest}`;
      const name = readTilePath(path);
      if (name === null) throw new Problem("no-such-tile", `${path} is no tile's path`);
      const answer = await (isAnybodys ? anybodys.run(() => tree.tile(name)) : tree.tile(name));
      if (answer === null) {
        const { size } = await tree.status();
        throw new Problem("no-such-tile", `the tree has no tile ${path}: its size is ${size}`);
      }
      if (!("bytes" in answer)) throw noAnswer(answer);
      return reply.type("application/octet-stream").header("cache-control", FOR_GOOD).send(answer.bytes);
    },
  });
}

function proof(app: App, { parts }: RouteOptions<EvidenceParts>): void {
  const { tree, events } = parts;
  app.get("/events/:seq/proof", {
    schema: {
      operationId: "getProof",
      summary: "Get a proof that an event is in the log",
      description: `A proof of C2SP's tlog-proof, with the event's canonical bytes as the extra data: \`mapledger verify-proof\` checks it offline. \
The proof leads to the newest checkpoint that a witness has cosigned, if that has the event; otherwise to the newest one. With \`cosigned\`, it \
leads to a checkpoint that at least this many witnesses have cosigned.`,
      tags: TAGS,
      params: Type.Object({ seq: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER, examples: [17] }) }),
      querystring: Type.Object({ cosigned: Cosigned }),
      response: {
        200: text(
          "The proof, with the event's canonical bytes.",
          "LogProof",
          `c2sp.org/tlog-proof@v1\nextra AQA=\nindex 16\n\n${CHECKPOINT}`,
        ),
        ...problems({}, "no-such-event", "not-cosigned", "log-contradicted", "archived"),
      },
    },
    handler: async (request, reply) => {
      const { seq } = request.params;
      // A proof contains the event, so the caller must be allowed to see it: otherwise this throws the Problem.
      await sightOf(parts, request)?.events.event(seq);
      const cosigned = request.query.cosigned ?? null;
      const kept = await tree.proof(seq, cosigned);
      const row = kept !== null && "oldestSeq" in kept ? await events.archivedRow(seq) : null;
      const answer = row === null ? kept : await tree.proof(seq, cosigned, row);
      if (answer === null)
        throw new Problem("no-such-event", `there is no event ${seq}: the log ends at ${await events.lastSeq()}`);
      if (!("text" in answer)) throw noAnswer(answer);
      return reply.type(TEXT).send(answer.text);
    },
  });
}

function log(app: App, { parts: { tree, settings, witnesses } }: RouteOptions<EvidenceParts>): void {
  app.get("/log", {
    schema: {
      operationId: "getLog",
      summary: "Get the log's key and the size of its tree",
      tags: TAGS,
      response: {
        200: told("The log's key, its size, its checkpoints' sizes, and its witnesses.", Log, LOG_EXAMPLE),
        ...problems({}),
      },
    },
    handler: async (request) => {
      const { log, possibleCpus, origin, vkey, size, lastSeq, signedSize, refusal } = await tree.status();
      return {
        id: log,
        possible_cpus: Number(possibleCpus),
        origin,
        vkey,
        last_seq: lastSeq,
        tree_size: size,
        signed_size: signedSize,
        refusal,
        auth: settings.auth,
        caller: request.caller,
        scopes: scopeTexts(request),
        public_evidence: settings.publicEvidence,
        witnesses: witnesses().map(({ cosignedSize, ...rest }) => ({ ...rest, cosigned_size: cosignedSize })),
      };
    },
  });
}

const WITNESS = {
  name: Type.String({ description: "The name of the witness." }),
  vkey: Type.String({ description: "The key that verifies its cosignatures." }),
  url: Type.String({ description: "The URL that checkpoints are sent to." }),
  cosigned_size: Type.Integer({
    description: "The size of the newest checkpoint that this key has cosigned; 0: there is none.",
  }),
  state: Type.Enum(["waiting", "cosigning", "failing", "alarm"], {
    type: "string",
    description:
      "waiting: no checkpoint has been sent yet; cosigning: the witness has cosigned the last one; failing: it does not cosign at present, and is asked again; alarm: it has seen another history of this log.",
  }),
  detail: nullable("string", { description: "The reason for the failure or the alarm." }),
};

const LOG = {
  id: Type.String({ description: "The id of the log, which never changes." }),
  possible_cpus: Type.Integer({
    description: "The number of CPUs that values of per-CPU maps are for, which never changes.",
  }),
  origin: Type.String({ description: "The log's name in its checkpoints." }),
  vkey: Type.String({
    description:
      "The key that verifies its checkpoints, as C2SP's signed-note writes it; empty if there is no tree that names it.",
  }),
  last_seq: Type.Integer({ description: "The seq of the log's last event." }),
  tree_size: Type.Integer({ description: "The number of events in the log's tree; later ones wait to be hashed." }),
  signed_size: Type.Integer({ description: "The size of the newest checkpoint; 0: none was signed." }),
  auth: Type.Enum(["on", "off"], {
    type: "string",
    description: "off: whoever reaches the TCP port may write to the log, without a token (MAPLEDGER_AUTH).",
  }),
  caller: Type.String({ description: "The caller's name, as events have it." }),
  scopes: Type.Array(Type.String(), { description: "The scopes of the caller, as in write or write@block*." }),
  public_evidence: Type.Enum(["on", "off"], {
    type: "string",
    description: "on: checkpoints and tiles need no token (MAPLEDGER_PUBLIC_EVIDENCE).",
  }),
  witnesses: Type.Array(Type.Object(WITNESS, { $id: "WitnessStatus", ...CLOSED }), {
    description: "The witnesses of the log's checkpoints, a row for each key (MAPLEDGER_WITNESSES).",
  }),
  refusal: nullable("string", {
    description:
      "The reason why nothing is signed any more: the tree is missing, or contradicts the log. null: checkpoints are signed.",
  }),
};
const Log = Type.Object(LOG, { $id: "LogStatus", ...CLOSED });

const LOG_EXAMPLE = {
  id: "2b4f7f5c-7a2e-4c55-9b7e-8f0f2f7f0d11",
  possible_cpus: 8,
  origin: "mapledger/2b4f7f5c-7a2e-4c55-9b7e-8f0f2f7f0d11",
  vkey: "mapledger/2b4f7f5c-7a2e-4c55-9b7e-8f0f2f7f0d11+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
  last_seq: 17,
  tree_size: 17,
  auth: "on",
  caller: "bob",
  scopes: ["read@/sys/fs/bpf/tc/*", "evidence"],
  public_evidence: "off",
  witnesses: [
    {
      name: "witness.example.org",
      vkey: "witness.example.org+b6cf9ad8+BAGHHKz2YpUO1VFsPPDnUIUC6wEnHfrt5ADxmy5rDCkn",
      url: "https://witness.example.org/",
      cosigned_size: 17,
      state: "cosigning",
      detail: null,
    },
  ],
  signed_size: 17,
  refusal: null,
};

function text(description: string, name: string, example: string): object {
  return { description, content: { "text/plain": { schema: Type.String({ $id: name }), example } } };
}

function noAnswer(answer: NoAnswer): Problem {
  if ("refused" in answer) return new Problem("log-contradicted", answer.refused);
  if ("oldestSeq" in answer) return archivedProblem(answer.oldestSeq);
  if ("uncosigned" in answer) return new Problem("not-cosigned", answer.uncosigned);
  return new Problem("unavailable", answer.behind);
}
