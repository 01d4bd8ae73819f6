import type { Model, TokenBatch, TrainingRow } from '../../src/contracts/index.ts';

/** Trains a reward head on the pairs for some steps of all of them, and saves the checkpoint. */
export async function trainRewardCheckpoint(
  model: Model,
  rows: readonly TrainingRow[],
  folder: string,
  steps: number,
): Promise<void> {
  const learner = await model.learner?.({ threads: 1, head: 'reward' });
  if (learner === undefined) throw new Error('the engine does not learn');
  const sequences = rows.flatMap((row) => {
    if (row.kind !== 'preference') throw new Error(`${row.id} is no pair`);
    return [row.chosen, row.rejected].map((content) =>
      model.tokenize(model.render([...row.prompt, { role: 'assistant', content }], { addGenerationPrompt: false })),
    );
  });
  const offsets = Int32Array.from([0, ...sequences.map(({ length }) => length)]);
  for (let index = 1; index < offsets.length; index++)
    offsets[index] = (offsets[index] ?? 0) + (offsets[index - 1] ?? 0);
  const tokens = Int32Array.from(sequences.flat());
  const batch: TokenBatch = { tokens, offsets, labelled: new Uint8Array(tokens.length) };
  for (let step = 0; step < steps; step++) {
    const rewards = await learner.rewards(batch);
    const gradients = Float32Array.from(rewards, (own, index) => {
      const chosen = index % 2 === 0;
      const margin = chosen ? own - (rewards[index + 1] ?? 0) : (rewards[index - 1] ?? 0) - own;
      return ((chosen ? -1 : 1) / (1 + Math.exp(margin))) * (2 / rewards.length);
    });
    await learner.backward(gradients);
    await learner.step({
      learningRate: 5e-3,
      beta1: 0.9,
      beta2: 0.999,
      epsilon: 1e-8,
      weightDecay: 0,
      maxGradNorm: 1,
    });
  }
  await learner.save(folder);
  await learner.close();
}
