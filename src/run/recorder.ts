import type { Case, ProgressTask, Row, RunWriter, ScoredOutput, Scores, Suite } from '../contracts/index.ts';
import { isCupelError } from '../kit/index.ts';
import { scoreOutput, type ValidatorTable } from './scoring.ts';

/** What became of one case, before it is scored. */
export interface Outcome {
  readonly item: Case;
  readonly epoch: number;
  readonly output: ScoredOutput | null;
  readonly error?: { readonly code: string; readonly message: string };
  readonly usage: { readonly promptTokens: number; readonly generatedTokens: number };
}

export const noUsage = { promptTokens: 0, generatedTokens: 0 };

/** Scores an outcome and appends its row. A validator that fails makes an error row that keeps the output. */
export async function record(
  outcome: Outcome,
  suite: Suite,
  split: string,
  table: ValidatorTable,
  writer: RunWriter,
  task: ProgressTask | null,
): Promise<void> {
  let { error } = outcome;
  let scores: Scores = {};
  if (error === undefined && outcome.output !== null) {
    try {
      scores = await scoreOutput(suite, outcome.item, outcome.output, table);
    } catch (cause) {
      if (!isCupelError(cause)) throw cause;
      error = { code: cause.code, message: cause.message };
    }
  }
  await writer.append(makeRow(outcome, suite, split, scores, error));
  task?.advance();
}

export function makeRow(outcome: Outcome, suite: Suite, split: string, scores: Scores, error: Outcome['error']): Row {
  const { item, epoch, output, usage } = outcome;
  return {
    version: 1,
    suite: suite.id,
    layer: suite.layer,
    split,
    case: item.id,
    caseDigest: item.digest,
    cluster: item.cluster ?? null,
    tags: item.tags ?? [],
    epoch,
    status: error === undefined ? 'ok' : 'error',
    ...(error === undefined ? {} : { error }),
    output,
    usage: { promptTokens: usage.promptTokens, generatedTokens: usage.generatedTokens },
    scores,
  };
}
