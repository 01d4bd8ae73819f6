import type { Case, Generate, ReferenceBehaviour, Run } from '../contracts/index.ts';
import { digestOf } from '../kit/index.ts';
import { runErrors } from './errors.ts';
import { runCases, type RunSettings } from './evaluate.ts';
import { selectCases, type Selection } from './selection.ts';

/**
 * Scores a fixed behaviour as if it were a checkpoint, `reference:<id>`: the same cases, validators and episodes, with a
 * fixed text where the model would answer. In an episode it is said once, in reply to the user; after tool results
 * nothing is said.
 * @throws CUPEL_RUN_REFERENCE_INVALID, CUPEL_RUN_TASK_UNSUITED
 */
export async function evaluateReference(
  options: Selection & RunSettings & { readonly reference: ReferenceBehaviour },
): Promise<Run> {
  const { suite, reference } = options;
  if (suite.task !== 'generate' && suite.task !== 'episode') {
    throw runErrors.CUPEL_RUN_TASK_UNSUITED({
      message: `suite ${suite.id} has the task ${suite.task}, which a reference cannot answer`,
      where: suite.path,
    });
  }
  const texts = new Map(selectCases(options).map((item) => [item.id, textOf(reference, item, suite.path)]));
  const separator = suite.task === 'episode' ? '#' : '@';
  const generate: Generate = async function* (requests) {
    for (const { id, prompt } of requests) {
      const text = texts.get(id.slice(0, id.lastIndexOf(separator)));
      if (text === undefined)
        throw runErrors.CUPEL_RUN_ENGINE_BROKE_CONTRACT({
          message: `request "${id}" belongs to no case`,
          where: suite.id,
        });
      const replies = 'messages' in prompt && prompt.messages.at(-1)?.role === 'tool';
      yield {
        id,
        text: replies ? '' : text,
        finish: 'stop',
        usage: { promptTokens: 0, cachedTokens: 0, generatedTokens: 0 },
      };
      await Promise.resolve();
    }
  };
  return runCases(
    { ...options, variant: { fewShot: false, constrained: false } },
    {
      checkpoint: { id: `reference:${reference.id}`, digest: digestOf({ id: reference.id, output: reference.output }) },
      engine: 'reference',
    },
    generate,
    null,
  );
}

function textOf(reference: ReferenceBehaviour, item: Case, where: string): string {
  if ('text' in reference.output) return reference.output.text;
  const { inputField } = reference.output;
  const value = Object.hasOwn(item.input, inputField) ? item.input[inputField] : undefined;
  if (typeof value !== 'string') {
    throw runErrors.CUPEL_RUN_REFERENCE_INVALID({
      message: `reference ${reference.id} takes input.${inputField}, which is ${value === undefined ? 'missing' : 'not a text'}`,
      where: `${where}: case ${item.id}`,
    });
  }
  return value;
}
