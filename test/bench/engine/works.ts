// The rows of the table: what is done, and what ours ÷ the peer's must and should be. More is better in every ratio: for
// memory and times it is the peer's over ours.
import type { Task } from './task.ts';

export interface Work {
  readonly id: string;
  readonly title: string;
  readonly unit: string;
  readonly kind: 'rate' | 'memory' | 'load' | 'share' | 'agreement';
  readonly weights: 'q8_0' | 'w8a8';
  readonly task: Task;
  /** Where the peer does the work in another form. */
  readonly peerTask?: Task;
  /** Long works are repeated less. */
  readonly long: boolean;
  readonly must: number | null;
  readonly goal: number | null;
}

/** @param quick fewer prompts and questions; figures are rates, so that they stay comparable. */
export function works(quick: boolean): Work[] {
  const decode = (sequences: number, prefix: number, tokens: number): Task => ({
    kind: 'decode',
    sequences,
    prefix,
    tokens,
  });
  const prefill: Task = { kind: 'prefill', tokens: 512 };
  const evaluation: Task = { kind: 'evaluation', prompts: quick ? 40 : 200, shared: 600, own: 60, generated: 80 };
  const questions = (form: 'shared' | 'each', count: number): Task => ({
    kind: 'log-likelihood',
    questions: count,
    options: 4,
    context: 200,
    continuation: 10,
    form,
  });
  const constrained: Task = { kind: 'constrained', tokens: 64, constrained: true };
  const rate = { unit: 'tokens/s', kind: 'rate', weights: 'q8_0', long: false } as const;
  return [
    {
      ...rate,
      id: 'decode-1',
      title: 'decode, 1 sequence, empty context',
      task: decode(1, 0, 64),
      must: 1,
      goal: 1.25,
    },
    {
      ...rate,
      id: 'decode-1-512',
      title: 'decode, 1 sequence, 512 tokens of context',
      task: decode(1, 512, 64),
      must: 1.3,
      goal: 2,
    },
    { ...rate, id: 'prefill-512', title: 'prefill, 512 tokens', task: prefill, must: 1.5, goal: 2.5 },
    {
      ...rate,
      id: 'prefill-512-w8a8',
      title: 'prefill, 512 tokens, our W8A8 ÷ Q8_0',
      weights: 'w8a8',
      task: prefill,
      must: 2.5,
      goal: 4,
    },
    {
      ...rate,
      id: 'decode-8-512',
      title: 'decode, 8 sequences on 512 shared tokens',
      task: decode(8, 512, 24),
      must: 3,
      goal: 6,
    },
    {
      ...rate,
      id: 'decode-32-512',
      title: 'decode, 32 sequences on 512 shared tokens',
      task: decode(32, 512, 12),
      must: 4,
      goal: 8,
    },
    {
      ...rate,
      id: 'evaluation',
      title: 'evaluation: prompts of 60 tokens on 600 shared, 80 generated',
      unit: 'prompts/s',
      task: evaluation,
      long: true,
      must: 4,
      goal: 10,
    },
    {
      ...rate,
      id: 'log-likelihood',
      title: 'log-likelihood, 4 options of 10 on 200 tokens ÷ shared context',
      unit: 'questions/s',
      task: questions('shared', quick ? 10 : 40),
      long: true,
      must: 2,
      goal: 3,
    },
    {
      ...rate,
      id: 'log-likelihood-each',
      title: 'log-likelihood, the same ÷ one pass an option',
      unit: 'questions/s',
      task: questions('shared', quick ? 10 : 40),
      peerTask: questions('each', quick ? 3 : 12),
      long: true,
      must: 4,
      goal: 7,
    },
    {
      ...rate,
      id: 'memory',
      title: 'resident memory, evaluation',
      unit: 'MB',
      kind: 'memory',
      task: evaluation,
      long: true,
      must: 2,
      goal: 1 / 0.35,
    },
    { ...rate, id: 'load', title: 'load to first token', unit: 's', kind: 'load', task: prefill, must: 1, goal: 2 },
    {
      ...rate,
      id: 'constraint',
      title: 'JSON schema, share of decode time, 8 sequences',
      unit: '% of time',
      kind: 'share',
      task: constrained,
      must: null,
      goal: null,
    },
    {
      ...rate,
      id: 'agreement',
      title: 'greedy text alone equal to that in a batch',
      unit: '% of prompts',
      kind: 'agreement',
      task: { kind: 'agreement', prompts: quick ? 8 : 16, tokens: 32 },
      long: true,
      must: null,
      goal: null,
    },
  ];
}

/** Highest share of the time that a constraint may take, and the goal. */
export const constraintShare = { must: 0.1, goal: 0.03 } as const;
