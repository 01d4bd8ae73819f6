import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Completion, Engine, GenerateRequest, Model } from '../../src/contracts/index.ts';
import { digestFolder, readText } from '../../src/kit/index.ts';
import { answerer } from './answer.ts';
import { classicalErrors } from './errors.ts';
import { parseClassicalFile } from './format.ts';

const version = '1.0.0';

/** Opens baselines that were learnt without a language model: folders with `classical.json`. They answer, nothing else. */
const engine: Engine = {
  kind: 'engine',
  summary: 'Keyword rules and TF-IDF baselines: folders with classical.json',
  version,
  capabilities: {
    generate: true,
    score: false,
    jsonSchema: false,
    tools: false,
    learn: false,
    sampling: false,
    grammar: false,
    adapters: false,
  },

  async accepts(checkpoint) {
    return (await stat(join(checkpoint.path, 'classical.json')).catch(() => null))?.isFile() ?? false;
  },

  async open(checkpoint) {
    const path = join(checkpoint.path, 'classical.json');
    const answer = answerer(parseClassicalFile(await readText(path), path));
    return modelOf(answer, await digestFolder(checkpoint.path));
  },
};
export default engine;

function modelOf(answer: (text: string) => string, digest: string): Model {
  let closed = false;
  const checkOpen = (): void => {
    if (closed) throw classicalErrors.CUPEL_CLASSICAL_CLOSED({ message: 'the model is closed' });
  };
  return {
    digest,
    engine: `classical@${version}`,
    contextLength: Number.MAX_SAFE_INTEGER,
    // Bytes stand in for tokens; they are never generated one by one, and usage counts none.
    vocabularySize: 257,
    endOfTurn: 256,
    async *generate(requests, signal) {
      for (const request of requests) {
        checkOpen();
        signal?.throwIfAborted();
        yield complete(request, answer);
      }
    },
    async score() {
      throw classicalErrors.CUPEL_CLASSICAL_CANNOT({ message: 'a classical baseline has no log-likelihoods' });
    },
    tokenize: (text) => {
      checkOpen();
      return [...Buffer.from(text)];
    },
    detokenize: (ids) => {
      checkOpen();
      return Buffer.from(ids.filter((id) => id < 256)).toString();
    },
    render: (messages) => {
      checkOpen();
      return messages.map(({ role, content }) => `${role}: ${content}\n`).join('');
    },
    async close() {
      closed = true;
    },
  };
}

function complete(request: GenerateRequest, answer: (text: string) => string): Completion {
  const usage = { promptTokens: 0, cachedTokens: 0, generatedTokens: 0 };
  const { prompt, jsonSchema, grammar, sampling, adapter } = request;
  const lacking =
    'ids' in prompt
      ? 'read token ids'
      : jsonSchema !== undefined || grammar !== undefined
        ? 'be held to a schema or grammar'
        : adapter !== undefined || (sampling?.temperature ?? 0) !== 0
          ? 'sample or take an adapter'
          : null;
  if ('ids' in prompt || lacking !== null) {
    const { code, message } = classicalErrors.CUPEL_CLASSICAL_CANNOT({
      message: `a classical baseline cannot ${lacking}`,
    });
    return { id: request.id, text: '', finish: 'error', error: { code, message }, usage };
  }
  const text =
    'text' in prompt ? prompt.text : (prompt.messages.findLast(({ role }) => role === 'user')?.content ?? '');
  return { id: request.id, text: answer(text), finish: 'stop', usage };
}
