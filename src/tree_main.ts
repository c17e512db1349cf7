import { parentPort, workerData } from "node:worker_threads";
import type { SigningRule } from "./engine/tree.ts";
import { TreeKeeper } from "./engine/tree_keeper.ts";
import { openTree } from "./open_tree.ts";
import type { FromTree, ToTree, TreeQuestion } from "./sqlite/threaded_tree.ts";
import { passGate } from "./thread_gate.ts";

/** The tree's thread: hashes what the log has, beside the engine and not in its way, and signs checkpoints. */
interface TreeData {
  readonly data: string;
  /** "": what it was, and mapledger/ with the log's id where it was none. */
  readonly origin: string;
  readonly gate: SharedArrayBuffer;
  readonly rule: SigningRule;
}

const port = parentPort;
if (port === null) throw new Error("tree_main.ts is the tree's thread: start src/main.ts");
const { data, origin, rule, gate } = workerData as TreeData;
passGate(gate);
const say = (message: FromTree): void => port.postMessage(message);
const report = (message: string): void => say({ kind: "report", message });
const tree = openTree(data, origin);
const keeper = new TreeKeeper(tree, { rule, report, signed: (checkpoint) => say({ kind: "signed", checkpoint }) });

port.on("message", (message: ToTree) => {
  switch (message.kind) {
    case "close":
      keeper.close();
      port.close();
      break;
    case "recorded":
      keeper.recorded(message.isInLog);
      break;
    default:
      answer(message).then(
        (answer) => say({ kind: "answer", id: message.id, answer }),
        (error: Error) => say({ kind: "failed", id: message.id, error: error.message }),
      );
  }
});

async function answer(question: TreeQuestion): Promise<unknown> {
  switch (question.kind) {
    case "status":
      return tree.status;
    case "last":
      return keeper.last();
    case "checkpoint":
      return (await keeper.reach(tree.lastSeq())) ?? told(tree.checkpoint());
    case "proof":
      if (question.seq > tree.lastSeq()) return null;
      return (await keeper.reach(question.seq)) ?? told(tree.proof(question.seq));
    case "tile":
      return told(tree.tile(question.name));
  }

  /** What contradicts the tree is told to the operator, too. */
  function told<Answer>(answer: Answer): Answer {
    keeper.tell();
    if (answer !== null && typeof answer === "object" && "refused" in answer && answer.refused !== tree.refusal)
      report(String(answer.refused));
    return answer;
  }
}
