/**
 * The tree's thread: hashes the log's events and signs checkpoints. It works beside the engine, without delaying it.
 */
import { openTree, openTreeToRead } from "../data/open_tree.ts";
import { columnsWithBuffers } from "../log/row_transfer.ts";
import { Derived } from "../supervisor/derived_parts.ts";
import { thisThread } from "../supervisor/thread.ts";
import { readWitnessKey } from "../tlog/cosignature.ts";
import { TreeKeeper } from "../tree/keeper.ts";
import type { LogTree } from "../tree/log_tree.ts";
import { type SignedCheckpoint, TREE } from "../tree/protocol.ts";

interface Open {
  readonly tree: LogTree;
  readonly keeper: TreeKeeper;
}

const thread = thisThread(TREE);
const { data, origin, rule, witnesses, readOnly = false } = thread.data;
const report = (message: string): void => thread.report(message);
const keys = witnesses.map((vkey) => readWitnessKey(vkey)).filter((key) => key !== null);

/** The tree has no `discard`, because it is evidence. */
const kept = new Derived<Open>({
  part: "tree",
  open: openKept,
  close: ({ keeper }) => keeper.abandon(),
  told: (fault) => thread.tell(fault),
  report,
  isWhole: ({ tree }) => tree.refusal === null && tree.size >= tree.lastSeq(),
});

function openKept(): Open {
  const tree = readOnly
    ? openTreeToRead(data, { witnesses: keys })
    : openTree(data, origin, { witnesses: keys, published: () => thread.say("published", {}) });
  const keeper = new TreeKeeper(tree, {
    rule,
    report,
    signed: (checkpoint) => void record(checkpoint),
    refused: (detail) => kept.tell({ part: "tree", state: "refused", detail, full: false }),
    failed: (error) => void kept.failed(error),
  });
  return { tree, keeper };
}

async function record(checkpoint: SignedCheckpoint): Promise<void> {
  const isInLog = await thread.ask("record", { checkpoint }).catch(() => false);
  await kept.use(({ keeper }) => keeper.recorded(isInLog)).catch(() => {});
}

/** How often this thread checks whether a failed tree works again. */
const LOOK_MS = 1000;
let looking = setTimeout(look, 0);

async function look(): Promise<void> {
  // `kept` has reported the failure.
  await kept.use(() => {}).catch(() => {});
  looking = setTimeout(look, LOOK_MS);
}

/**
 * Returns the answer. If the answer is a refusal, because something contradicts the tree, the operator is told, too.
 */
function told<Answer>({ tree, keeper }: Open, answer: Answer): Answer {
  keeper.tell();
  if (answer !== null && typeof answer === "object" && "refused" in answer && answer.refused !== tree.refusal)
    report(String(answer.refused));
  return answer;
}

thread.serve(
  {
    status: () => kept.use(({ tree }) => tree.status),

    checkpoint: () =>
      kept.use(async (open) => {
        const { tree, keeper } = open;
        const unreached = await keeper.reach(tree.lastSeq());
        if (unreached !== null) return unreached;
        const answer = told(open, readOnly ? tree.signed() : tree.checkpoint());
        return "note" in answer ? { note: tree.noteOf(answer) } : answer;
      }),

    cosigned: ({ count }) =>
      kept.use((open) => {
        const answer = told(open, open.tree.cosigned(count));
        return "note" in answer ? { note: open.tree.noteOf(answer) } : answer;
      }),

    proof: ({ seq, cosigned, row }) =>
      kept.use(async (open) => {
        const { tree, keeper } = open;
        if (seq > tree.lastSeq()) return null;
        const unreached = await keeper.reach(seq);
        return unreached ?? told(open, tree.proof(seq, cosigned, row === null ? null : columnsWithBuffers(row)));
      }),

    tile: ({ name }) => kept.use((open) => told(open, open.tree.tile(name))),

    submission: ({ old }) => kept.use(({ tree }) => tree.submission(old)),

    keepCosignatures: ({ size, lines }) => kept.use(({ tree }) => tree.keepCosignatures(size, lines)),

    cosignedBy: ({ vkey }) =>
      kept.use(({ tree }) => {
        const key = keys.find((one) => one.vkey === vkey);
        return key === undefined ? 0 : tree.cosignedBy(key);
      }),

    last: () => kept.use(({ keeper }) => keeper.last()),
  },
  {
    close() {
      clearTimeout(looking);
      kept
        .use(({ keeper }) => keeper.close())
        .catch((error: Error) => report(`closing the tree: ${error.message}`))
        .finally(() => process.exit());
    },
  },
);
