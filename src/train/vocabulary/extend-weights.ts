import { join } from 'node:path';
import { openTensors, type TensorDtype, writeTensors } from '../../kit/index.ts';
import { vocabularyErrors } from './errors.ts';

const embedding = 'model.embed_tokens.weight';
const head = 'lm_head.weight';

/** New rows: which old rows each is the mean of. */
export interface NewRows {
  readonly firstId: number;
  readonly pieces: readonly (readonly number[])[];
  /** Rows of the extended embedding. */
  readonly rows: number;
}

/**
 * Writes the weights with more rows in the embedding and, where it is a tensor of its own, the head. A new row is the mean
 * of the rows of its old pieces (Hewitt 2021, "Initializing new word embeddings", by pieces instead of all words); rows
 * that no token has are the mean of all old ones, so that they are never likelier than a usual token. All other numbers
 * stay as they are, and in their type. One tensor is in memory at a time.
 * @param oldRows `vocab_size` of the base
 * @throws CUPEL_VOCABULARY_WEIGHTS
 */
export async function extendWeights(base: string, output: string, oldRows: number, added: NewRows): Promise<void> {
  const source = await openTensors(base);
  try {
    const entries = [...source.entries.values()];
    if (!source.entries.has(embedding)) throw refused(base, `there is no ${embedding}`);
    const shapes = entries.map((entry) => {
      if (entry.name !== embedding && entry.name !== head) return entry;
      const [rows, width] = entry.shape;
      if (entry.shape.length !== 2 || rows !== oldRows || width === undefined) {
        throw refused(base, `${entry.name} has shape [${entry.shape.join(', ')}]; vocab_size is ${oldRows}`);
      }
      return { ...entry, shape: [added.rows, width] };
    });
    await writeTensors(
      join(output, 'model.safetensors'),
      shapes,
      async ({ name }: { name: string; dtype: TensorDtype }) => {
        const { data, shape } = await source.read(name);
        return name === embedding || name === head ? extended(data, shape[1] as number, oldRows, added) : data;
      },
    );
  } finally {
    await source.close();
  }
}

function extended(old: Float32Array, width: number, oldRows: number, { firstId, pieces, rows }: NewRows): Float32Array {
  const result = new Float32Array(rows * width);
  result.set(old);
  const used = [...Array(Math.min(oldRows, firstId)).keys()];
  const usual = meanOf(old, width, used);
  for (let row = oldRows; row < rows; row++) result.set(usual, row * width);
  for (const [index, from] of pieces.entries()) result.set(meanOf(old, width, from), (firstId + index) * width);
  return result;
}

/** Sums in f64, in the order of the rows. */
function meanOf(values: Float32Array, width: number, rows: readonly number[]): Float64Array {
  const mean = new Float64Array(width);
  for (const row of rows) {
    for (let column = 0; column < width; column++) {
      mean[column] = (mean[column] as number) + (values[row * width + column] as number);
    }
  }
  return mean.map((sum) => sum / Math.max(1, rows.length));
}

function refused(where: string, message: string): Error {
  return vocabularyErrors.CUPEL_VOCABULARY_WEIGHTS({ message, where });
}
