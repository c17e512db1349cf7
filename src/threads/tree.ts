import { parentPort, workerData } from "node:worker_threads";
import { openTree, openTreeToRead } from "../data/open_tree.ts";
import { columnsWithBuffers } from "../log/row_transfer.ts";
import type { OfPart } from "../supervisor/asked_thread.ts";
import { Derived, PartFailed } from "../supervisor/derived_parts.ts";
import { passGate } from "../supervisor/gate.ts";
import { readWitnessKey } from "../tlog/cosignature.ts";
import type { FromTree, ToTree, TreeQuestion } from "../tree/client.ts";
import { TreeKeeper } from "../tree/keeper.ts";
import type { LogTree } from "../tree/log_tree.ts";
import type { KeptCheckpoint, SigningRule } from "../tree/ports.ts";

/** The tree's thread: hashes what the log has, beside the engine and not in its way, and signs checkpoints. */
interface TreeData {
  readonly data: string;
  /** "": what it was, and mapledger/ with the log's id where it was none. */
  readonly origin: string;
  readonly gate: SharedArrayBuffer;
  /** Verifier keys of the witnesses whose cosignatures count. */
  readonly witnesses: readonly string[];
  readonly rule: SigningRule;
  /** Nothing is signed. */
  readonly readOnly?: true;
}

const port = parentPort;
if (port === null) throw new Error("threads/tree.ts is the tree's thread: start src/main.ts");
const { data, origin, rule, gate, witnesses, readOnly = false } = workerData as TreeData;
passGate(gate);
const say = (message: FromTree | OfPart): void => port.postMessage(message);
const report = (message: string): void => say({ kind: "report", message });
const keys = witnesses.map((vkey) => readWitnessKey(vkey)).filter((key) => key !== null);
interface Open {
  readonly tree: LogTree;
  readonly keeper: TreeKeeper;
}

/** It is never thrown away: it is evidence. */
const kept = new Derived<Open>({
  part: "tree",
  open: openKept,
  close: ({ keeper }) => keeper.abandon(),
  told: (fault) => say({ kind: "part", fault }),
  report,
  isWhole: ({ tree }) => tree.refusal === null && tree.size >= tree.lastSeq(),
});

function openKept(): Open {
  const tree = readOnly
    ? openTreeToRead(data, { witnesses: keys })
    : openTree(data, origin, { witnesses: keys, published: () => say({ kind: "published" }) });
  const keeper = new TreeKeeper(tree, {
    rule,
    report,
    signed: (checkpoint) => say({ kind: "signed", checkpoint }),
    refused: (detail) => kept.tell({ part: "tree", state: "refused", detail, full: false }),
    failed: (error) => void kept.failed(error),
  });
  return { tree, keeper };
}

/** How often it is looked at whether a tree that has failed serves again. */
const LOOK_MS = 1000;
let looking = setTimeout(look, 0);

async function look(): Promise<void> {
  // What it fails with is told of.
  await kept.use(() => {}).catch(() => {});
  looking = setTimeout(look, LOOK_MS);
}

port.on("message", (message: ToTree) => {
  switch (message.kind) {
    case "close":
      clearTimeout(looking);
      kept
        .use(({ keeper }) => keeper.close())
        .catch((error: Error) => report(`closing the tree: ${error.message}`))
        .finally(() => process.exit());
      break;
    case "recorded":
      kept.use(({ keeper }) => keeper.recorded(message.isInLog)).catch(() => {});
      break;
    default:
      kept
        .use((open) => answer(open, message))
        .then(
          (answer) => say({ kind: "answer", id: message.id, answer }),
          (error: Error) =>
            say({
              kind: "failed",
              id: message.id,
              error: error.message,
              ...(error instanceof PartFailed && { fault: error.fault }),
            }),
        );
  }
});

async function answer({ tree, keeper }: Open, question: TreeQuestion): Promise<unknown> {
  switch (question.kind) {
    case "status":
      return tree.status;
    case "last":
      return keeper.last();
    case "checkpoint":
      return (await keeper.reach(tree.lastSeq())) ?? noted(told(readOnly ? tree.signed() : tree.checkpoint()));
    case "cosigned":
      return noted(told(tree.cosigned(question.count)));
    case "submission":
      return tree.submission(question.old);
    case "keep cosignatures":
      return tree.keepCosignatures(question.size, question.lines);
    case "cosigned by":
      return newestBy(question.vkey);
    case "proof":
      if (question.seq > tree.lastSeq()) return null;
      return (
        (await keeper.reach(question.seq)) ??
        told(
          tree.proof(
            question.seq,
            question.cosigned,
            question.row === undefined ? null : columnsWithBuffers(question.row),
          ),
        )
      );
    case "tile":
      return told(tree.tile(question.name));
  }

  function noted<Other extends object>(answer: KeptCheckpoint | Other): { readonly note: string } | Other {
    return "note" in answer ? { note: tree.noteOf(answer) } : answer;
  }

  function newestBy(vkey: string): number {
    const key = keys.find((one) => one.vkey === vkey);
    return key === undefined ? 0 : tree.cosignedBy(key);
  }

  /** What contradicts the tree is told to the operator, too. */
  function told<Answer>(answer: Answer): Answer {
    keeper.tell();
    if (answer !== null && typeof answer === "object" && "refused" in answer && answer.refused !== tree.refusal)
      report(String(answer.refused));
    return answer;
  }
}
