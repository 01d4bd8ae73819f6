import { canonicalJson, wordGrams, writeJson } from '../../src/kit/index.ts';
import type { ClassicalFile, Field } from './format.ts';

type Sparse = ReadonlyMap<number, number>;

/** Makes the function from a text to the answer, JSON in the style of the training answers. */
export function answerer(file: ClassicalFile): (text: string) => string {
  const index = new Map(file.features?.terms.map((term, at) => [term, at]));
  const idf = file.features?.idf ?? [];
  const documents = file.texts.map((text) => vectorOf(text, index, idf));
  const patterns = new Map(
    file.fields.flatMap((field) => (field.form === 'copy' ? [[field, patternOf(field.shapes)] as const] : [])),
  );
  return (text) => {
    const grams = wordGrams(text, 2);
    const vector = vectorOf(text, index, idf);
    const decide = (field: Field, decided: Readonly<Record<string, unknown>>): unknown => {
      if (field.form === 'copy') return patterns.get(field)?.exec(text)?.[0] ?? field.absent;
      if (field.form === 'rules')
        return field.values[field.rules.find(({ cue }) => grams.has(cue))?.value ?? field.otherwise];
      if (field.form === 'linear') return field.values[strongest(field, vector)];
      if (field.form === 'nearest') return field.answers[nearest(documents, vector)];
      const guide = canonicalJson(decided[field.field] ?? null);
      const found = field.answers.find(({ value }) => canonicalJson(value) === guide);
      return found === undefined ? field.otherwise : found.answer;
    };
    const answers: Record<string, unknown> = Object.create(null) as Record<string, unknown>;
    for (const field of file.fields) if (field.form !== 'by-field') answers[field.name] = decide(field, answers);
    return writeJson(
      Object.fromEntries(
        file.fields.map((field) => [
          field.name,
          field.form === 'by-field' ? decide(field, answers) : answers[field.name],
        ]),
      ),
      file.style,
    );
  };
}

/** A = capital, a = small letter, 9 = digit, others as they stand; not inside a longer run of letters or digits. */
function patternOf(shapes: readonly string[]): RegExp | null {
  if (shapes.length === 0) return null;
  const classes: Readonly<Record<string, string>> = { A: '\\p{Lu}', a: '\\p{Ll}', 9: '\\d' };
  const sources = shapes.map((shape) =>
    Array.from(shape)
      .map((sign) => classes[sign] ?? sign.replace(/[\\^$.*+?()[\]{}|/]/, '\\$&'))
      .join(''),
  );
  return new RegExp(`(?<![\\p{L}\\p{N}])(?:${sources.join('|')})(?![\\p{L}\\p{N}])`, 'u');
}

function vectorOf(text: string, index: ReadonlyMap<string, number>, idf: readonly number[]): Sparse {
  const vector = new Map<number, number>();
  let squares = 0;
  for (const [term, count] of wordGrams(text, 2)) {
    const at = index.get(term);
    if (at === undefined) continue;
    const value = count * (idf[at] ?? 0);
    vector.set(at, value);
    squares += value * value;
  }
  const norm = Math.sqrt(squares) || 1;
  for (const [at, value] of vector) vector.set(at, value / norm);
  return vector;
}

function strongest(field: Extract<Field, { form: 'linear' }>, vector: Sparse): number {
  const scores = [...field.bias];
  for (const [at, value] of vector)
    for (const [k, weight] of (field.weights[at] ?? []).entries()) scores[k] = (scores[k] ?? 0) + value * weight;
  return scores.reduce((best, score, k) => (score > (scores[best] ?? 0) ? k : best), 0);
}

function nearest(documents: readonly Sparse[], vector: Sparse): number {
  let best = { row: 0, similarity: -1 };
  for (const [row, document] of documents.entries()) {
    let similarity = 0;
    for (const [at, value] of vector) similarity += value * (document.get(at) ?? 0);
    if (similarity > best.similarity) best = { row, similarity };
  }
  return best.row;
}
