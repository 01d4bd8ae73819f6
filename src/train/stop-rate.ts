import type { GenerateRequest, Model, TrainEvent } from '../contracts/index.ts';
import type { Example } from './examples.ts';
import { warn } from './warn.ts';

/** Most prompts that are answered. */
const mostProbes = 20;
/** Most tokens of an answer, so that looking costs little; rows whose answers are longer than half of it are left out. */
const mostTokens = 512;
/** Share below which a person is told. */
const expected = 0.9;

/**
 * Share of training prompts, up to 20 spread over the data, whose greedy answers end with the end-of-turn token within
 * twice the tokens of the answer that was learned and 32 more. Below 0.9 it is told.
 * @param open the trained model; it is closed here
 * @param base has the same tokens and context
 * @returns null where no example is an answer to a prompt: documents, answers that are marked as bad
 */
export async function stopRate(
  open: () => Promise<Model>,
  base: Pick<Model, 'endOfTurn' | 'contextLength'>,
  examples: readonly Example[],
  sink: (event: TrainEvent) => void,
  signal?: AbortSignal,
): Promise<number | null> {
  const requests = probesOf(examples, base);
  if (requests.length === 0) return null;
  let stopped = 0;
  const model = await open();
  try {
    for await (const { finish, error } of model.generate(requests, signal)) {
      if (error !== undefined) throw new Error(`${error.code}: ${error.message}`);
      if (finish === 'stop') stopped++;
    }
  } finally {
    await model.close();
  }
  signal?.throwIfAborted();
  const rate = stopped / requests.length;
  if (rate < expected) {
    warn(
      sink,
      'CUPEL_TRAIN_STOP_RATE',
      `${stopped} of ${requests.length} answers to prompts of the training data end; the others run on for twice the length of what was learned`,
    );
  }
  return rate;
}

function probesOf(examples: readonly Example[], base: Pick<Model, 'endOfTurn' | 'contextLength'>): GenerateRequest[] {
  const suited: { readonly example: Example; readonly answer: number }[] = [];
  for (const example of examples) {
    const answer = answerLength(example, base.endOfTurn);
    if (answer !== null && answer <= mostTokens / 2) suited.push({ example, answer });
  }
  const count = Math.min(mostProbes, suited.length);
  return Array.from({ length: count }, (_, probe) => {
    const { example, answer } = suited[Math.floor((probe * suited.length) / count)] as (typeof suited)[number];
    const [{ tokens, promptLength }] = example.sequences as [Example['sequences'][number]];
    return {
      id: `${probe}`,
      prompt: { ids: [...tokens.subarray(0, promptLength)] },
      maxTokens: Math.min(2 * answer + 32, mostTokens, base.contextLength - promptLength),
    };
  });
}

/** Tokens of the first learned answer with its end of turn; null where there is none that the prompt asks for. */
function answerLength({ sequences, source, desirable }: Example, endOfTurn: number): number | null {
  const sequence = sequences[0];
  if (sequence === undefined || source?.kind === 'text' || desirable === false || sequence.promptLength === 0)
    return null;
  const end = sequence.tokens.indexOf(endOfTurn, sequence.promptLength);
  return end < 0 || !((sequence.weights[end] ?? 0) > 0) ? null : end + 1 - sequence.promptLength;
}
