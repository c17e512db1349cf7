import { hash } from "node:crypto";
import { type AddCheckpoint, readAddCheckpoint, SIZE_TYPE } from "../tlog/add_checkpoint.ts";
import { cosign, type WitnessSigner } from "../tlog/cosignature.ts";
import { EMPTY_ROOT, provesConsistency } from "../tlog/merkle.ts";
import { type Checkpoint, noteParts, openNote, readCheckpoint, signatureLine, type Verifier } from "../tlog/note.ts";
import type { Latest, WitnessStore } from "./store.ts";

/** The response to a log. */
export interface Answer {
  readonly status: 200 | 400 | 403 | 404 | 409 | 422;
  readonly type: string;
  readonly body: string;
  /** A line for the witness' operators; null if nothing happened that concerns them. */
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
  /** Keys of the logs that the witness knows. Keys with the same name belong to the same log. */
  readonly logs: readonly Verifier[];
  readonly nowS: () => number;
}

/** Cosigns checkpoints of known logs, each only if it continues the last one: https://c2sp.org/tlog-witness. */
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

  /**
   * Answers the body of an `add-checkpoint` request. A cosignature is durable before it is returned. Throws if the disk
   * fails.
   */
  add(body: Buffer): Answer {
    const submitted = readSubmitted(body);
    if (typeof submitted === "string") return refusal(400, submitted);
    const { checkpoint, note, old } = submitted;
    const keys = this.#keys.get(checkpoint.origin);
    if (keys === undefined) return refusal(404, "this witness does not know the log");
    const { lines, wrong } = logSignatures(note, keys);
    if (lines === null) return refusal(403, wrong);
    if (old > checkpoint.size)
      return refusal(400, `the old size is ${old}, but the checkpoint has size ${checkpoint.size}`);
    return this.#parts.store.step(checkpoint.origin, (latest) => this.#decide(submitted, lines, latest));
  }

  /** The last cosigned checkpoint of the log whose origin has this SHA-256 in hex; null if there is none. */
  latest(hashOfOrigin: string): Latest | null {
    const origin = this.#origins.get(hashOfOrigin);
    return origin === undefined ? null : this.#parts.store.latest(origin);
  }

  /** Each known log with its last cosigned checkpoint, or null. */
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
      const told = `${origin}: refused a signed checkpoint, which may be evidence of a fork: ${fault}\n${text}${signed}`;
      return { keep: null, answer: refusal(422, fault, told) };
    }
    // The time never goes back, even if the clock was put back: otherwise a newer statement would look older than the
    // one before.
    const timeS = Math.max(this.#parts.nowS(), latest?.timeS ?? 1, 1);
    const lines = this.#parts.signers.map((signer) => cosign(text, checkpoint, signer, BigInt(timeS))).join("");
    const keep = { origin, size, root, note: `${text}\n${signed}${lines}`, timeS };
    return { keep, answer: { status: 200, type: TEXT, body: lines, told: `${origin}: cosigned size ${size}` } };
  }
}

/** The SHA-256 of an origin in hex, by which the monitoring API identifies a log. */
export function originHash(origin: string): string {
  return hash("sha256", origin, "hex");
}

function refusal(status: Exclude<Answer["status"], 200 | 409>, why: string, told: string | null = null): Answer {
  return { status, type: TEXT, body: `${why}\n`, told };
}

/** Returns the parsed body, or the reason why it cannot be parsed. */
function readSubmitted(body: Buffer): Submitted | string {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(body);
  } catch {
    return "the body is not valid UTF-8";
  }
  if (body.some((byte) => byte < FIRST_PRINTABLE && byte !== NEWLINE)) return "the body has control characters";
  const read = readAddCheckpoint(text);
  if (read === null) return "the body does not consist of an old size, a consistency proof and a checkpoint";
  const parts = noteParts(read.note);
  if ("wrong" in parts) return `the checkpoint: ${parts.wrong}`;
  const checkpoint = readCheckpoint(parts.text);
  if (checkpoint === null || parts.text.includes("\n\n")) return "the note is not a checkpoint";
  return { ...read, text: parts.text, checkpoint };
}

/**
 * The signatures of the log's known keys, one line each. `lines` is null if no known key has signed, or if any of their
 * signatures is invalid; `wrong` is then the reason.
 */
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
  if (known.length === 0) return { lines: null, wrong: "not signed by any key of the log that this witness knows" };
  return { lines: known.map(({ name, signature }) => signatureLine(name, signature)).join(""), wrong: "" };
}

function isBy({ name, signature }: { readonly name: string; readonly signature: Buffer }, key: Verifier): boolean {
  return name === key.name && signature.subarray(0, key.id.length).equals(key.id);
}

/** The reason why a checkpoint does not continue the last one; null if it does. */
function inconsistency({ checkpoint, proof }: Submitted, latest: Latest | null): string | null {
  const { size, root } = checkpoint;
  if (size === 0 && !root.equals(EMPTY_ROOT)) return "it does not have the root of an empty tree";
  const known = latest ?? { size: 0, root: EMPTY_ROOT };
  if (provesConsistency(known, checkpoint, proof)) return null;
  return `it does not prove that the tree of size ${size} continues the cosigned one of size ${known.size}`;
}
