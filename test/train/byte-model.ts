import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type {
  ForwardOptions,
  Learner,
  LearnerOptions,
  Message,
  Model,
  OptimiserStep,
  RenderOptions,
  TokenBatch,
} from '../../src/contracts/index.ts';

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

/** How a bigram learner is opened, beside what learners are opened with. */
export interface BigramOptions extends LearnerOptions {
  /** What it starts from: a pattern of small numbers, the same each time. Default 0 everywhere. */
  readonly scale?: number;
}

interface Place {
  /** Where the logits of this place start. */
  readonly row: number;
  readonly token: number;
  readonly probabilities: Float64Array;
}

/**
 * A whole language model small enough to check by hand: the next token depends on the last alone. With `adapter` its
 * trained numbers are added to a frozen base, with the head `reward` a token is worth one number.
 */
export class BigramLearner implements Learner {
  readonly parameterCount = vocabularySize * vocabularySize;
  readonly trainableCount = this.parameterCount;
  readonly weights = new Float64Array(this.parameterCount);
  readonly gradients = new Float64Array(this.parameterCount);
  readonly #base: Float64Array;
  readonly #adapter: boolean;
  readonly #first = new Float64Array(this.parameterCount);
  readonly #second = new Float64Array(this.parameterCount);
  #steps = 0;
  /** Spreads the numbers that came back in the last kept pass over the weights. */
  #back: ((gradients: Float32Array) => void) | null = null;

  constructor({ adapter, scale = 0 }: BigramOptions = {}) {
    this.#adapter = adapter !== undefined && adapter !== null;
    const start = Float64Array.from(this.weights, (_, index) => scale * Math.sin(index * 12.9898));
    this.#base = this.#adapter ? start : new Float64Array(this.parameterCount);
    if (!this.#adapter) this.weights.set(start);
  }

  async logProbabilities(batch: TokenBatch, options?: ForwardOptions): Promise<Float32Array> {
    const places = this.#places(batch, options, 1);
    this.#keep(options, places.length, (gradients) => {
      for (const [index, { row, token, probabilities }] of places.entries()) {
        const gradient = gradients[index] ?? 0;
        for (let column = 0; column < vocabularySize; column++)
          this.#add(row + column, gradient * ((column === token ? 1 : 0) - (probabilities[column] ?? 0)));
      }
    });
    return Float32Array.from(places, ({ token, probabilities }) => Math.log(probabilities[token] ?? 0));
  }

  async distributions(
    batch: TokenBatch,
    ids: Int32Array | null,
    options: ForwardOptions & { readonly temperature?: number } = {},
  ): Promise<Float32Array> {
    const temperature = options.temperature ?? 1;
    const places = this.#places(batch, options, temperature);
    const width = ids === null ? vocabularySize : ids.length / places.length;
    const idAt = (place: number, index: number): number => (ids === null ? index : (ids[place * width + index] ?? 0));
    this.#keep(options, places.length * width, (gradients) => {
      for (const [place, { row, probabilities }] of places.entries()) {
        let total = 0;
        for (let index = 0; index < width; index++) {
          const gradient = gradients[place * width + index] ?? 0;
          total += gradient;
          this.#add(row + idAt(place, index), gradient / temperature);
        }
        for (const [column, probability] of probabilities.entries())
          this.#add(row + column, (-total * probability) / temperature);
      }
    });
    return Float32Array.from({ length: places.length * width }, (_, index) => {
      const place = Math.floor(index / width);
      return Math.log(places[place]?.probabilities[idAt(place, index % width)] ?? 0);
    });
  }

  async topTokens(
    batch: TokenBatch,
    count: number,
    options: { readonly adapter?: boolean; readonly temperature?: number } = {},
  ): Promise<{ ids: Int32Array; logProbabilities: Float32Array }> {
    const best = this.#places(batch, options, options.temperature ?? 1).map(({ probabilities }) =>
      [...probabilities.entries()].sort((a, b) => b[1] - a[1] || a[0] - b[0]).slice(0, count),
    );
    return {
      ids: Int32Array.from(best.flat(), ([id]) => id),
      logProbabilities: Float32Array.from(best.flat(), ([, probability]) => Math.log(probability)),
    };
  }

  async rewards(batch: TokenBatch, options?: ForwardOptions): Promise<Float32Array> {
    const last = [...batch.offsets].slice(1).map((end) => (batch.tokens[end - 1] ?? 0) * vocabularySize);
    this.#keep(options, last.length, (gradients) => {
      for (const [index, place] of last.entries()) this.#add(place, gradients[index] ?? 0);
    });
    return Float32Array.from(last, (place) => this.#weight(place, options));
  }

  async backward(gradients: Float32Array): Promise<void> {
    if (this.#back === null) throw new Error('nothing was kept');
    this.#back(gradients);
  }

  async step(options: OptimiserStep): Promise<{ gradNorm: number }> {
    let squares = 0;
    for (const gradient of this.gradients) squares += gradient * gradient;
    const gradNorm = Math.sqrt(squares);
    const scale = options.maxGradNorm > 0 && gradNorm > options.maxGradNorm ? options.maxGradNorm / gradNorm : 1;
    this.#steps++;
    const [bias1, bias2] = [1 - options.beta1 ** this.#steps, 1 - options.beta2 ** this.#steps];
    for (let index = 0; index < this.parameterCount; index++) {
      const gradient = (this.gradients[index] ?? 0) * scale;
      const first = (this.#first[index] = options.beta1 * (this.#first[index] ?? 0) + (1 - options.beta1) * gradient);
      const second = (this.#second[index] =
        options.beta2 * (this.#second[index] ?? 0) + (1 - options.beta2) * gradient * gradient);
      const weight = (this.weights[index] ?? 0) * (1 - options.learningRate * options.weightDecay);
      const step = first / bias1 / (Math.sqrt(second / bias2) + options.epsilon);
      this.weights[index] = weight - options.learningRate * step;
    }
    this.gradients.fill(0);
    return { gradNorm };
  }

  async save(directory: string, options: { readonly form?: 'model' | 'adapter' } = {}): Promise<void> {
    await mkdir(directory, { recursive: true });
    const merged = this.weights.map((weight, index) => weight + (this.#base[index] ?? 0));
    const saved = options.form === 'adapter' ? this.weights : merged;
    await writeFile(join(directory, 'weights.bin'), new Uint8Array(saved.slice().buffer));
  }

  async saveState(file: string): Promise<void> {
    const parts = [this.weights, this.#first, this.#second, Float64Array.of(this.#steps)];
    await writeFile(file, Buffer.concat(parts.map((part) => new Uint8Array(part.slice().buffer))));
  }

  async loadState(file: string): Promise<void> {
    const values = new Float64Array(new Uint8Array(await readFile(file)).buffer);
    for (const [index, part] of [this.weights, this.#first, this.#second].entries())
      part.set(values.subarray(index * part.length, (index + 1) * part.length));
    this.#steps = values.at(-1) ?? 0;
  }

  tensor = (): Float32Array => Float32Array.from(this.weights);
  tensorNames = (): string[] => ['weights'];
  close = (): Promise<void> => Promise.resolve();

  #places(batch: TokenBatch, options: ForwardOptions | undefined, temperature: number): Place[] {
    const starts = new Set(batch.offsets);
    const places: Place[] = [];
    for (const [position, token] of batch.tokens.entries()) {
      if (batch.labelled[position] !== 1) continue;
      if (starts.has(position)) throw new Error('the first token of a sequence is labelled');
      const row = (batch.tokens[position - 1] ?? 0) * vocabularySize;
      const probabilities = new Float64Array(vocabularySize);
      let top = -Infinity;
      for (let column = 0; column < vocabularySize; column++) {
        const logit = this.#weight(row + column, options) / temperature;
        probabilities[column] = logit;
        top = Math.max(top, logit);
      }
      let total = 0;
      for (const logit of probabilities) total += Math.exp(logit - top);
      for (let column = 0; column < vocabularySize; column++)
        probabilities[column] = Math.exp((probabilities[column] ?? 0) - top) / total;
      places.push({ row, token, probabilities });
    }
    return places;
  }

  #weight(index: number, options: ForwardOptions | undefined): number {
    const trained = this.#adapter && options?.adapter === false ? 0 : (this.weights[index] ?? 0);
    return trained + (this.#base[index] ?? 0);
  }

  #add(index: number, gradient: number): void {
    this.gradients[index] = (this.gradients[index] ?? 0) + gradient;
  }

  #keep(options: ForwardOptions | undefined, count: number, back: (gradients: Float32Array) => void): void {
    if (options?.keep === false) return;
    this.#back = (gradients) => {
      if (gradients.length !== count) throw new Error(`${gradients.length} gradients for ${count} numbers`);
      back(gradients);
      this.#back = null;
    };
  }
}
