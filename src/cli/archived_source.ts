import { join } from "node:path";
import { type Archive, openArchive } from "../archive/archive.ts";
import { checkData } from "../data/entries.ts";
import { ARCHIVE_FOLDER, LOG_FILE } from "../data/layout.ts";
import type { EventRow } from "../log/event.ts";
import type { Selection } from "../replay/selection.ts";
import { between, type Source } from "../replay/source.ts";
import { LogSource } from "../sqlite/log_source.ts";
import type { Stretch } from "../sqlite/log_times.ts";

/** All events of a data directory's log. Archived events come from the archive, if the selection may need them. */
export function openLog(data: string, archive: string | null, { afterSeq = 0 }: Selection): Source {
  checkData(data);
  const log = new LogSource(join(data, LOG_FILE));
  const { through, directory } = log.archived;
  if (afterSeq >= through) return log;
  const folders = [...(archive === null ? [] : [archive]), directory, join(data, ARCHIVE_FOLDER)];
  const found = openArchive(folders, log.id, through);
  if (typeof found !== "string") return new ArchivedSource(found, through, log);
  throw new Error(
    `events up to ${through} are archived (use --after ${through} to skip them), and cannot be read: ${found}`,
  );
}

class ArchivedSource implements Source {
  readonly #archive: Archive;
  readonly #through: number;
  readonly #log: LogSource;
  #done = 0;

  constructor(archive: Archive, through: number, log: LogSource) {
    this.#archive = archive;
    this.#through = through;
    this.#log = log;
  }

  get extent(): LogSource["extent"] {
    return this.#log.extent;
  }

  get done(): number {
    return Math.max(this.#done, this.#log.done);
  }

  check(position: string): Promise<void> {
    return this.#log.check(position);
  }

  async between(sinceUs: number | undefined, untilUs: number | undefined): Promise<Stretch> {
    const kept = await this.#log.between(sinceUs, untilUs);
    const through = this.#through;
    if (kept.after > through) return kept;
    const archived = await between(this.#archive.rows(0, through), sinceUs, untilUs);
    return { after: archived.after, until: kept.until > through ? kept.until : archived.until };
  }

  async *read({ afterSeq = 0, ...range }: Pick<Selection, "afterSeq" | "beforeSeq">): AsyncIterable<EventRow> {
    for (const row of this.#archive.rows(afterSeq, this.#through)) {
      this.#done = row.seq;
      yield row;
    }
    yield* this.#log.read({ ...range, afterSeq: Math.max(afterSeq, this.#through) });
  }
}
