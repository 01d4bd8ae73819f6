import { writeFile, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Learner, Message, Model, OptimiserStep, RenderOptions, TokenBatch } from '../../src/contracts/index.ts';

const specials = ['<|pad|>', '<|end|>', '<|system|>', '<|user|>', '<|assistant|>', '<|tool|>'];
/** ASCII is enough here. */
export const vocabularySize = 128 + specials.length;

/** The smallest complete tokenizer and template: bytes, and one special token a role. */
export const byteModel: Model = {
  digest: 'sha256:bytes',
  engine: 'bytes@1.0.0',
  contextLength: 256,
  vocabularySize,
  endOfTurn: 1,
  tokenize(text) {
    const parts = text.split(/(<\|(?:pad|end|system|user|assistant|tool)\|>)/);
    return parts.flatMap((part) =>
      specials.includes(part) ? [specials.indexOf(part)] : [...Buffer.from(part)].map((byte) => byte + specials.length),
    );
  },
  detokenize: (ids) =>
    Buffer.from(ids.filter((id) => id >= specials.length).map((id) => id - specials.length)).toString(),
  render(messages: readonly Message[], options?: RenderOptions) {
    const text = messages.map(({ role, content }) => `<|${role}|>${content}<|end|>`).join('');
    return options?.addGenerationPrompt === false ? text : `${text}<|assistant|>`;
  },
  generate() {
    throw new Error('a tokenizer does not generate');
  },
  score: () => Promise.reject(new Error('a tokenizer does not score')),
  close: () => Promise.resolve(),
};

/** A whole language model small enough to check by hand: the next token depends on the last alone. */
export class BigramLearner implements Learner {
  readonly parameterCount = vocabularySize * vocabularySize;
  readonly weights = new Float64Array(this.parameterCount);
  readonly gradients = new Float64Array(this.parameterCount);
  readonly #first = new Float64Array(this.parameterCount);
  readonly #second = new Float64Array(this.parameterCount);
  #steps = 0;
  #kept: { row: number; token: number; probabilities: Float64Array }[] = [];

  async logProbabilities(batch: TokenBatch, options?: { readonly keep?: boolean }): Promise<Float32Array> {
    const starts = new Set(batch.offsets);
    const kept: { row: number; token: number; probabilities: Float64Array }[] = [];
    const result: number[] = [];
    for (const [position, token] of batch.tokens.entries()) {
      if (batch.labelled[position] !== 1) continue;
      if (starts.has(position)) throw new Error('the first token of a sequence is labelled');
      const row = (batch.tokens[position - 1] ?? 0) * vocabularySize;
      const logits = this.weights.subarray(row, row + vocabularySize);
      const top = Math.max(...logits);
      const total = logits.reduce((sum, logit) => sum + Math.exp(logit - top), 0);
      const probabilities = Float64Array.from(logits, (logit) => Math.exp(logit - top) / total);
      kept.push({ row, token, probabilities });
      result.push(Math.log(probabilities[token] ?? 0));
    }
    if (options?.keep !== false) this.#kept = kept;
    return Float32Array.from(result);
  }

  async backward(gradients: Float32Array): Promise<void> {
    if (gradients.length !== this.#kept.length)
      throw new Error(`${gradients.length} gradients for ${this.#kept.length} labelled tokens`);
    for (const [index, { row, token, probabilities }] of this.#kept.entries()) {
      const gradient = gradients[index] ?? 0;
      for (const [column, probability] of probabilities.entries()) {
        this.gradients[row + column] =
          (this.gradients[row + column] ?? 0) + gradient * ((column === token ? 1 : 0) - probability);
      }
    }
  }

  async step(options: OptimiserStep): Promise<{ gradNorm: number }> {
    const gradNorm = Math.sqrt(this.gradients.reduce((sum, gradient) => sum + gradient * gradient, 0));
    const scale = options.maxGradNorm > 0 && gradNorm > options.maxGradNorm ? options.maxGradNorm / gradNorm : 1;
    this.#steps++;
    for (const [index, raw] of this.gradients.entries()) {
      const gradient = raw * scale;
      const first = (this.#first[index] = options.beta1 * (this.#first[index] ?? 0) + (1 - options.beta1) * gradient);
      const second = (this.#second[index] =
        options.beta2 * (this.#second[index] ?? 0) + (1 - options.beta2) * gradient * gradient);
      const weight = (this.weights[index] ?? 0) * (1 - options.learningRate * options.weightDecay);
      const step =
        first /
        (1 - options.beta1 ** this.#steps) /
        (Math.sqrt(second / (1 - options.beta2 ** this.#steps)) + options.epsilon);
      this.weights[index] = weight - options.learningRate * step;
    }
    this.gradients.fill(0);
    return { gradNorm };
  }

  async save(directory: string): Promise<void> {
    await mkdir(directory, { recursive: true });
    await writeFile(join(directory, 'weights.bin'), new Uint8Array(this.weights.buffer));
  }

  saveState = (): Promise<void> => Promise.reject(new Error('no state'));
  loadState = (): Promise<void> => Promise.reject(new Error('no state'));
  tensor = (): Float32Array => Float32Array.from(this.weights);
  tensorNames = (): string[] => ['weights'];
  close = (): Promise<void> => Promise.resolve();
}
