import type {
  Case,
  Judge,
  JudgePair,
  JudgeVerdict,
  Model,
  Progress,
  Row,
  Run,
  RunIdentity,
  RunStore,
  Scores,
  Suite,
} from '../contracts/index.ts';
import { digestOf, isCupelError, runId } from '../kit/index.ts';
import { runErrors } from './errors.ts';
import { interrupted, isAborted } from './interrupt.ts';
import { checkPrompt, renderText } from './prompt.ts';
import { makeRow, noUsage } from './recorder.ts';
import { caseSet, selectCases, type Selection } from './selection.ts';

export interface PairwiseOptions extends Selection {
  /** Complete runs of the suite that `suite.pairwise.of` names, on the same split. */
  readonly baselineRun: Run;
  readonly candidateRun: Run;
  readonly judge: Judge;
  /** Model that the judge is handed. */
  readonly judgeModel: Model;
  readonly store: RunStore;
  readonly progress?: Progress;
  readonly signal?: AbortSignal;
  /** Pairs asked together, each in both orders; never changes a row. Default 32. */
  readonly concurrency?: number;
}

export interface PairwiseResult {
  /** Checkpoint is the candidate's. Scores of each row: `win`, `length_difference`, `order_consistent`. */
  readonly run: Run;
  /** For the length-controlled regression: one a pair that has a preference. */
  readonly points: readonly PairwisePoint[];
  /** Pairs whose two orders name different winners. */
  readonly inconsistentOrders: number;
  /** Pairs without a preference: an answer is missing, or a verdict could not be had. Never counted as won or lost. */
  readonly missing: number;
}

export interface PairwisePoint {
  readonly case: string;
  readonly cluster: string;
  /** Candidate minus baseline, in code points. */
  readonly lengthDifference: number;
  /** Degree in [0, 1] that the candidate's answer is better, mean of both orders. */
  readonly preference: number;
}

/**
 * Lets a judge compare the answers of two runs, each pair in both orders. Rows are kept as they come; an interrupted
 * comparison goes on where it stopped.
 * @throws CUPEL_RUN_TASK_UNSUITED, _PAIRS_UNSUITED before the start; _JUDGE_FAILED, _INTERRUPTED with rows kept.
 */
export async function comparePairwise(options: PairwiseOptions): Promise<PairwiseResult> {
  const { suite, split, baselineRun, candidateRun, judge, judgeModel, store, signal, concurrency = 32 } = options;
  const pairwise = suite.pairwise;
  if (suite.task !== 'pairwise' || pairwise === undefined)
    throw runErrors.CUPEL_RUN_TASK_UNSUITED({
      message: `suite ${suite.id} is not a pairwise suite`,
      where: suite.path,
    });
  for (const run of [baselineRun, candidateRun]) checkRun(run, pairwise.of, split, suite.path);
  const cases = selectCases(options);
  checkPrompt(suite, cases);
  const identity = identify(options, pairwise.judge, cases);
  const answers = {
    baseline: answersOf(baselineRun, pairwise.field),
    candidate: answersOf(candidateRun, pairwise.field),
  };
  const writer = await store.begin(identity);
  try {
    if (!writer.complete) {
      const waiting = cases.filter((item) => !writer.done.has(`${item.id}@1`));
      const task = options.progress?.begin(`${suite.id}/${split} ${identity.checkpoint.id}`, cases.length, 'pairs');
      task?.advance(cases.length - waiting.length);
      try {
        for (let start = 0; start < waiting.length && !isAborted(signal); start += concurrency) {
          const chunk = waiting.slice(start, start + concurrency);
          const pairs = chunk.map((item) => pairOf(item, suite, answers));
          const verdicts = await ask(
            judge,
            judgeModel,
            pairs.flatMap(({ asked }) => asked),
            signal,
            suite.id,
          );
          if (verdicts === null) break;
          for (const pair of pairs) {
            const output = pair.candidate === null ? null : { text: pair.candidate };
            await writer.append(
              makeRow(
                { item: pair.item, epoch: 1, output, usage: noUsage },
                suite,
                split,
                scoresOf(pair, verdicts),
                undefined,
              ),
            );
            task?.advance();
          }
        }
      } finally {
        task?.end();
      }
      if (writer.done.size < cases.length) throw interrupted(writer.done.size, cases.length, `run ${identity.id}`);
      await writer.finish();
    }
  } finally {
    await writer.close();
  }
  return summarise(await store.read(identity.id));
}

/** The counts and points of a pairwise run, from its rows alone. */
export function summarise(run: Run): PairwiseResult {
  const points = run.rows.flatMap((row): PairwisePoint[] => {
    const [preference, lengthDifference] = [
      row.scores['win']?.value ?? null,
      row.scores['length_difference']?.value ?? null,
    ];
    return preference === null || lengthDifference === null
      ? []
      : [{ case: row.case, cluster: row.cluster ?? row.case, lengthDifference, preference }];
  });
  return {
    run,
    points,
    inconsistentOrders: run.rows.filter((row) => row.scores['order_consistent']?.value === 0).length,
    missing: run.rows.length - points.length,
  };
}

interface Pair {
  readonly item: Case;
  readonly baseline: string | null;
  readonly candidate: string | null;
  /** Why there is nothing to ask; null if there is. */
  readonly problem: string | null;
  readonly asked: readonly JudgePair[];
}

/** Answers by case, with the digest of the case they answer. */
type Answers = ReadonlyMap<string, { readonly text: string | null; readonly caseDigest: string }>;

function pairOf(item: Case, suite: Suite, answers: { readonly baseline: Answers; readonly candidate: Answers }): Pair {
  const [left, right] = [answers.baseline.get(item.id), answers.candidate.get(item.id)];
  const baseline = left?.text ?? null;
  const candidate = right?.text ?? null;
  if (baseline === null || candidate === null) {
    const side =
      baseline === null ? (candidate === null ? 'neither run has' : 'the baseline has not') : 'the candidate has not';
    return { item, baseline, candidate, problem: `${side} an answer`, asked: [] };
  }
  if (left?.caseDigest !== right?.caseDigest)
    return { item, baseline, candidate, problem: 'the runs answered different versions of the case', asked: [] };
  const prompt = renderText(suite.prompt, item, { fewShot: true });
  return {
    item,
    baseline,
    candidate,
    problem: null,
    asked: [
      { id: `${item.id}/forward`, prompt, first: baseline, second: candidate },
      { id: `${item.id}/backward`, prompt, first: candidate, second: baseline },
    ],
  };
}

function scoresOf(pair: Pair, verdicts: ReadonlyMap<string, number | null>): Scores {
  if (pair.problem !== null || pair.baseline === null || pair.candidate === null)
    return { win: { value: null, explanation: pair.problem ?? 'no answer' } };
  const length_difference = { value: Array.from(pair.candidate).length - Array.from(pair.baseline).length };
  const forward = verdicts.get(`${pair.item.id}/forward`) ?? null;
  const backward = verdicts.get(`${pair.item.id}/backward`) ?? null;
  if (forward === null || backward === null) {
    return { win: { value: null, explanation: 'the judge gave no verdict in one order or both' }, length_difference };
  }
  const reversed = 1 - backward;
  const consistent = Math.sign(forward - 0.5) === Math.sign(reversed - 0.5);
  return {
    win: { value: (forward + reversed) / 2, explanation: `${forward} after the baseline, ${reversed} before it` },
    length_difference,
    order_consistent: { value: consistent ? 1 : 0 },
  };
}

/** Verdicts by id; null: interrupted. A degree outside [0, 1] is a missing verdict. */
async function ask(
  judge: Judge,
  model: Model,
  pairs: readonly JudgePair[],
  signal: AbortSignal | undefined,
  where: string,
): Promise<ReadonlyMap<string, number | null> | null> {
  if (pairs.length === 0) return new Map();
  let verdicts: readonly JudgeVerdict[];
  try {
    verdicts = await judge.judge(pairs, { model, ...(signal === undefined ? {} : { signal }) });
  } catch (cause) {
    if (isAborted(signal)) return null;
    if (isCupelError(cause)) throw cause;
    throw runErrors.CUPEL_RUN_JUDGE_FAILED({
      message: cause instanceof Error ? cause.message : String(cause),
      where,
      cause,
    });
  }
  if (isAborted(signal)) return null;
  return new Map(
    verdicts.map(({ id, preferSecond }) => [
      id,
      preferSecond !== null && preferSecond >= 0 && preferSecond <= 1 ? preferSecond : null,
    ]),
  );
}

/** The field of each completion that is compared: JSON's, or with an empty field name the whole text. */
function answersOf(run: Run, field: string): Answers {
  return new Map(
    run.rows
      .filter(({ epoch }) => epoch === 1)
      .map((row) => [row.case, { text: answerOf(row, field), caseDigest: row.caseDigest }]),
  );
}

function answerOf(row: Row, field: string): string | null {
  if (row.status !== 'ok' || row.output === null) return null;
  if (field === '') return row.output.text;
  try {
    const value = JSON.parse(row.output.text) as unknown;
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, field)) return null;
    const answer = (value as Record<string, unknown>)[field];
    return typeof answer === 'string' && answer !== '' ? answer : null;
  } catch {
    return null;
  }
}

function checkRun(run: Run, suite: string, split: string, where: string): void {
  const { identity } = run;
  const problem =
    identity.suite.id !== suite
      ? `is of suite ${identity.suite.id}, not ${suite}`
      : identity.split !== split
        ? `is of split ${identity.split}, not ${split}`
        : run.complete
          ? null
          : 'is not complete';
  if (problem !== null)
    throw runErrors.CUPEL_RUN_PAIRS_UNSUITED({
      message: `run ${identity.id} of ${identity.checkpoint.id} ${problem}`,
      where,
    });
}

function identify(options: PairwiseOptions, judgeId: string, cases: readonly Case[]): RunIdentity {
  const { suite, split, baselineRun, candidateRun, judge, judgeModel } = options;
  const rest: Omit<RunIdentity, 'id'> = {
    version: 1,
    checkpoint: candidateRun.identity.checkpoint,
    engine: judgeModel.engine,
    suite: { id: suite.id, version: suite.version, digest: suite.digest, layer: suite.layer },
    split,
    decoding: {
      judge: `${judgeId}@${judge.version}`,
      judgeModel: judgeModel.digest,
      ...(judgeModel.settings === undefined ? {} : { judgeSettings: judgeModel.settings }),
      baseline: { checkpoint: baselineRun.identity.checkpoint.digest, run: baselineRun.identity.id },
      candidateRun: candidateRun.identity.id,
      answers: digestOf({ baseline: answersDigest(baselineRun), candidate: answersDigest(candidateRun) }),
    },
    validators: [],
    seed: 0,
    epochs: 1,
    cases: caseSet(cases),
  };
  return { ...rest, id: runId(rest) };
}

/** Runs of equal identity have equal rows, but a run handed in may come from elsewhere: its answers are named too. */
function answersDigest(run: Run): string {
  return digestOf(run.rows.map((row) => [row.case, row.epoch, row.output?.text ?? null]));
}
