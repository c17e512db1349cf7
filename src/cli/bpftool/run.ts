/** Runs one command line in bpftool's words, and says with which exit code it ends. */

import { Api, Refused } from "../../client/api.ts";
import type { Service } from "../../client/ask.ts";
import { ConnectionFailed } from "../../client/plain_connection.ts";
import { actionOf } from "./actions.ts";
import type { About, Call, Progress } from "./call.ts";
import type { Command } from "./description.ts";
import { Ended, FAILED, Failure, refused, WrongUsage } from "./failure.ts";
import { commandHelp, groupHelp } from "./help.ts";
import { type Given, readArguments } from "./options.ts";
import { Output, type Terminal } from "./output.ts";
import { ALONE, GROUPS, type Group, selected } from "./tree.ts";
import { Words } from "./words.ts";

/** What the program around it gives. */
export interface Surroundings {
  readonly terminal: Terminal;
  readonly about: About;
  /** The service that the options name, or one that is found. Throws an Error that says what is wrong with them. */
  findService(given: { readonly url?: string; readonly token?: string }): Promise<Service>;
  /** Draws progress; called only if something takes longer than a second. */
  progress(what: string, total: number, unit: string): Promise<Progress>;
}

interface Meant {
  readonly group: Group | null;
  readonly command: Command;
}

export async function run(all: readonly string[], surroundings: Surroundings): Promise<number> {
  const { given, words, fault } = readArguments(all);
  const form = given.pretty === true ? "pretty" : given.json === true ? "json" : "text";
  const output = new Output(surroundings.terminal, form);
  const line = new CommandLine(given, output, surroundings);
  const code = fault === null ? await line.run(words) : line.failed(fault, 0);
  output.json?.end();
  await output.flush();
  line.close();
  return code;
}

class CommandLine {
  readonly #given: Given;
  readonly #output: Output;
  readonly #surroundings: Surroundings;
  #api: Api | null = null;
  #depth = 0;
  /** The command whose words are being read: a wrong usage is answered with its help. */
  #last: { readonly group: Group | null; readonly command: Command | null } = { group: null, command: null };

  constructor(given: Given, output: Output, surroundings: Surroundings) {
    this.#given = given;
    this.#output = output;
    this.#surroundings = surroundings;
  }

  /** Returns the exit code. */
  async run(words: readonly string[]): Promise<number> {
    this.#depth++;
    const open = this.#output.json?.depth ?? 0;
    try {
      if (this.#depth > DEPTH_MAX) throw new Failure(`batches are nested more than ${DEPTH_MAX - 1} deep`);
      await this.#run(words);
      return 0;
    } catch (error) {
      return this.failed(error, open);
    } finally {
      this.#depth--;
    }
  }

  async #run(words: readonly string[]): Promise<void> {
    if (this.#given.version === true) return this.#runAlone("version");
    const meant = await this.#select(words);
    if (meant === null) return;
    const { group, command } = meant;
    if (this.#given.help === true) return this.#help(group, command);
    const at = this.#given.at;
    if (at !== undefined && !command.reads) throw new Failure(`--at is for reads, and ${command.word} is none`);
    if (this.#given["dry-run"] !== undefined && command.word !== "restore" && command.word !== "batch")
      throw new Failure("--dry-run is for map restore");
    const action = await actionOf(group?.word ?? null, command.word);
    await action(await this.#call(words, group === null ? 1 : 2));
  }

  /** Prints why a command has failed that has begun with `open` lists and objects; returns the exit code. */
  failed(error: unknown, open: number): number {
    if (error instanceof Ended) {
      this.#output.json?.unwind(open, null);
      return error.code;
    }
    if (error instanceof WrongUsage) {
      this.#output.usage(this.#usage());
      return FAILED;
    }
    const failure = failureOf(error);
    this.#output.error(failure, open);
    return failure.code;
  }

  close(): void {
    this.#api?.close();
  }

  /** The command that the words call; null: they ask for help, which is printed. */
  async #select(words: readonly string[]): Promise<Meant | null> {
    const [first = "", second] = words;
    const group = selected<Command | Group>([...GROUPS, ...ALONE], first);
    if (group === undefined) throw new Failure(`unknown command '${first}'`);
    if ("commands" in group) return this.#selectIn(group, second);
    this.#last = { group: null, command: group };
    return { group: null, command: group };
  }

  async #selectIn(group: Group, word: string | undefined): Promise<Meant | null> {
    const { commands } = group;
    this.#last = { group, command: null };
    // bpftool's "help" comes after show and list: only "h" and longer mean it.
    if (word !== undefined && word !== "" && "help".startsWith(word)) {
      this.#help(group, null);
      return null;
    }
    if (word === undefined && this.#given.help === true) {
      this.#help(group, null);
      return null;
    }
    const command = word === undefined ? commands[0] : selected(commands, word);
    if (command === undefined) throw new WrongUsage();
    this.#last = { group, command };
    return { group, command };
  }

  async #runAlone(word: string): Promise<void> {
    const action = await actionOf(null, word);
    await action(await this.#call([word], 1));
  }

  async #call(words: readonly string[], from: number): Promise<Call> {
    const { at, bpffs, "dry-run": dryRun } = this.#given;
    return {
      api: await this.#opened(),
      output: this.#output,
      words: new Words(words.slice(from), words[from - 1] ?? ""),
      at: typeof at === "string" ? at : null,
      about: this.#surroundings.about,
      options: { pins: bpffs === true, dryRun: dryRun === true },
      run: (other) => this.run(other),
      progress: (what, total, unit) => new LateProgress(() => this.#surroundings.progress(what, total, unit)),
    };
  }

  async #opened(): Promise<Api> {
    if (this.#api !== null) return this.#api;
    const { url, token, debug } = this.#given;
    const service = await this.#surroundings.findService({
      ...(typeof url === "string" && { url }),
      ...(typeof token === "string" && { token }),
    });
    this.#api = new Api(service, debug === true ? (text) => this.#output.note(text) : () => {});
    return this.#api;
  }

  #help(group: Group | null, command: Command | null): void {
    this.#last = { group, command };
    if (this.#output.json === null) this.#output.text(this.#usage());
    else this.#output.json.scalar(null);
  }

  #usage(): string {
    const { group, command } = this.#last;
    if (command !== null) return commandHelp(group, command);
    return groupHelp(group as Group);
  }
}

const LATE_MS = 1000;
/** A batch may have batches in it. */
const DEPTH_MAX = 9;

/** Progress that is drawn after a second. */
class LateProgress implements Progress {
  readonly #open: () => Promise<Progress>;
  readonly #startedMs = performance.now();
  #isOpening = false;
  #isStopped = false;
  #drawn: Progress | null = null;

  constructor(open: () => Promise<Progress>) {
    this.#open = open;
  }

  update(done: number): void {
    this.#drawn?.update(done);
    if (this.#isOpening || performance.now() - this.#startedMs < LATE_MS) return;
    this.#isOpening = true;
    this.#open().then((drawn) => {
      this.#drawn = drawn;
      if (this.#isStopped) drawn.stop();
    });
  }

  stop(): void {
    this.#isStopped = true;
    this.#drawn?.stop();
  }
}

/** Errors of the service's place and of the connection have a text for people; all others are bugs. */
function failureOf(error: unknown): Failure {
  if (error instanceof Failure) return error;
  if (error instanceof Refused) return refused(error);
  if (error instanceof ConnectionFailed || (error instanceof Error && error.constructor === Error))
    return new Failure(error.message);
  throw error;
}
