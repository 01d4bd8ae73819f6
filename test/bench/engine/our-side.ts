// Cupel's native engine at the bench's work, through the contracts that everybody uses: token ids in, as the peer gets
// them, texts out.
import native from '../../../engines/native/index.ts';
import type { GenerateRequest, Model } from '../../../src/contracts/index.ts';
import { promptTokens, sharedName, ticketsSchema } from './prompts.ts';
import { timed, type Measured, type OpenRequest, type Side, type Task } from './task.ts';
import { textOf } from './vocabulary.ts';

/** Sequences decoded together. */
const maxBatch = 32;

export async function openOurs({ model, threads }: OpenRequest): Promise<Side> {
  const opened = await native.open({ id: 'bench', path: model }, { threads, maxBatch });
  await generate(opened, [request('first', promptTokens(0, 0, 1), 1)]);
  return new OurSide(opened);
}

class OurSide implements Side {
  readonly #model: Model;

  constructor(model: Model) {
    this.#model = model;
  }

  async run(task: Task, repetition: number): Promise<Measured> {
    switch (task.kind) {
      case 'decode': {
        const prefix = promptTokens(repetition, sharedName, task.prefix);
        if (task.prefix > 0) await generate(this.#model, [request('prefix', prefix, 1)]);
        return timed(
          () => generate(this.#model, this.#own(prefix, repetition, task.sequences, 1, task.tokens)),
          generated,
        );
      }
      case 'prefill': {
        const prompt = request('prompt', promptTokens(repetition, 0, task.tokens), 1);
        return timed(() => generate(this.#model, [prompt]), task.tokens);
      }
      case 'evaluation': {
        const { prompts, shared, own } = task;
        const prefix = promptTokens(repetition, sharedName, shared);
        return timed(() => generate(this.#model, this.#own(prefix, repetition, prompts, own, task.generated)), prompts);
      }
      case 'log-likelihood': {
        const { questions, options, context, continuation } = task;
        const requests = Array.from({ length: questions * options }, (_, index) => ({
          context: textOf(promptTokens(repetition, Math.floor(index / options), context)),
          continuation: textOf(promptTokens(repetition, sharedName + index, continuation)),
        }));
        return timed(async () => {
          const scores = await this.#model.score(requests);
          const short = scores.find(({ logProbabilities }) => logProbabilities.length !== continuation);
          if (short !== undefined) throw new Error(`${short.logProbabilities.length} tokens were scored`);
        }, questions);
      }
      case 'constrained': {
        const prefix = promptTokens(repetition, sharedName, 32);
        await generate(this.#model, [request('prefix', prefix, 1)]);
        const requests = this.#own(prefix, repetition, 8, 1, task.tokens);
        const jsonSchema = ticketsSchema as unknown as Readonly<Record<string, unknown>>;
        // The first use of a schema compiles it; that is not part of a token's cost.
        if (task.constrained) await generate(this.#model, [{ ...request('warm', prefix, 1), jsonSchema }]);
        const chosen = task.constrained ? requests.map((each) => ({ ...each, jsonSchema })) : requests;
        return timed(() => generate(this.#model, chosen), generated);
      }
      case 'agreement': {
        const prefix = promptTokens(repetition, sharedName, 100);
        const requests = this.#own(prefix, repetition, task.prompts, 20, task.tokens);
        const together = await generate(this.#model, requests);
        let equal = 0;
        for (const each of requests) {
          const [alone] = await generate(this.#model, [each]);
          if (alone?.text === together.find(({ id }) => id === each.id)?.text) equal++;
        }
        return { amount: equal / task.prompts, seconds: 1, cpuSeconds: 1 };
      }
    }
  }

  /** Requests of one prefix with `own` tokens of their own behind it. */
  #own(prefix: readonly number[], repetition: number, count: number, own: number, tokens: number): GenerateRequest[] {
    return Array.from({ length: count }, (_, index) =>
      request(String(index), [...prefix, ...promptTokens(repetition, index, own)], tokens),
    );
  }
}

function request(id: string, prompt: readonly number[], maxTokens: number): GenerateRequest {
  return { id, prompt: { ids: prompt }, maxTokens };
}

interface Answer {
  readonly id: string;
  readonly text: string;
  readonly tokens: number;
}

async function generate(model: Model, requests: readonly GenerateRequest[]): Promise<Answer[]> {
  const answers: Answer[] = [];
  for await (const { id, text, finish, error, usage } of model.generate(requests)) {
    if (finish === 'error') throw new Error(`${error?.code}: ${error?.message}`);
    answers.push({ id, text, tokens: usage.generatedTokens });
  }
  return answers;
}

function generated(answers: readonly Answer[]): number {
  return answers.reduce((sum, { tokens }) => sum + tokens, 0);
}
