/**
 * The callers of the service, and how a request's caller is recognised: by a token, by the uid of a unix socket's peer,
 * or by a client certificate. Described in docs/security.md.
 */

import { hash, randomBytes, timingSafeEqual } from "node:crypto";
import { ANONYMOUS, type Caller, OWNER, SERVICE_NAME } from "./caller.ts";
import type { MapLimits } from "./map_limits.ts";
import type { Line } from "./tokens_file.ts";

const ROOT = 0;

/** The callers at one moment, for another thread. Cloned, Buffers arrive as Uint8Arrays. */
export interface CallersCopy {
  readonly ownDigest: Uint8Array | null;
  readonly lines: readonly Line[];
  readonly version: number;
}

/** The callers that the service knows: by token, by uid, by certificate. */
export class Callers {
  readonly #ownUid: number;
  #ownDigest: Uint8Array | null;
  #lines: readonly Line[] = [];
  /** The limits of callers, by their texts. If the tokens file is read again, unchanged texts keep their limits' id. */
  #limits: ReadonlyMap<string, MapLimits> = new Map();
  #lastLimits = 0;
  readonly #lent = new Map<string, Caller>();
  #version = 0;
  #linesVersion = 0;
  /** Called when the lines have changed. */
  onChange: () => void = () => {};

  /** `ownToken`: the token of the data directory; null: it has none. */
  constructor(ownUid: number, ownToken: string | null, lines: readonly Line[] = []) {
    this.#ownUid = ownUid;
    this.#ownDigest = ownToken === null ? null : hash("sha256", ownToken, "buffer");
    this.replace(lines);
  }

  /** Replaces all lines of the tokens file. */
  replace(lines: readonly Line[]): void {
    const known = new Map<string, MapLimits>();
    this.#lines = lines.map((line) => {
      if (line.limits === undefined) return line;
      const text = line.limits.texts.join();
      const limits = known.get(text) ?? this.#limits.get(text) ?? { ...line.limits, id: ++this.#lastLimits };
      known.set(text, limits);
      return { ...line, limits };
    });
    this.#limits = known;
    this.#version++;
    this.#linesVersion++;
    this.onChange();
  }

  /** Changes whenever the lines do. */
  get linesVersion(): number {
    return this.#linesVersion;
  }

  /** For another thread, which calls `take`. The tokens that `lend` made are left out: only this thread knows them. */
  copy(): CallersCopy {
    return { ownDigest: this.#ownDigest, lines: this.#lines, version: this.#linesVersion };
  }

  /** Becomes the same as the callers of another thread; `linesVersion` is the same there, too. */
  take({ ownDigest, lines, version }: CallersCopy): void {
    this.#ownDigest = ownDigest;
    this.#lines = lines;
    const limits = lines.map((line) => line.limits).filter((one) => one !== undefined);
    this.#limits = new Map(limits.map((one) => [one.texts.join(), one]));
    this.#version++;
    this.#linesVersion = version;
  }

  /** Changes whenever a token, uid or certificate may stand for another caller than before, or for none. */
  get version(): number {
    return this.#version;
  }

  /** The limits of all callers. The engine must have them before it gets commands that name them by id. */
  get limits(): readonly MapLimits[] {
    return [...this.#limits.values()];
  }

  /** All names that callers can have at present, and the service's own. */
  names(): ReadonlySet<string> {
    return new Set([OWNER.name, ANONYMOUS.name, SERVICE_NAME, ...this.#lines.map(({ name }) => name)]);
  }

  /** The caller with this token, or null. */
  byToken(token: string): Caller | null {
    const lent = this.#lent.get(token);
    if (lent !== undefined) return lent;
    const given = hash("sha256", token, "buffer");
    let caller: Caller | null = null;
    if (this.#ownDigest !== null && timingSafeEqual(this.#ownDigest, given)) caller = OWNER;
    // All lines are compared, also after a match, so that the time taken does not depend on the token.
    for (const line of this.#lines) if (line.by === "token" && timingSafeEqual(line.digest, given)) caller = line;
    return caller;
  }

  /** Makes a token for requests that the service sends to itself as this caller; valid until `takeBack`. */
  lend(caller: Caller): string {
    const token = randomBytes(32).toString("hex");
    this.#lent.set(token, caller);
    return token;
  }

  takeBack(token: string): void {
    this.#lent.delete(token);
    this.#version++;
  }

  /** The caller with the uid of a unix socket's peer, or null. */
  byUid(uid: number): Caller | null {
    if (uid === ROOT || uid === this.#ownUid) return OWNER;
    return this.#lines.find((line) => line.by === "uid" && line.uid === uid) ?? null;
  }

  /** The caller that a client certificate names (its first URI, else its CN), or null. */
  byCertificate(subject: string): Caller | null {
    return this.#lines.find((line) => line.by === "certificate" && line.subject === subject) ?? null;
  }
}
