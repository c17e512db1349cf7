/**
 * Questions that are under way between two threads, and the reception of their messages: the part that both ends of a
 * protocol (`protocol.ts`) share.
 */

import type {
  Answer,
  Answers,
  Asked,
  Asker,
  ErrorsThatCross,
  Listeners,
  Questions,
  Said,
  Sayings,
} from "./protocol.ts";

type Post = (message: object, transfer: ArrayBuffer[]) => void;

interface OpenQuestion {
  readonly resolve: (answer: never) => void;
  readonly reject: (error: Error) => void;
}

/** Questions that were asked and are not answered yet. */
export class OpenQuestions<Table extends Questions<Table>> implements Asker<Table> {
  readonly #errors: Pick<ErrorsThatCross, "received">;
  readonly #post: Post;
  readonly #waiting = new Map<number, OpenQuestion>();
  #last = 0;

  /** `post` throws if nobody can be asked. */
  constructor(errors: Pick<ErrorsThatCross, "received">, post: Post) {
    this.#errors = errors;
    this.#post = post;
  }

  /** The buffers in `transfer` move to the other thread. */
  ask<Name extends keyof Table>(
    name: Name,
    ask: Table[Name]["ask"],
    transfer: ArrayBuffer[] = [],
  ): Promise<Table[Name]["answer"]> {
    return new Promise((resolve, reject) => {
      const id = ++this.#last;
      this.#post({ id, name, ask }, transfer);
      this.#waiting.set(id, { resolve, reject });
    });
  }

  receive(message: Answer<never>): void {
    const waiting = this.#waiting.get(message.id);
    this.#waiting.delete(message.id);
    if ("error" in message) waiting?.reject(this.#errors.received(message.error));
    else waiting?.resolve(message.answer);
  }

  /** Rejects all open questions, because nobody will answer them. */
  reject(error: () => Error): void {
    for (const { reject } of this.#waiting.values()) reject(error());
    this.#waiting.clear();
  }
}

/** One end of the messages between two threads. The types say which messages may arrive. */
export interface End<
  AskedHere extends Questions<AskedHere>,
  AskedThere extends Questions<AskedThere>,
  SaidHere extends Sayings<SaidHere>,
> {
  readonly answers: Answers<AskedHere>;
  readonly listeners: Listeners<SaidHere>;
  /** The questions that this end has asked and that are not answered yet. */
  readonly open: OpenQuestions<AskedThere>;
  readonly errors: Pick<ErrorsThatCross, "sent">;
  readonly post: Post;
}

export function receive<
  AskedHere extends Questions<AskedHere>,
  AskedThere extends Questions<AskedThere>,
  SaidHere extends Sayings<SaidHere>,
>(
  { answers, listeners, open, errors, post }: End<AskedHere, AskedThere, SaidHere>,
  message: Asked<AskedHere> | Answer<never> | Said<SaidHere>,
): void {
  if ("say" in message) hear(listeners, message);
  else if ("name" in message) void answerTo(answers, message, errors, post);
  else open.receive(message);
}

/**
 * Posts the answer to a question, or the error: the one that the answering function throws, or one that says that there
 * is no such question.
 */
export async function answerTo<Table extends Questions<Table>, Name extends keyof Table>(
  answers: Answers<Table>,
  { id, name, ask }: Asked<Table, Name>,
  errors: Pick<ErrorsThatCross, "sent">,
  post: Post,
): Promise<void> {
  const transfer: ArrayBuffer[] = [];
  try {
    if (!Object.hasOwn(answers, name)) throw new Error(`there is no question ${String(name)}`);
    const answer = await answers[name](ask, transfer);
    post({ id, answer } satisfies Answer, transfer);
  } catch (error) {
    post({ id, error: errors.sent(error) } satisfies Answer, []);
  }
}

export function hear<Table extends Sayings<Table>, Name extends keyof Table>(
  listeners: Listeners<Table>,
  message: Said<Table, Name>,
): void {
  listeners[message.say](message);
}

/**
 * Whether this table of listeners has one for the message. A thread's news may have several tables of listeners; each
 * message goes to the tables that have a listener for it.
 */
export function isHeard<Table extends Sayings<Table>>(
  listeners: Listeners<Table>,
  message: { readonly say: PropertyKey },
): message is Said<Table> {
  return Object.hasOwn(listeners, message.say);
}
