import { hash, randomBytes, timingSafeEqual } from "node:crypto";
import { ANONYMOUS, type Caller, OWNER, SERVICE_NAME } from "./caller.ts";
import type { MapLimits } from "./map_limits.ts";
import type { Line } from "./tokens_file.ts";

const ROOT = 0;

/** Who is known to the service: by tokens, by uids and by certificates. */
export class Callers {
  readonly #ownUid: number;
  readonly #ownDigest: Buffer | null;
  #lines: readonly Line[] = [];
  /** By their texts: those of a line that stays as it is keep their number. */
  #limits: ReadonlyMap<string, MapLimits> = new Map();
  #lastLimits = 0;
  readonly #lent = new Map<string, Caller>();

  /** `ownToken`: that of the data directory, if there is one. */
  constructor(ownUid: number, ownToken: string | null, lines: readonly Line[] = []) {
    this.#ownUid = ownUid;
    this.#ownDigest = ownToken === null ? null : hash("sha256", ownToken, "buffer");
    this.replace(lines);
  }

  /** Lines of a tokens' file take the place of those before. */
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
  }

  /** Those of all callers: the engine is to know them before it gets a command of theirs. */
  get limits(): readonly MapLimits[] {
    return [...this.#limits.values()];
  }

  /** All names that callers can have at present, and the service's own. */
  names(): ReadonlySet<string> {
    return new Set([OWNER.name, ANONYMOUS.name, SERVICE_NAME, ...this.#lines.map(({ name }) => name)]);
  }

  /** The caller whose token it is, or null. */
  byToken(token: string): Caller | null {
    const lent = this.#lent.get(token);
    if (lent !== undefined) return lent;
    const given = hash("sha256", token, "buffer");
    let caller: Caller | null = null;
    if (this.#ownDigest !== null && timingSafeEqual(this.#ownDigest, given)) caller = OWNER;
    // All of them are compared, so that the time taken tells nothing.
    for (const line of this.#lines) if (line.by === "token" && timingSafeEqual(line.digest, given)) caller = line;
    return caller;
  }

  /** A token for requests that the service sends to itself on a caller's behalf, until it is taken back. */
  lend(caller: Caller): string {
    const token = randomBytes(32).toString("hex");
    this.#lent.set(token, caller);
    return token;
  }

  takeBack(token: string): void {
    this.#lent.delete(token);
  }

  /** The user at the other end of a unix socket, or null. */
  byUid(uid: number): Caller | null {
    if (uid === ROOT || uid === this.#ownUid) return OWNER;
    return this.#lines.find((line) => line.by === "uid" && line.uid === uid) ?? null;
  }

  /** Whom a client's certificate names: its first URI, else its CN; or null. */
  byCertificate(subject: string): Caller | null {
    return this.#lines.find((line) => line.by === "certificate" && line.subject === subject) ?? null;
  }
}
