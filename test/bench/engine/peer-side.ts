// llama.cpp at the bench's work: the library alone, with the forms that suit it best (shared cells for shared prefixes,
// contexts of several options in one batch, prompts mixed into the batches of running sequences).
import { LlamaCpp, type BatchToken, type LlamaContext, type LlamaOptions } from './llama-cpp.ts';
import { shape } from './model.ts';
import { promptTokens, sharedName, ticketsGrammar } from './prompts.ts';
import {
  timed,
  type EvaluationTask,
  type LogLikelihoodTask,
  type Measured,
  type OpenRequest,
  type Side,
  type Task,
} from './task.ts';
import { wordToken } from './vocabulary.ts';

const slots = 8;
/** llama.cpp's own defaults: tokens of a batch, and as many cells as the model's context. */
const logicalBatch = 2048;
const defaultContext = shape.context;
/** Questions of one batch; more of them make its attention pass over more foreign cells. */
const questionsTogether = 1;

export async function openPeer({ model, peers, threads }: OpenRequest): Promise<Side> {
  const side = new PeerSide(new LlamaCpp(peers, model), threads);
  side.firstToken();
  return Promise.resolve(side);
}

class PeerSide implements Side {
  readonly #library: LlamaCpp;
  readonly #threads: number;
  #context: { readonly key: string; readonly context: LlamaContext } | undefined;

  constructor(library: LlamaCpp, threads: number) {
    this.#library = library;
    this.#threads = threads;
  }

  firstToken(): void {
    const context = this.#use({ sequences: 1, context: defaultContext });
    context.decode([{ token: wordToken(0), position: 0, sequences: [0], output: true }]);
    argMax(context.logits(0));
  }

  async run(task: Task, repetition: number): Promise<Measured> {
    switch (task.kind) {
      case 'decode':
        return this.#decode(task, repetition);
      case 'prefill': {
        const context = this.#use({ sequences: 1, context: defaultContext });
        context.clear();
        const tokens = promptTokens(repetition, 0, task.tokens);
        return timed(() => feed(context, tokens, 0, [0]), task.tokens);
      }
      case 'evaluation':
        return timed(() => this.#evaluate(task, slots, repetition), task.prompts);
      case 'log-likelihood':
        return timed(() => this.#score(task, repetition), task.questions);
      case 'constrained':
        return this.#constrained(task, repetition);
      case 'agreement': {
        const evaluation = { ...task, kind: 'evaluation', shared: 100, own: 20, generated: task.tokens } as const;
        const alone = this.#evaluate(evaluation, 1, repetition);
        const together = this.#evaluate(evaluation, slots, repetition);
        const equal = alone.filter((tokens, index) => tokens.join() === together[index]?.join()).length;
        return { amount: equal / task.prompts, seconds: 1, cpuSeconds: 1 };
      }
    }
  }

  /** One context at a time: what is not used takes no memory. */
  #use(options: Pick<LlamaOptions, 'sequences' | 'context'>): LlamaContext {
    const key = JSON.stringify(options);
    if (this.#context?.key !== key) {
      this.#context?.context.free();
      const all = { ...options, threads: this.#threads, unified: true, batch: logicalBatch };
      this.#context = { key, context: this.#library.context(all) };
    }
    return this.#context.context;
  }

  async #decode({ sequences, prefix, tokens }: Task & { kind: 'decode' }, repetition: number): Promise<Measured> {
    const context = this.#prefixed(sequences, prefix, repetition);
    const last = Array.from({ length: sequences }, (_, sequence) => promptTokens(repetition, sequence, 1)[0] as number);
    const step = (index: number): void => {
      context.decode(last.map((token, id) => ({ token, position: prefix + index, sequences: [id], output: true })));
      for (let id = 0; id < sequences; id++) last[id] = argMax(context.logits(id));
    };
    return timed(() => {
      for (let index = 0; index < tokens; index++) step(index);
    }, tokens * sequences);
  }

  async #constrained({ tokens, constrained }: Task & { kind: 'constrained' }, repetition: number): Promise<Measured> {
    const prefix = 32;
    const context = this.#prefixed(slots, prefix, repetition);
    const last = Array.from({ length: slots }, (_, sequence) => promptTokens(repetition, sequence, 1)[0] as number);
    const samplers = constrained ? last.map(() => this.#library.grammarSampler(ticketsGrammar)) : undefined;
    const measured = await timed(() => {
      for (let index = 0; index < tokens; index++) {
        context.decode(last.map((token, id) => ({ token, position: prefix + index, sequences: [id], output: true })));
        for (let id = 0; id < slots; id++)
          last[id] = samplers === undefined ? argMax(context.logits(id)) : context.sample(samplers[id], id);
      }
    }, tokens * slots);
    for (const sampler of samplers ?? []) this.#library.call('llama_sampler_free', sampler);
    return measured;
  }

  /** A context whose sequences 0 .. sequences - 1 all hold the prefix. */
  #prefixed(sequences: number, prefix: number, repetition: number): LlamaContext {
    const context = this.#use({ sequences: sequences + 1, context: defaultContext });
    context.clear();
    if (prefix > 0) feed(context, promptTokens(repetition, sharedName, prefix), 0, [sequences]);
    for (let id = 0; id < sequences && prefix > 0; id++) context.copySequence(sequences, id);
    return context;
  }

  /** Continuous batching: prompts that start are mixed into the batch of those that run. Returns the greedy tokens. */
  #evaluate({ prompts, shared, own, generated }: EvaluationTask, parallel: number, repetition: number): number[][] {
    const cells = shared + parallel * (own + generated);
    const context = this.#use({ sequences: parallel + 1, context: Math.max(cells, defaultContext) });
    context.clear();
    feed(context, promptTokens(repetition, sharedName, shared), 0, [parallel]);
    const answers: number[][] = Array.from({ length: prompts }, () => []);
    const running: ({ readonly prompt: number; position: number; pending: number[] } | undefined)[] = [];
    let next = 0;
    for (;;) {
      const batch: BatchToken[] = [];
      const outputs: { readonly sequence: number; readonly index: number }[] = [];
      for (let sequence = 0; sequence < parallel; sequence++) {
        if (running[sequence] === undefined && next < prompts) {
          context.copySequence(parallel, sequence);
          running[sequence] = { prompt: next, position: shared, pending: promptTokens(repetition, next, own) };
          next++;
        }
        const state = running[sequence];
        if (state === undefined) continue;
        for (const token of state.pending)
          batch.push({ token, position: state.position++, sequences: [sequence], output: false });
        batch[batch.length - 1] = { ...(batch[batch.length - 1] as BatchToken), output: true };
        outputs.push({ sequence, index: batch.length - 1 });
      }
      if (batch.length === 0) return answers;
      context.decode(batch);
      for (const { sequence, index } of outputs) {
        const state = running[sequence] as { prompt: number; pending: number[] };
        const token = argMax(context.logits(index));
        const answer = answers[state.prompt] as number[];
        answer.push(token);
        state.pending = [token];
        if (answer.length < generated) continue;
        context.removeSequence(sequence);
        running[sequence] = undefined;
      }
    }
  }

  /** Sums of log-probabilities, one list a question. The last token of an option is not run: nothing follows it. */
  #score(task: LogLikelihoodTask, repetition: number): number[][] {
    const { questions, options, context: length, continuation, form } = task;
    const shared = form === 'shared';
    const context = this.#use({ sequences: options * questionsTogether, context: defaultContext });
    const sums: number[][] = [];
    for (let first = 0; first < questions; first += questionsTogether) {
      const count = Math.min(questionsTogether, questions - first);
      for (let part = 0; part < (shared ? 1 : options); part++) {
        context.clear();
        const batch: BatchToken[] = [];
        const wanted: {
          readonly index: number;
          readonly token: number;
          readonly question: number;
          readonly option: number;
        }[] = [];
        for (let question = first; question < first + count; question++) {
          const chosen = shared ? Array.from({ length: options }, (_, option) => option) : [part];
          const sequence = (option: number): number => (question - first) * options + option;
          for (const [position, token] of promptTokens(repetition, question, length).entries())
            batch.push({ token, position, sequences: chosen.map(sequence), output: position === length - 1 });
          const end = batch.length - 1;
          for (const option of chosen) {
            const tokens = promptTokens(repetition, sharedName + question * options + option, continuation);
            for (const [offset, token] of tokens.entries()) {
              wanted.push({ index: offset === 0 ? end : batch.length - 1, token, question, option });
              if (offset < continuation - 1)
                batch.push({ token, position: length + offset, sequences: [sequence(option)], output: true });
            }
          }
        }
        context.decode(batch);
        const normalizers = new Map<number, number>();
        for (const { index, token, question, option } of wanted) {
          const logits = context.logits(index);
          let normalizer = normalizers.get(index);
          if (normalizer === undefined) normalizers.set(index, (normalizer = logSumExp(logits)));
          const sum = (sums[question] ??= Array.from({ length: options }, () => 0));
          sum[option] = (sum[option] as number) + (logits[token] as number) - normalizer;
        }
      }
    }
    return sums;
  }
}

/** Runs a prompt in pieces of the logical batch and takes its first greedy token. */
function feed(context: LlamaContext, tokens: readonly number[], from: number, sequences: readonly number[]): number {
  for (let start = 0; start < tokens.length; start += logicalBatch) {
    const piece = tokens.slice(start, start + logicalBatch);
    context.decode(
      piece.map((token, index) => ({
        token,
        position: from + start + index,
        sequences,
        output: start + index === tokens.length - 1,
      })),
    );
  }
  return argMax(context.logits((tokens.length - 1) % logicalBatch));
}

function argMax(values: Float32Array): number {
  let best = 0;
  let highest = values[0] as number;
  for (let index = 1; index < values.length; index++) {
    const value = values[index] as number;
    if (value > highest) {
      highest = value;
      best = index;
    }
  }
  return best;
}

function logSumExp(values: Float32Array): number {
  const highest = values[argMax(values)] as number;
  let sum = 0;
  for (let index = 0; index < values.length; index++) sum += Math.exp((values[index] as number) - highest);
  return highest + Math.log(sum);
}
