import { Type } from "typebox";
import type { NoAnswer } from "../../engine/tree.ts";
import { readTilePath, TILE_HASHES } from "../../log/tiles.ts";
import { octets, problems, told } from "../answers.ts";
import { archivedProblem } from "../archived.ts";
import type { App, RouteOptions } from "../parts.ts";
import { Problem } from "../problems.ts";
import { nullable } from "../schemas.ts";

const TAGS = ["evidence"];
const TEXT = "text/plain; charset=utf-8";
/** Hashes of events never change, and a partial tile is what a full one begins with. */
const FOR_GOOD = "max-age=31536000, immutable";

const CHECKPOINT = `mapledger/2b4f7f5c-7a2e-4c55-9b7e-8f0f2f7f0d11
17
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

\u2014 mapledger/2b4f7f5c-7a2e-4c55-9b7e-8f0f2f7f0d11 Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
`;

/** The tree as https://c2sp.org/tlog-tiles has it, below no prefix. */
export async function tileRoutes(app: App, options: RouteOptions): Promise<void> {
  checkpoint(app, options);
  tile(app, options);
}

/** The proof of an event, and who signs. */
export async function proofRoutes(app: App, options: RouteOptions): Promise<void> {
  proof(app, options);
  log(app, options);
}

function checkpoint(app: App, { parts: { tree } }: RouteOptions): void {
  app.get("/checkpoint", {
    schema: {
      operationId: "getCheckpoint",
      summary: "A signed checkpoint of the log",
      description: "A signed note of C2SP's tlog-checkpoint, of a tree that has every event that was answered before.",
      tags: TAGS,
      response: { 200: text("The note.", CHECKPOINT), ...problems({}, "log-contradicted") },
    },
    handler: async (_request, reply) => {
      const answer = await tree.checkpoint();
      if (!("note" in answer)) throw noAnswer(answer);
      return reply.type(TEXT).header("cache-control", "no-store").send(answer.note);
    },
  });
}

function tile(app: App, { parts: { tree } }: RouteOptions): void {
  app.get("/tile/:level/*", {
    schema: {
      operationId: "getTile",
      summary: "A tile of the tree, or the entries below it",
      description: `Paths are those of C2SP's tlog-tiles: /tile/0/x001/x234/067 is a full tile of ${TILE_HASHES} hashes, \
/tile/0/000.p/12 one of 12, /tile/entries/000 the entries that a tile of level 0 is of. An entry is the line \
"mapledger event v1" and the SHA-256 of an event's canonical bytes.`,
      tags: TAGS,
      params: Type.Object({
        level: Type.String({ description: "From 0 to 63, or `entries`.", examples: ["0"] }),
        "*": Type.String({ description: "The tile's index in groups of three digits.", examples: ["000.p/1"] }),
      }),
      response: {
        200: { description: "Hashes of 32 bytes, end to end.", content: { "application/octet-stream": octets } },
        ...problems({}, "no-such-tile", "log-contradicted", "archived"),
      },
    },
    handler: async ({ params: { level, "*": rest } }, reply) => {
      const path = `${level}/${rest}`;
      const name = readTilePath(path);
      if (name === null) throw new Problem("no-such-tile", `${path} is no tile's path`);
      const answer = await tree.tile(name);
      if (answer === null) {
        const { size } = await tree.status();
        throw new Problem("no-such-tile", `the tree has no tile ${path}: its size is ${size}`);
      }
      if (!("bytes" in answer)) throw noAnswer(answer);
      return reply.type("application/octet-stream").header("cache-control", FOR_GOOD).send(answer.bytes);
    },
  });
}

function proof(app: App, { parts: { tree, events } }: RouteOptions): void {
  app.get("/events/:seq/proof", {
    schema: {
      operationId: "getProof",
      summary: "A proof that an event is in the log",
      description:
        "Of C2SP's tlog-proof, with the event's canonical bytes as the extra data: `mapledger verify-proof` checks it offline.",
      tags: TAGS,
      params: Type.Object({ seq: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER, examples: [17] }) }),
      response: {
        200: text("The proof.", `c2sp.org/tlog-proof@v1\nextra AQA=\nindex 16\n\n${CHECKPOINT}`),
        ...problems({}, "no-such-event", "log-contradicted", "archived"),
      },
    },
    handler: async ({ params: { seq } }, reply) => {
      const answer = await tree.proof(seq);
      if (answer === null)
        throw new Problem("no-such-event", `there is no event ${seq}: the log ends at ${await events.lastSeq()}`);
      if (!("text" in answer)) throw noAnswer(answer);
      return reply.type(TEXT).send(answer.text);
    },
  });
}

function log(app: App, { parts: { tree, settings } }: RouteOptions): void {
  app.get("/log", {
    schema: {
      operationId: "getLog",
      summary: "The log: who signs it, and how far its tree is",
      tags: TAGS,
      response: { 200: told("The log.", Log, LOG_EXAMPLE), ...problems({}) },
    },
    handler: async () => {
      const { log, origin, vkey, size, lastSeq, signedSize, refusal } = await tree.status();
      return {
        id: log,
        origin,
        vkey,
        last_seq: lastSeq,
        tree_size: size,
        signed_size: signedSize,
        refusal,
        auth: settings.auth,
      };
    },
  });
}

const Log = Type.Object({
  id: Type.String({ description: "Which log this is, made with it." }),
  origin: Type.String({ description: "What it is called in its checkpoints." }),
  vkey: Type.String({
    description:
      "The key that verifies them, as C2SP's signed-note writes it; empty if there is no tree that names it.",
  }),
  last_seq: Type.Integer({ description: "Seq of its last event." }),
  tree_size: Type.Integer({ description: "Events that its tree has; the rest waits to be hashed." }),
  signed_size: Type.Integer({ description: "Events that the newest checkpoint has; 0: none was signed." }),
  auth: Type.Enum(["on", "off"], {
    type: "string",
    description: "off: whoever reaches the TCP port may write to it, without a token (MAPLEDGER_AUTH).",
  }),
  refusal: nullable("string", {
    description: "Why nothing is signed any more: the tree is missing, or the log is not what it has.",
  }),
});

const LOG_EXAMPLE = {
  id: "2b4f7f5c-7a2e-4c55-9b7e-8f0f2f7f0d11",
  origin: "mapledger/2b4f7f5c-7a2e-4c55-9b7e-8f0f2f7f0d11",
  vkey: "mapledger/2b4f7f5c-7a2e-4c55-9b7e-8f0f2f7f0d11+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
  last_seq: 17,
  tree_size: 17,
  auth: "on",
  signed_size: 17,
  refusal: null,
};

function text(description: string, example: string): object {
  return { description, content: { "text/plain": { schema: Type.String(), example } } };
}

function noAnswer(answer: NoAnswer): Problem {
  if ("refused" in answer) return new Problem("log-contradicted", answer.refused);
  if ("oldestSeq" in answer) return archivedProblem(answer.oldestSeq);
  return new Problem("unavailable", answer.behind);
}
