import { hash } from "node:crypto";
import { type AddCheckpoint, readAddCheckpoint, SIZE_TYPE } from "../tlog/add_checkpoint.ts";
import { cosign, type WitnessSigner } from "../tlog/cosignature.ts";
import { EMPTY_ROOT, provesConsistency } from "../tlog/merkle.ts";
import { type Checkpoint, noteParts, openNote, readCheckpoint, signatureLine, type Verifier } from "../tlog/note.ts";
import type { Latest, WitnessStore } from "./store.ts";

/** What is answered to a log. */
export interface Answer {
  readonly status: 200 | 400 | 403 | 404 | 409 | 422;
  readonly type: string;
  readonly body: string;
  /** For those who run the witness; null: nothing happened that concerns them. */
  readonly told: string | null;
}

const NEWLINE = 0x0a;
const FIRST_PRINTABLE = 0x20;
const TEXT = "text/plain; charset=utf-8";

interface Submitted extends AddCheckpoint {
  readonly text: string;
  readonly checkpoint: Checkpoint;
}

export interface WitnessParts {
  readonly store: WitnessStore;
  readonly signers: readonly WitnessSigner[];
  /** Keys of the logs that are known; several of one name are those of one log. */
  readonly logs: readonly Verifier[];
  readonly nowS: () => number;
}

/** Cosigns checkpoints of the logs that it knows, each only if it continues the one before: https://c2sp.org/tlog-witness. */
export class Witness {
  readonly #parts: WitnessParts;
  readonly #keys: ReadonlyMap<string, readonly Verifier[]>;
  readonly #origins: ReadonlyMap<string, string>;

  constructor(parts: WitnessParts) {
    this.#parts = parts;
    this.#keys = Map.groupBy(parts.logs, ({ name }) => name);
    this.#origins = new Map([...this.#keys.keys()].map((origin) => [originHash(origin), origin]));
  }

  get vkeys(): readonly string[] {
    return this.#parts.signers.map(({ vkey }) => vkey);
  }

  get origins(): readonly string[] {
    return [...this.#keys.keys()];
  }

  /** The body of `add-checkpoint`. What is answered with 200 is on the disk. Throws where the disk fails. */
  add(body: Buffer): Answer {
    const submitted = readSubmitted(body);
    if (typeof submitted === "string") return refusal(400, submitted);
    const { checkpoint, note, old } = submitted;
    const keys = this.#keys.get(checkpoint.origin);
    if (keys === undefined) return refusal(404, "the log is not known here");
    const { lines, wrong } = logSignatures(note, keys);
    if (lines === null) return refusal(403, wrong);
    if (old > checkpoint.size) return refusal(400, `old is ${old}, the checkpoint has ${checkpoint.size}`);
    return this.#parts.store.step(checkpoint.origin, (latest) => this.#decide(submitted, lines, latest));
  }

  /** Of a log, by the SHA-256 of its origin, in hex; null: there is none. */
  latest(hashOfOrigin: string): Latest | null {
    const origin = this.#origins.get(hashOfOrigin);
    return origin === undefined ? null : this.#parts.store.latest(origin);
  }

  /** Of each log that is known: what was cosigned last, or null. */
  all(): { readonly origin: string; readonly latest: Latest | null }[] {
    return this.origins.map((origin) => ({ origin, latest: this.#parts.store.latest(origin) }));
  }

  #decide(submitted: Submitted, signed: string, latest: Latest | null): { keep: Latest | null; answer: Answer } {
    const { checkpoint, old, text } = submitted;
    const { origin, size, root } = checkpoint;
    const known = latest?.size ?? 0;
    if (old !== known) {
      const answer = { status: 409, type: SIZE_TYPE, body: `${known}\n`, told: null } as const;
      return { keep: null, answer };
    }
    const fault = inconsistency(submitted, latest);
    if (fault !== null) {
      const told = `${origin}: a signed checkpoint was refused, it may be evidence of a fork: ${fault}\n${text}${signed}`;
      return { keep: null, answer: refusal(422, fault, told) };
    }
    // A clock that was put back must not make an older statement of a newer one.
    const timeS = Math.max(this.#parts.nowS(), latest?.timeS ?? 1, 1);
    const lines = this.#parts.signers.map((signer) => cosign(text, checkpoint, signer, BigInt(timeS))).join("");
    const keep = { origin, size, root, note: `${text}\n${signed}${lines}`, timeS };
    return { keep, answer: { status: 200, type: TEXT, body: lines, told: `${origin}: cosigned size ${size}` } };
  }
}

/** How the monitoring API calls a log. */
export function originHash(origin: string): string {
  return hash("sha256", origin, "hex");
}

function refusal(status: Exclude<Answer["status"], 200 | 409>, why: string, told: string | null = null): Answer {
  return { status, type: TEXT, body: `${why}\n`, told };
}

/** Or what is wrong with the body. */
function readSubmitted(body: Buffer): Submitted | string {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(body);
  } catch {
    return "the body is no UTF-8";
  }
  if (body.some((byte) => byte < FIRST_PRINTABLE && byte !== NEWLINE)) return "the body has control characters";
  const read = readAddCheckpoint(text);
  if (read === null) return "the body is no old size, consistency proof and checkpoint";
  const parts = noteParts(read.note);
  if ("wrong" in parts) return `the checkpoint: ${parts.wrong}`;
  const checkpoint = readCheckpoint(parts.text);
  if (checkpoint === null || parts.text.includes("\n\n")) return "the note is no checkpoint";
  return { ...read, text: parts.text, checkpoint };
}

/** The signatures by the log's keys, a line each; or null and why it is not the log's. A signature that does not hold spoils the note. */
function logSignatures(
  note: string,
  keys: readonly Verifier[],
): { readonly lines: string | null; readonly wrong: string } {
  const parts = noteParts(note);
  if ("wrong" in parts) return { lines: null, wrong: parts.wrong };
  const known = parts.signatures.filter((one) => keys.some((key) => isBy(one, key)));
  const used = keys.filter((key) => known.some((one) => isBy(one, key)));
  for (const key of used) {
    const opened = openNote(note, key);
    if ("wrong" in opened) return { lines: null, wrong: opened.wrong };
  }
  if (known.length === 0) return { lines: null, wrong: "not signed by a key of the log that is known here" };
  return { lines: known.map(({ name, signature }) => signatureLine(name, signature)).join(""), wrong: "" };
}

function isBy({ name, signature }: { readonly name: string; readonly signature: Buffer }, key: Verifier): boolean {
  return name === key.name && signature.subarray(0, key.id.length).equals(key.id);
}

/** Why a checkpoint does not continue the one before; null: it does. */
function inconsistency({ checkpoint, proof }: Submitted, latest: Latest | null): string | null {
  const { size, root } = checkpoint;
  if (size === 0 && !root.equals(EMPTY_ROOT)) return "the root of an empty tree is another one";
  const known = latest ?? { size: 0, root: EMPTY_ROOT };
  if (provesConsistency(known, checkpoint, proof)) return null;
  return `it is not proved that the tree of size ${size} continues the one of size ${known.size} that was cosigned`;
}
